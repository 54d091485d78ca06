// SPDX-License-Identifier: Apache-2.0
// Spans at unusual times and places, also as tracers see them while they are open.
#include "in_child.h"
#include "in_thread.h"
#include "recorded.h"
#include "sanitizers.h"

#include <nopspan/agent.h>
#include <nopspan/detail/gate.h>
#include <nopspan/llm.h>
#include <nopspan/log.h>
#include <nopspan/probes.h>

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <thread>

namespace {

// ---- Spans at unusual times and places: on the wrong thread, or in the last destructors of a thread or a program.

TEST(Lifetime, OfASpanDestroyedOnAnotherThreadIsCountedAndEmitted) {
  const SpanRecorder recorder("work");
  const Counted wrong(&nopspan::Stats::wrong_thread);
  auto span = std::make_unique<Span>("work");
  span->set("key", 1);
  std::thread([&] { span.reset(); }).join();
  EXPECT_EQ(wrong.times(), 1U);
  EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
  EXPECT_EQ(recorder.stop()->span_id(), recorder.start()->span_id());
  EXPECT_TRUE(Context::current().empty());  // no longer current on this thread either
}

TEST(Lifetime, OfASpanDestroyedOnAnotherThreadLeavesTheOthersInOrder) {
  const Recorder recorder{"outer.start", "inner.start", "next.start", "last.start"};
  {
    const Span outer{"outer"};
    auto inner = std::make_unique<Span>("inner");
    std::thread([&] { inner.reset(); }).join();
    const Span next{"next"};
  }
  { const Span last{"last"}; }
  const auto events = events_of(recorder, 4);
  EXPECT_THAT(events[2], IsChildOf(events[0]));
  EXPECT_EQ(events[3]->parent_id(), 0U);
}

// In a child process, because the span's memory cannot be freed any more and a leak checker would report it.
TEST(Lifetime, OfASpanThatOutlivesItsThreadIsNoCrash) {
  expect_in_child([] {
    const SpanRecorder recorder("work");
    std::unique_ptr<Span> span;
    std::thread([&] { span = std::make_unique<Span>("work"); }).join();
    std::thread([] { const Span other{"other"}; }).join();  // reuses the ended thread's state
    span.reset();
    EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
  });
}

TEST(Lifetime, OfAContextScopeDestroyedOnAnotherThreadIsCounted) {
  const Counted wrong(&nopspan::Stats::wrong_thread);
  std::optional<ContextScope> here(std::in_place, Context());
  std::thread([] {
    // Runs on a stack of its own, which does not contain `here`.
    const ContextScope there{Context::make()};
    EXPECT_FALSE(Context::current().empty());
  }).join();
  here.reset();
  EXPECT_EQ(wrong.times(), 0U);
}

struct Last {
  bool armed = false;
  ~Last() {
    if (armed) const Span span{"last"};
  }
};
thread_local Last before;
thread_local Last after;

TEST(Lifetime, AThreadsLastDestructorsMayEmit) {
  const SpanRecorder recorder("last");
  for (int i = 0; i < 3; ++i) {
    std::thread([] {
      before.armed = true;  // destroyed after the library's own thread state
      { const Span span{"first"}; }
      after.armed = true;  // destroyed before the library's own thread state
    }).join();
  }
  EXPECT_EQ(recorder.events("last.start").size(), 6U);
  EXPECT_EQ(recorder.events("last.stop").size(), 6U);
}

// A program that ends. Its handler writes the names that it receives to stderr.
struct AtExit {
  bool armed = false;
  ~AtExit() {
    if (!armed) return;
    const Span span{"at.exit"};
    AsyncSpan{"async.at.exit"}.end();
    detach_ok("recorder that is gone");
  }
};
AtExit static_at_exit;
thread_local AtExit thread_local_at_exit;

void write_name(const Event& event) {
  char line[200];
  const int size =
      std::snprintf(line, sizeof(line), "[%.*s]", static_cast<int>(event.name().size()), event.name().data());
  if (write(STDERR_FILENO, line, static_cast<std::size_t>(size)) < 0) std::abort();
}

// Runs `work` in a process of its own, which then exits.
void expect_written_at_exit(void (*work)(), const char* written) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        attach_many_ok("names", {"at.exit.start", "at.exit.stop", "async.at.exit.stop", "work.start"}, write_name);
        work();
        std::exit(0);
      },
      ::testing::ExitedWithCode(0), written);
}

