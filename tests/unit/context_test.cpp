// SPDX-License-Identifier: Apache-2.0
// Contexts: current, attached, inherited, and sent to other threads.
#include "recorded.h"

#include <nopspan/context.h>
#include <nopspan/execute.h>
#include <nopspan/fiber.h>

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <thread>
#include <type_traits>

namespace {

static_assert(std::is_trivially_copyable_v<Context> && sizeof(Context) <= 128);
static_assert(!std::is_copy_constructible_v<ContextScope> && !std::is_move_constructible_v<ContextScope>);

TEST(Context, IsEmptyWhereThereIsNone) {
  EXPECT_TRUE(Context().empty());
  EXPECT_FALSE(static_cast<bool>(Context()));
  EXPECT_TRUE(Context::current().empty());
  EXPECT_TRUE(nopspan::request_id().empty());
  EXPECT_TRUE(Context().request_id().empty());
  EXPECT_TRUE(Context().trace_id().empty());
  EXPECT_TRUE(Context().traceparent().empty());
  EXPECT_TRUE(Context().tracestate().empty());
}

TEST(Context, IsEmptyInASpanThatIsNotRecorded) {
  const Span span{"work"};
  EXPECT_TRUE(Context::current().empty());
  EXPECT_TRUE(span.context().empty());
  EXPECT_TRUE(nopspan::request_id().empty());
}

TEST(Context, OfTheCurrentSpanIsTheSpans) {
  const SpanRecorder recorder("work");
  const Span span{"work"};
  EXPECT_EQ(Context::current().span_id(), id_of(span));
  EXPECT_EQ(Context::current().request_id(), span.request_id());
  EXPECT_EQ(nopspan::request_id(), span.request_id());
  EXPECT_EQ(recorder.start()->request_id(), span.request_id().view());
  EXPECT_EQ(recorder.start()->span_id(), id_of(span));
}

TEST(Context, StaysCurrentWithTheGateDown) {
  const Context context = Context::with_request_id("order-7");
  {
    const ContextScope here{context};
    EXPECT_EQ(nopspan::request_id(), "order-7");
    const Span span{"work"};
    EXPECT_EQ(span.request_id(), "order-7");
    {
      const ContextScope inner{Context::with_request_id("order-8")};
      EXPECT_EQ(nopspan::request_id(), "order-8");
    }
    EXPECT_EQ(nopspan::request_id(), "order-7");
  }
  EXPECT_TRUE(nopspan::request_id().empty());
}

TEST(Context, OfAScopeIsTheParentOfSpans) {
  const Recorder recorder{"first.start", "second.start", "inner.start"};
  {
    const ContextScope here{Context::with_request_id("order-7")};
    { const Span first{"first"}; }
    const Span second{"second"};
    const Span inner{"inner"};
  }
  const auto events = events_of(recorder, 3);
  EXPECT_EQ(events[0]->request_id(), "order-7");
  EXPECT_EQ(events[0]->parent_id(), 0U);
  EXPECT_EQ(events[1]->request_id(), "order-7");
  EXPECT_EQ(events[1]->parent_id(), 0U);
  EXPECT_THAT(events[2], IsChildOf(events[1]));
  EXPECT_EQ(events[2]->context().root_id(), events[1]->span_id());
}

TEST(Context, EmptyBeginsANewRequestInside) {
  const Recorder recorder{"outer.start", "inner.start"};
  {
    const Span outer{"outer"};
    const ContextScope nothing{Context()};
    EXPECT_TRUE(nopspan::request_id().empty());
    const Span inner{"inner"};
  }
  const auto events = events_of(recorder, 2);
  EXPECT_NE(events[1]->request_id(), events[0]->request_id());
  EXPECT_EQ(events[1]->parent_id(), 0U);
  EXPECT_FALSE(events[1]->is_orphan());  // the attached context states that there is no parent
}

TEST(Context, IsNoLongerCurrentWhenAScopeAroundItHasEnded) {
  const Counted left(&nopspan::Stats::scopes_left);
  const ContextScope all{Context::with_request_id("all")};
  std::optional<ContextScope> outer(std::in_place, Context::with_request_id("outer"));
  std::optional<ContextScope> inner(std::in_place, Context::with_request_id("inner"));
  outer.reset();
  EXPECT_EQ(left.times(), 1U);
  EXPECT_EQ(nopspan::request_id(), "all");
  const ContextScope next{Context::with_request_id("next")};  // in the frame that `inner` had
  inner.reset();
  EXPECT_EQ(nopspan::request_id(), "next");
}

TEST(Context, OfScopesAfterOneThatAnotherThreadHasEnded) {
  auto ended = std::make_unique<ContextScope>(Context::with_request_id("ended"));
  std::thread([&] { ended.reset(); }).join();
  {
    const ContextScope first{Context::with_request_id("first")};
    const ContextScope second{Context::with_request_id("second")};
    {
      const ContextScope third{Context::with_request_id("third")};
      EXPECT_EQ(nopspan::request_id(), "third");
    }
    EXPECT_EQ(nopspan::request_id(), "second");
  }
  EXPECT_TRUE(nopspan::request_id().empty());
}

TEST(Context, OfMoreScopesThanABlockHolds) {
  std::vector<std::unique_ptr<ContextScope>> scopes;
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 100; ++i) {
      scopes.push_back(std::make_unique<ContextScope>(Context::with_request_id(std::to_string(i))));
    }
    for (int i = 99; i >= 0; --i) {
      EXPECT_EQ(nopspan::request_id(), std::to_string(i));
      scopes.pop_back();
    }
  }
  EXPECT_TRUE(nopspan::request_id().empty());
}

