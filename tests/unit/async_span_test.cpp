// SPDX-License-Identifier: Apache-2.0
// AsyncSpan, which may end on any thread.
#include "recorded.h"

#include <nopspan/llm.h>
#include <nopspan/span.h>

#include <nopspan/probes.h>

#include <stdexcept>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

static_assert(sizeof(AsyncSpan) == 8);
static_assert(!std::is_copy_constructible_v<AsyncSpan> && std::is_nothrow_move_constructible_v<AsyncSpan>);
static_assert(!std::is_copy_assignable_v<AsyncSpan> && std::is_nothrow_move_assignable_v<AsyncSpan>);
static_assert(std::is_nothrow_default_constructible_v<AsyncSpan>);

TEST(AsyncSpan, IsEmptyByDefaultAndTakesEveryCall) {
  AsyncSpan span;
  EXPECT_FALSE(span);
  span.set("key", 1).measure("number", 1).with([](Fields&) { FAIL(); });
  span.first_token();
  span.link(Context::make());
  span.end_at(1);
  span.end();
  span.fail("type");
  span.cancel();
  EXPECT_TRUE(span.context().empty());
  EXPECT_TRUE(span.request_id().empty());
}

TEST(AsyncSpan, EmitsStartAndStop) {
  const SpanRecorder recorder("work");
  AsyncSpan span{"work", Context(), [](Fields& f) { f.set("at", "start"); }};
  EXPECT_TRUE(span);
  span.set("key", 1).measure("rows", 2).with([](Fields& f) { f.set("at", "end"); });
  EXPECT_THAT(recorder.names(), ElementsAre("work.start"));
  span.end();
  EXPECT_FALSE(span);
  EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
  EXPECT_THAT(recorder.start(), HasMetadata("at", "start"));
  EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("at", "end"), HasMetadata("key", 1), HasMeasurement("rows", 2)));
  EXPECT_THAT(recorder.stop(), AllOf(HasStatus(Status::ok), LacksMetadata("abandoned")));
}

TEST(AsyncSpan, SaysThatItIsBoundToNoThread) {
  const SpanRecorder async("work");
  AsyncSpan{"work"}.end();
  EXPECT_NE(async.start()->flags() & NOPSPAN_FLAG_ASYNC, 0U);
  EXPECT_NE(async.stop()->flags() & NOPSPAN_FLAG_ASYNC, 0U);
  const SpanRecorder scope("scope");
  { const nopspan::Span span{"scope"}; }
  EXPECT_EQ(scope.stop()->flags() & NOPSPAN_FLAG_ASYNC, 0U);
}

TEST(AsyncSpan, EvaluatesNothingWhenTheGateIsDown) {
  bool called = false;
  AsyncSpan span{"work", Context(), [&](Fields&) { called = true; }};
  span.with([&](Fields&) { called = true; });
  span.end();
  EXPECT_FALSE(called);
}

TEST(AsyncSpan, EndsOnce) {
  const SpanRecorder recorder("work");
  {
    AsyncSpan span{"work"};
    span.end();
    span.end();
  }
  EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
}

TEST(AsyncSpan, NeverBecomesCurrent) {
  const SpanRecorder recorder("work");
  const AsyncSpan span{"work"};
  EXPECT_TRUE(Context::current().empty());
  EXPECT_TRUE(nopspan::request_id().empty());
}

TEST(AsyncSpan, BeginsARequestOfItsOwnUnlessItIsGivenAParent) {
  const Recorder recorder{"outer.start", "alone.start", "child.start"};
  const Span outer{"outer"};
  const AsyncSpan alone{"alone"};
  const AsyncSpan child{"child", Context::current()};
  const auto events = events_of(recorder, 3);
  EXPECT_NE(events[1]->request_id(), events[0]->request_id());
  EXPECT_EQ(events[1]->parent_id(), 0U);
  EXPECT_THAT(events[2], IsChildOf(events[0]));
}

TEST(AsyncSpan, HasChildrenByItsContext) {
  const Recorder recorder{"outer.start", "async.start", "scope.start"};
  const AsyncSpan outer{"outer"};
  const AsyncSpan async{"async", outer.context()};
  {
    const ContextScope here{async.context()};
    const Span scope{"scope"};
  }
  const auto events = events_of(recorder, 3);
  EXPECT_THAT(events[1], IsChildOf(events[0]));
  EXPECT_THAT(events[2], IsChildOf(events[1]));
  EXPECT_EQ(events[2]->context().root_id(), events[0]->span_id());
  EXPECT_EQ(outer.request_id().view(), events[0]->request_id());
}

TEST(AsyncSpan, MovesWithoutAnEvent) {
  const SpanRecorder recorder("work");
  AsyncSpan first{"work"};
  AsyncSpan second = std::move(first);
  EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move): it is empty
  EXPECT_TRUE(second);
  first = std::move(second);
  EXPECT_THAT(recorder.names(), ElementsAre("work.start"));
  first.end();
  second.end();  // NOLINT(bugprone-use-after-move): it is empty
  EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
  EXPECT_THAT(recorder.stop(), HasStatus(Status::ok));
}

TEST(AsyncSpan, StaysWhatItIsWhenAssignedToItself) {
  const SpanRecorder recorder("work");
  AsyncSpan span{"work"};
  AsyncSpan& same = span;
  span = std::move(same);
  EXPECT_TRUE(span);
  EXPECT_THAT(recorder.names(), ElementsAre("work.start"));
}