TEST(LifetimeDeathTest, StaticDestructorsMayEmit) {
  expect_written_at_exit([] { static_at_exit.armed = true; },
                         "^\\[at.exit.start\\]\\[async.at.exit.stop\\]\\[at.exit.stop\\]$");
}

TEST(LifetimeDeathTest, ThreadLocalDestructorsOfTheMainThreadMayEmit) {
  expect_written_at_exit(
      [] {
        thread_local_at_exit.armed = true;
        const Span span{"work"};
      },
      "^\\[work.start\\]\\[at.exit.start\\]\\[async.at.exit.stop\\]\\[at.exit.stop\\]$");
}

TEST(LifetimeDeathTest, AProgramMayExitInsideASpan) {
  expect_written_at_exit(
      [] {
        const Span span{"at.exit"};
        std::exit(0);
      },
      "^\\[at.exit.start\\]$");
}

// ---- Threads that end inside a span, by pthread_exit() or by cancellation. The library must let the forced unwind
// pass. An error here would end the program, so each test runs in a process of its own.

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

// Each way in which a thread ends inside `work(gone)`.
template <class Work>
void expect_passed(Work work) {
  EXPECT_EQ(in_thread([&] { work([] { exit_thread(); }); }), kExit);
  EXPECT_EQ(cancelled_in(work), PTHREAD_CANCELED);
}

TEST(ThreadExit, LeavesAClosureWithKindExit) {
  expect_in_child([] {
    const SpanRecorder recorder("work");
    expect_passed([](auto gone) { nopspan::span("work", [&] { gone(); }); });
    ASSERT_THAT(recorder.names(), ElementsAre("work.start", "work.exception", "work.start", "work.exception"));
    for (const auto& event : recorder.events("work.exception")) {
      EXPECT_THAT(event, AllOf(HasStatus(Status::exception), HasMetadata("kind", "exit"), LacksMetadata("stacktrace")));
      EXPECT_THAT(event, HasMetadata("reason", Value::map({{"type", nullptr}, {"message", ""}})));
    }
  });
}

TEST(ThreadExit, LeavesAScopeWithStopAndAbandonsAnAsyncSpan) {
  expect_in_child([] {
    const SpanRecorder recorder("work"), async_recorder("async");
    expect_passed([](auto gone) {
      const Span span{"work"};
      gone();
    });
    EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop", "work.start", "work.stop"));
    expect_passed([](auto gone) {
      const AsyncSpan span{"async"};
      gone();
    });
    for (const auto& event : events_of(async_recorder, 2, "async.stop")) {
      EXPECT_THAT(event, HasStatus(Status::cancelled));
    }
  });
}