TEST(Context, InheritsLabels) {
  const Recorder recorder{"outer.start", "inner.start", "cache.hit"};
  {
    const Span outer{"outer", [](Fields& f) { f.engine("vllm").model("small").tenant("acme"); }};
    const Span inner{"inner"};
    nopspan::execute("cache.hit");
  }
  const auto events = events_of(recorder, 3);
  EXPECT_THAT(events[0], HasMetadata("model", "small"));
  EXPECT_THAT(events[1], AllOf(HasMetadata("engine", "vllm"), HasMetadata("model", "small")));
  EXPECT_THAT(events[1], HasMetadata("tenant", "acme"));
  EXPECT_TRUE(events[2]->metadata().empty());
}

TEST(Context, TravelsToAThreadThatWorksForOneRequestAfterTheOther) {
  const Recorder recorder{"request.start", "job.start"};
  std::vector<nopspan::RequestId> ids;
  std::vector<std::function<void()>> work;
  for (int i = 0; i < 3; ++i) {
    const Span request{"request"};
    ids.push_back(request.request_id());
    work.emplace_back([context = Context::current()] {
      EXPECT_TRUE(nopspan::request_id().empty());  // the previous job left nothing behind
      const ContextScope scope{context};
      const Span job{"job"};
    });
  }
  std::thread([&] {
    for (const auto& each : work) each();
  }).join();
  const auto requests = recorder.events("request.start");
  const auto jobs = events_of(recorder, 3, "job.start");
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(jobs[i]->request_id(), ids[i].view());
    EXPECT_THAT(jobs[i], IsChildOf(requests[i]));
  }
}

TEST(Context, TravelsToAThreadWithTheGateDown) {
  const ContextScope here{Context::with_request_id("order-7")};
  std::thread([context = Context::current()] {
    const ContextScope scope{context};
    EXPECT_EQ(nopspan::request_id(), "order-7");
  }).join();
}

TEST(FixedString, ConvertsToWhatTakesStrings) {
  const nopspan::RequestId id(std::string_view("order-7"));
  const std::string string = id;
  const std::string_view view = id;
  EXPECT_EQ(string, "order-7");
  EXPECT_EQ(view, "order-7");
  EXPECT_STREQ(id.c_str(), "order-7");
  EXPECT_TRUE(id == "order-7" && "order-7" == id && id != "order-8" && id == nopspan::RequestId(view));
  EXPECT_EQ(nopspan::FixedString<3>(std::string_view("order")), "ord");
}

// ---- The scopes of suspended fibers, without stacks of fibers, so that sanitizers know what runs. tests/faults
// switches stacks.

// What a fiber has on its stack.
struct Fiber {
  template <class Work>
  void run(const Work& work) {
    nopspan::resume_scopes(std::move(scopes));
    work();
    scopes = nopspan::suspend_scopes();
  }

  nopspan::SuspendedScopes scopes;
  std::optional<ContextScope> context;
  std::optional<Span> outer, inner;
};

TEST(Fibers, ThatInterleaveHaveRequestsOfTheirOwn) {
  const SpanRecorder outers("outer");
  const SpanRecorder inners("inner");
  const Counted left(&nopspan::Stats::scopes_left);
  Fiber fibers[2];
  for (Fiber& fiber : fibers) {
    fiber.run([&] { fiber.outer.emplace("outer"); });
  }
  EXPECT_TRUE(Context::current().empty());
  for (Fiber& fiber : fibers) {
    fiber.run([&] { fiber.inner.emplace("inner"); });
  }
  for (Fiber& fiber : fibers) {  // not in the order in which they began
    fiber.run([&] {
      EXPECT_EQ(Context::current().span_id(), id_of(*fiber.inner));
      fiber.inner.reset();
      fiber.outer.reset();
    });
    EXPECT_TRUE(fiber.scopes.empty());
  }
  const auto begun = events_of(outers, 2, "outer.start");
  const auto inside = events_of(inners, 2, "inner.start");
  EXPECT_NE(begun[0]->request_id(), begun[1]->request_id());
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(begun[i]->parent_id(), 0U);
    EXPECT_THAT(inside[i], IsChildOf(begun[i]));
  }
  EXPECT_EQ(left.times(), 0U);
}

