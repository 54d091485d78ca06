// SPDX-License-Identifier: Apache-2.0
// Threads that end inside a span, by pthread_exit() or by cancellation. The library must let the forced unwind pass. An
// error here would end the program, so each test runs in a process of its own.
#include "in_child.h"
#include "in_thread.h"
#include "recorded.h"
#include "sanitizers.h"

#include <nopspan/llm.h>
#include <nopspan/log.h>
#include <nopspan/span.h>

#include <nopspan/probes.h>

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <optional>
#include <string>
#include <utility>

namespace {

int marker = 0;
void* const kExit = &marker;

[[noreturn]] void exit_thread() { pthread_exit(kExit); }

// Runs `work` on a new thread. The thread is cancelled while it is inside the callable that `work` receives.
template <class Work>
void* cancelled_in(Work work) {
  std::atomic<bool> there{false};
  const auto wait = [&] {
    there = true;
    while (true) {
      before_forced_unwind();
      pthread_testcancel();
      sched_yield();
    }
  };
  auto body = [&] { work(wait); };
  const pthread_t thread = start_thread(body);
  while (!there) sched_yield();
  EXPECT_EQ(pthread_cancel(thread), 0);
  void* result = nullptr;
  EXPECT_EQ(pthread_join(thread, &result), 0);
  return result;
}

void expect_exit_kind(const SpanRecorder& recorder) {
  ASSERT_THAT(recorder.names(), ElementsAre("work.start", "work.exception"));
  EXPECT_THAT(recorder.exception(), AllOf(HasStatus(Status::exception), HasMetadata("kind", "exit")));
  EXPECT_THAT(recorder.exception(), HasMetadata("reason", Value::map({{"type", nullptr}, {"message", ""}})));
  EXPECT_THAT(recorder.exception(), LacksMetadata("stacktrace"));
}

TEST(ThreadExit, LeavesAClosureWithKindExit) {
  expect_in_child([] {
    const SpanRecorder recorder("work");
    EXPECT_EQ(in_thread([] { nopspan::span("work", [] { exit_thread(); }); }), kExit);
    expect_exit_kind(recorder);
  });
}

TEST(ThreadExit, LeavesAScopeWithStop) {
  expect_in_child([] {
    const SpanRecorder recorder("work");
    EXPECT_EQ(in_thread([] {
                const Span span{"work"};
                exit_thread();
              }),
              kExit);
    EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
  });
}

TEST(ThreadExit, AbandonsAnAsyncSpan) {
  expect_in_child([] {
    const SpanRecorder recorder("work");
    EXPECT_EQ(in_thread([] {
                const AsyncSpan span{"work"};
                exit_thread();
              }),
              kExit);
    ASSERT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
    EXPECT_THAT(recorder.stop(), HasStatus(Status::cancelled));
  });
}

TEST(ThreadExit, PassesWhenTheGateIsDown) {
  expect_in_child([] { EXPECT_EQ(in_thread([] { nopspan::span("work", [] { exit_thread(); }); }), kExit); });
}

TEST(Cancellation, LeavesAClosureWithKindExit) {
  expect_in_child([] {
    const SpanRecorder recorder("work");
    EXPECT_EQ(cancelled_in([](auto wait) { nopspan::span("work", [&] { wait(); }); }), PTHREAD_CANCELED);
    expect_exit_kind(recorder);
  });
}

TEST(Cancellation, LeavesAScopeWithStop) {
  expect_in_child([] {
    const SpanRecorder recorder("work");
    EXPECT_EQ(cancelled_in([](auto wait) {
                const Span span{"work"};
                wait();
              }),
              PTHREAD_CANCELED);
    EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
  });
}

// A range whose reading ends the thread.
template <class Gone>
struct Leaving {
  Gone gone;
  [[nodiscard]] const int* begin() const {
    gone();
    return nullptr;
  }
  [[nodiscard]] const int* end() const { return nullptr; }
};

// Every function that calls a callable for fields, or reads what the program passes.
template <class Leave>
void expect_balanced_events(Leave leave) {
  const auto runs = [&](auto use, bool ends_spans) {
    const Recorder recorder(Recorder::span_events({"work"}));
    leave(use);
    // Each span that began has ended, and no other span has ended.
    EXPECT_EQ(recorder.events("work.start").size(),
              recorder.events("work.stop").size() + recorder.events("work.exception").size());
    if (ends_spans) {
      EXPECT_EQ(recorder.events("work.start").size(), 1U);
    }
  };
  runs([](auto gone) { const Span span{"work", [&](Fields&) { gone(); }}; }, false);
  runs(
      [](auto gone) {
        nopspan::span(
            "work", [&](Fields&) { gone(); }, [] {});
      },
      false);
  runs([](auto gone) { const AsyncSpan span{"work", Context(), [&](Fields&) { gone(); }}; }, false);
  runs([](auto gone) { nopspan::complete("work", Context(), 1, 1, [&](Fields&) { gone(); }); }, false);
  runs([](auto gone) { nopspan::execute("work.point", [&](Fields&) { gone(); }); }, false);
  runs([](auto gone) { nopspan::llm::retry([&](auto&) { gone(); }); }, false);
  runs(
      [](auto gone) {
        Span span{"work"};
        span.with([&](Fields&) { gone(); });
      },
      true);
  runs(
      [](auto gone) {
        AsyncSpan span{"work"};
        span.with([&](Fields&) { gone(); });
      },
      true);
  runs(
      [](auto gone) {
        Span span{"work"};
        span.set("list", Leaving<decltype(gone)>{gone});
      },
      true);
  runs([](auto gone) { nopspan::span("work", [&] { return nopspan::result(1, [&](Fields&) { gone(); }); }); }, true);
}

TEST(ThreadExit, PassesThroughMetadataCallables) {
  expect_in_child([] {
    expect_balanced_events([](auto use) { EXPECT_EQ(in_thread([&] { use([] { exit_thread(); }); }), kExit); });
  });
}

TEST(Cancellation, PassesThroughMetadataCallables) {
  expect_in_child([] {
    expect_balanced_events([](auto use) { EXPECT_EQ(cancelled_in([&](auto wait) { use(wait); }), PTHREAD_CANCELED); });
  });
}

TEST(ThreadExit, InsideMetadataLeavesNoSpanCurrent) {
  expect_in_child([] {
    const SpanRecorder recorder("work");
    static bool empty;
    empty = false;
    struct Watcher {
      ~Watcher() { empty = Context::current().empty(); }
    };
    in_thread([] {
      const Watcher watcher;
      const Span span{"work", [](Fields&) { exit_thread(); }};
    });
    EXPECT_TRUE(empty);
  });
}

// A pending cancellation must not act inside the library, because its functions are noexcept. It must wait for the
// application's next cancellation point. The first span of a thread reads files and random numbers, which are such
// points.
template <class Use>
void expect_passable_with_a_pending_cancellation(Use use) {
  bool passed = false;
  void* const result = in_thread([&] {
    pthread_cancel(pthread_self());
    use();
    passed = true;
    before_forced_unwind();
    pthread_testcancel();
  });
  EXPECT_TRUE(passed);
  EXPECT_EQ(result, PTHREAD_CANCELED);
}

TEST(Cancellation, ThatIsPendingDoesNotActInsideASpan) {
  expect_in_child([] {
    const SpanRecorder recorder("work");
    expect_passable_with_a_pending_cancellation([] { const Span span{"work"}; });
    EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
  });
}

TEST(Cancellation, ThatIsPendingDoesNotActInsideAnAsyncSpan) {
  expect_in_child([] {
    const SpanRecorder recorder("work");
    expect_passable_with_a_pending_cancellation([] { AsyncSpan{"work"}.end(); });
    EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
  });
}

TEST(Cancellation, ThatIsPendingDoesNotActWhereIdsAreMade) {
  expect_in_child([] {
    expect_passable_with_a_pending_cancellation([] {
      EXPECT_FALSE(nopspan::make_request_id().empty());
      EXPECT_FALSE(Context::make().empty());
    });
  });
}

TEST(Cancellation, ThatIsPendingDoesNotActInTheLog) {
  expect_in_child([] {
    const Recorder recorder{"llm.nonsense.start"};
    expect_passable_with_a_pending_cancellation([] { const Span span{"llm.nonsense"}; });
    EXPECT_EQ(recorder.size(), 1U);
  });
}

TEST(Cancellation, ThatIsPendingDoesNotActWhereHandlersAreAttachedAndDetached) {
  expect_in_child([] {
    expect_passable_with_a_pending_cancellation([] {
      attach_ok("id", "a.b", [](const Event&) {});
      detach_ok("id");
    });
  });
}

TEST(Cancellation, DoesNotStopAHandlerHalfWay) {
  expect_in_child([] {
    bool whole = false;
    attach_ok("id", "work.start", [&](const Event&) {
      pthread_testcancel();
      whole = true;
    });
    expect_passable_with_a_pending_cancellation([] { const Span span{"work"}; });
    EXPECT_TRUE(whole);
    detach_ok("id");
  });
}

}  // namespace