TEST(ThreadExit, PassesWhenTheGateIsDown) {
  expect_in_child([] { EXPECT_EQ(in_thread([] { nopspan::span("work", [] { exit_thread(); }); }), kExit); });
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
    expect_balanced_events([](auto use) { EXPECT_EQ(cancelled_in(use), PTHREAD_CANCELED); });
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

TEST(Cancellation, ThatIsPendingDoesNotActInsideTheLibrary) {
  const std::pair<std::function<void()>, std::size_t> uses[] = {
      {[] { const Span span{"work"}; }, 2},  // and how many events there are
      {[] { AsyncSpan{"work"}.end(); }, 2},
      {[] { EXPECT_FALSE(nopspan::make_request_id().empty() || Context::make().empty()); }, 0},
      {[] { const Span logged{"llm.nonsense"}; }, 2},
      {[] { attach_ok("id", "a.b", [](const Event&) {}), detach_ok("id"); }, 0}};
  for (const auto& [use, events] : uses) {
    expect_in_child([use = use, events = events] {
      const Recorder recorder{"work.start", "work.stop", "llm.nonsense.start", "llm.nonsense.stop"};
      expect_passable_with_a_pending_cancellation(use);
      EXPECT_EQ(recorder.size(), events);
    });
  }
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

// ---- What tracers can read of a span while it is open: struct nopspan_open in nopspan/probes.h.

class OpenSpan : public ::testing::Test {
 protected:
  OpenSpan() { nopspan::keep_open_spans(true); }
  ~OpenSpan() override { nopspan::keep_open_spans(false); }

  // Calls `each(const nopspan_open&)` for all open spans.
  template <class Each>
  static void for_each_open(const Each& each) {
    const auto* const page = reinterpret_cast<const nopspan_gate_page*>(nopspan_gate_ptr);
    const auto* slab = reinterpret_cast<const nopspan_slab*>(page->open_slabs);
    for (unsigned i = 0; i < page->open_slabs_count && slab->spans != 0; ++i, ++slab) {
      for (unsigned bit = 0; bit < 64; ++bit) {
        const auto* span = reinterpret_cast<const nopspan_open*>(slab->spans + std::size_t{bit} * page->open_bytes);
        if ((slab->free >> bit & 1U) == 0 && span->state == NOPSPAN_OPEN) each(*span);
      }
    }
  }

  static const nopspan_open* find(std::uint64_t span_id) {
    const nopspan_open* found = nullptr;
    for_each_open([&](const nopspan_open& span) {
      if (span.span_id == span_id) found = &span;
    });
    return found;
  }
};

TEST_F(OpenSpan, IsNotOpenOnceAnotherThreadHasEndedIt) {
  std::optional<Span> span(std::in_place, "work");
  const std::uint64_t id = span->context().span_id();
  EXPECT_NE(find(id), nullptr);
  std::thread([&] { span.reset(); }).join();
  EXPECT_EQ(find(id), nullptr);
}

TEST_F(OpenSpan, HasAnotherGenerationOnceItHasAnotherRequestId) {
  unsigned before = 0;
  const Span span{nopspan::agent::llm, [&](auto& m) {
                    const nopspan_open* const open = find(Context::current().span_id());
                    ASSERT_NE(open, nullptr);
                    before = open->generation;
                    m.trace_id("order-7");
                  }};
  const nopspan_open* const open = find(span.context().span_id());
  ASSERT_NE(open, nullptr);
  EXPECT_STREQ(open->foreign_id, "order-7");
  EXPECT_NE(open->generation, before);
}

TEST_F(OpenSpan, HasNoTimeOfItsFirstTokenBeforeThatCame) {
  for (int use = 0; use < 2; ++use) {  // the second span is in the memory of the first
    AsyncSpan span{"work", Context::make(), nopspan::SpanOptions{nopspan::SpanKind::internal, 1000}};
    const nopspan_open* const open = find(span.context().span_id());
    ASSERT_NE(open, nullptr);
    EXPECT_EQ(open->first_token_ns, 0U);
    span.first_token();
    EXPECT_NE(open->first_token_ns, 0U);
  }
}

TEST_F(OpenSpan, HasAnotherGenerationInMemoryThatWasReturnedToTheKernel) {
  std::map<const nopspan_open*, unsigned> generations[2];
  for (auto& generation : generations) {
    std::vector<AsyncSpan> spans;  // more than the library keeps
    std::thread([&] {
      for (int i = 0; i < 6000; ++i) spans.emplace_back("work", Context());
    }).join();
    for_each_open([&](const nopspan_open& span) { generation[&span] = span.generation; });
    std::thread([&] { spans.clear(); }).join();
  }
  unsigned same = 0;
  for (const auto& [span, generation] : generations[0]) {
    const auto again = generations[1].find(span);
    if (again != generations[1].end() && again->second == generation) ++same;
  }
  EXPECT_EQ(same, 0U);
}

}  // namespace