TEST(AsyncSpan, IsAbandonedWhenDestroyedUnended) {
  const SpanRecorder recorder("work");
  const Counted abandoned(&nopspan::Stats::abandoned);
  { const AsyncSpan span{"work"}; }
  EXPECT_EQ(abandoned.times(), 1U);
  EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
  EXPECT_THAT(recorder.stop(), AllOf(HasStatus(Status::cancelled), HasMetadata("abandoned", true)));
  EXPECT_NE(recorder.stop()->flags() & NOPSPAN_FLAG_ABANDONED, 0U);
}

TEST(AsyncSpan, IsAbandonedWhenAssignedOver) {
  const Recorder recorder{"first.stop", "second.stop"};
  AsyncSpan span{"first"};
  span = AsyncSpan{"second"};
  EXPECT_THAT(recorder.names(), ElementsAre("first.stop"));
  EXPECT_THAT(recorder.events()[0], HasMetadata("abandoned", true));
  span.end();
  ASSERT_THAT(recorder.names(), ElementsAre("first.stop", "second.stop"));
  EXPECT_THAT(recorder.events()[1], HasStatus(Status::ok));
}

TEST(AsyncSpan, IsEndedByAnExceptionThatDestroysIt) {
  const SpanRecorder recorder("work");
  const Counted abandoned(&nopspan::Stats::abandoned);
  try {
    const AsyncSpan span{"work"};
    throw std::runtime_error("not seen");
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(abandoned.times(), 0U);
  EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.exception"));
  EXPECT_THAT(recorder.exception(), AllOf(HasStatus(Status::exception), HasMetadata("kind", "error")));
  EXPECT_EQ(recorder.exception()->metadata("reason").find("type").as_string(), "unknown");
  EXPECT_THAT(recorder.exception(), LacksMetadata("abandoned"));
  EXPECT_EQ(recorder.exception()->flags() & NOPSPAN_FLAG_ABANDONED, 0U);
}

TEST(AsyncSpan, IsAbandonedInADestructorThatRunsDuringUnwinding) {
  const SpanRecorder recorder("work");
  struct Cleaner {
    ~Cleaner() { const AsyncSpan span{"work"}; }
  };
  try {
    const Cleaner cleaner;
    throw 7;
  } catch (int) {
  }
  EXPECT_THAT(recorder.stop(), HasStatus(Status::cancelled));
}

TEST(AsyncSpan, IsAbandonedIfItIsDestroyedAfterTheExceptionWasCaught) {
  const SpanRecorder recorder("work");
  {
    const AsyncSpan span{"work"};
    try {
      throw 7;
    } catch (int) {
    }
  }
  EXPECT_THAT(recorder.stop(), HasStatus(Status::cancelled));
}

TEST(AsyncSpan, IsEndedByAnExceptionOfTheThreadThatItWasMovedTo) {
  const SpanRecorder recorder("work");
  struct Cleaner {
    AsyncSpan* span;
    ~Cleaner() { *span = AsyncSpan{"work"}; }  // begins while an exception is in flight on this thread
  };
  AsyncSpan span;
  try {
    const Cleaner cleaner{&span};  // NOLINT(clang-analyzer-deadcode.DeadStores): for its destructor
    throw 7;
  } catch (int) {
  }
  std::thread([&span] {
    try {
      const AsyncSpan here = std::move(span);
      throw 7;
    } catch (int) {
    }
  }).join();
  EXPECT_THAT(recorder.exception(), HasStatus(Status::exception));
}

TEST(AsyncSpan, EndsOnAnotherThread) {
  const SpanRecorder recorder("work");
  AsyncSpan span{"work"};
  std::thread([moved = std::move(span)]() mutable {
    moved.set("there", true);
    moved.end();
  }).join();
  ASSERT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
  EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("there", true), HasStatus(Status::ok)));
  EXPECT_EQ(recorder.stop()->span_id(), recorder.start()->span_id());
}

TEST(AsyncSpan, OutlivesTheThreadThatMadeIt) {
  const SpanRecorder recorder("work");
  AsyncSpan span;
  std::thread([&] { span = AsyncSpan{"work"}; }).join();
  span.end();
  EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
}

TEST(AsyncSpan, LivesInAVectorThatGrows) {
  const SpanRecorder recorder("work");
  std::vector<AsyncSpan> spans;
  for (int i = 0; i < 100; ++i) spans.emplace_back("work", Context(), [&](Fields& f) { f.set("i", i); });
  EXPECT_EQ(recorder.events("work.stop").size(), 0U);
  for (AsyncSpan& span : spans) span.end();
  spans.clear();
  const auto stops = events_of(recorder, 100, "work.stop");
  for (int i = 0; i < 100; ++i) EXPECT_THAT(stops[static_cast<std::size_t>(i)], HasMetadata("i", i));
}

TEST(AsyncSpan, TakesTheCataloguesBuilder) {
  const SpanRecorder recorder("llm.stream");
  AsyncSpan span{nopspan::llm::stream, Context(), [](auto& m) { m.engine("vllm").model("m"); }};
  span.with<nopspan::llm::GenerateFields>([](auto& m) { m.response(nullptr); });
  span.end();
  EXPECT_THAT(recorder.start(), HasMetadata("engine", "vllm"));
  EXPECT_THAT(recorder.stop(), HasMetadata("response", nullptr));
}

}  // namespace