TEST(Fibers, KeepTheirContextsWithTheGateDown) {
  const Context contexts[2] = {Context::make(), Context::make()};
  Fiber fibers[2];
  for (int i = 0; i < 2; ++i) fibers[i].run([&] { fibers[i].context.emplace(contexts[i]); });
  for (int i = 0; i < 2; ++i) {
    fibers[i].run([&] {
      EXPECT_EQ(nopspan::request_id().view(), contexts[i].request_id().view());
      fibers[i].context.reset();
    });
  }
  EXPECT_TRUE(Context::current().empty());
}

// Each fiber moves through threads that end, and its memory through theirs.
TEST(Fibers, MoveFromThreadToThread) {
  const SpanRecorder recorder("inner");
  const Counted wrong_thread(&nopspan::Stats::wrong_thread);
  const Counted left(&nopspan::Stats::scopes_left);
  const auto move = [] {
    Fiber fiber;
    const Context context = Context::make();
    for (int thread = 0; thread < 50; ++thread) {
      std::thread([&] {
        const ContextScope of_the_thread{Context::make()};
        nopspan::SuspendedScopes own = nopspan::suspend_scopes();
        fiber.run([&] {
          if (thread == 0) fiber.context.emplace(context);
          if (thread == 0) fiber.outer.emplace("outer");
          { const Span inner{"inner"}; }
          if (thread == 49) fiber.outer.reset();
          if (thread == 49) fiber.context.reset();
        });
        nopspan::resume_scopes(std::move(own));
      }).join();
    }
    EXPECT_TRUE(fiber.scopes.empty());
  };
  std::thread other(move);
  move();
  other.join();
  const auto inside = events_of(recorder, 100, "inner.start");
  std::set<std::uint64_t> parents;
  for (const auto& event : inside) parents.insert(event->parent_id());
  EXPECT_EQ(parents.size(), 2U);
  EXPECT_EQ(wrong_thread.times(), 0U);
  EXPECT_EQ(left.times(), 0U);
}

TEST(Fibers, ThatAreDestroyedWhileSuspendedEndTheirSpans) {
  const SpanRecorder recorder("outer");
  const Counted left(&nopspan::Stats::scopes_left);
  const Counted abandoned(&nopspan::Stats::abandoned);
  alignas(Span) unsigned char span[sizeof(Span)];
  alignas(ContextScope) unsigned char scope[sizeof(ContextScope)];
  {
    Fiber fiber;
    fiber.run([&] {  // on a stack that nobody unwinds
      new (scope) ContextScope{Context::make()};
      new (span) Span{"outer"};
    });
    EXPECT_FALSE(fiber.scopes.empty());
  }
  EXPECT_THAT(recorder.stop(), HasStatus(Status::cancelled));
  EXPECT_EQ(abandoned.times(), 1U);
  EXPECT_EQ(left.times(), 1U);
  EXPECT_TRUE(Context::current().empty());
}

TEST(Fibers, MayBeManyAndLeaveNothing) {
  constexpr std::size_t kFibers = 100'000;
  const SpanRecorder recorder("none.of.them");  // so that spans are recorded
  const Counted dropped(&nopspan::Stats::spans_dropped);
  std::vector<Fiber> fibers(kFibers);
  for (int round = 0; round < 2; ++round) {
    for (Fiber& fiber : fibers) {
      fiber.run([&] {
        fiber.context.emplace(Context::make());
        fiber.outer.emplace("outer");
      });
    }
    // Resumed on another thread, in another order, so that their memory is that of the other thread.
    std::thread([&] {
      for (std::size_t i = fibers.size(); i-- > 0;) {
        fibers[i].run([&] {
          ASSERT_EQ(Context::current().span_id(), id_of(*fibers[i].outer));
          fibers[i].outer.reset();
          fibers[i].context.reset();
        });
        ASSERT_TRUE(fibers[i].scopes.empty());
      }
    }).join();
  }
  EXPECT_EQ(dropped.times(), 0U);
}

TEST(Fibers, InsideScopesOfTheThreadAreInsideThem) {
  const SpanRecorder recorder("inner");
  Fiber fiber;
  fiber.run([&] { fiber.outer.emplace("outer"); });
  const Span of_the_thread{"thread"};
  nopspan::resume_scopes(std::move(fiber.scopes));
  EXPECT_EQ(Context::current().span_id(), id_of(*fiber.outer));
  fiber.outer.reset();
  EXPECT_EQ(Context::current().span_id(), id_of(of_the_thread));
}

TEST(Fibers, MayHaveASpanThatEndsWhileTheyAreSuspended) {
  const SpanRecorder recorder("outer");
  Fiber fiber;
  fiber.run([&] { fiber.outer.emplace("outer"); });
  fiber.outer.reset();
  EXPECT_EQ(recorder.events("outer.stop").size(), 1U);
  fiber.run([] { EXPECT_TRUE(Context::current().empty()); });
  EXPECT_TRUE(fiber.scopes.empty());
}

}  // namespace
