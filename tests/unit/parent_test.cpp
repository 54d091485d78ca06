// SPDX-License-Identifier: Apache-2.0
// Work that runs inside a given context: wrap(), span() with a parent, async_span().
#include "recorded.h"

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

namespace {

constexpr const char* kParentHeader = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const Context kGivenParent = Context::from_traceparent(kParentHeader);

TEST(Wrap, CarriesTheCurrentContextToAnotherThread) {
  const ContextScope here{Context::from_traceparent(kParentHeader, "congo=1")};
  auto work = nopspan::wrap([] { return Context::current(); });
  Context there;
  std::thread([&] { there = work(); }).join();
  EXPECT_EQ(there.traceparent(), kParentHeader);
  EXPECT_EQ(there.tracestate(), "congo=1");
}

TEST(Wrap, LeavesTheContextAfterTheCall) {
  EXPECT_EQ(nopspan::wrap(kGivenParent, [] { return Context::current(); })().traceparent(), kGivenParent.traceparent());
  EXPECT_TRUE(Context::current().empty());
  EXPECT_THROW(nopspan::wrap(kGivenParent, [] { throw std::runtime_error("x"); })(), std::runtime_error);
  EXPECT_TRUE(Context::current().empty());
}

TEST(Wrap, ForwardsItsArgumentsAndItsResult) {
  const auto work =
      nopspan::wrap(kGivenParent, [](std::unique_ptr<int> moved, int& changed) -> int& { return changed += *moved; });
  int number = 1;
  EXPECT_EQ(&work(std::make_unique<int>(2), number), &number);
  EXPECT_EQ(number, 3);
}

TEST(Wrap, CanBeMovedIfTheCallableOnlyCan) {
  auto work = nopspan::wrap(kGivenParent, [value = std::make_unique<int>(7)] { return *value; });
  static_assert(!std::is_copy_constructible_v<decltype(work)>);
  auto moved = std::move(work);
  EXPECT_EQ(moved(), 7);
}

TEST(Wrap, FitsIntoAFunctionOfTheSameArguments) {
  const std::function<std::string(int)> work = nopspan::wrap(kGivenParent, [calls = 0](int n) mutable {
    return std::string(Context::current().traceparent()) + " " + std::to_string(n + ++calls);
  });
  EXPECT_EQ(work(1), std::string(kGivenParent.traceparent()) + " 2");
  static_assert(!std::is_invocable_v<decltype(nopspan::wrap(work)), std::string>);
}

TEST(SpanWithAParent, IsItsChildAndCurrentInTheWork) {
  const SpanRecorder recorder("work");
  const auto work = [](Span& span) {
    EXPECT_EQ(Context::current().span_id(), id_of(span));
    return 7;
  };
  EXPECT_EQ(nopspan::span("work", kGivenParent, work), 7);
  EXPECT_EQ(recorder.start()->parent_id(), kGivenParent.span_id());
  EXPECT_EQ(recorder.start()->request_id(), std::string(kGivenParent.request_id()));
  EXPECT_TRUE(Context::current().empty());
}

TEST(SpanWithAParent, IsInTheCurrentContextIfTheParentIsAnAsyncSpanThatNobodyRecords) {
  const ContextScope here{kGivenParent};
  const AsyncSpan nobodys{"job", kGivenParent};
  const auto forwarded = [] { return std::string(Context::current().traceparent()); };
  EXPECT_EQ(nopspan::span("work", nobodys, forwarded), kParentHeader);
  EXPECT_EQ(nopspan::async_span("work", nobodys, forwarded), kParentHeader);
  EXPECT_EQ(nopspan::wrap(nobodys, forwarded)(), kParentHeader);
}

TEST(SpanWithAParent, TakesWhatTheOtherFormsTake) {
  const SpanRecorder recorder("work");
  const int rows = nopspan::span(
      "work", kGivenParent, nopspan::SpanKind::server, [](Fields& f) { f.set("key", 1); },
      [] { return nopspan::result(3, [](int n, Fields& f) { f.measure("rows", n); }); });
  EXPECT_EQ(rows, 3);
  EXPECT_EQ(recorder.start()->parent_id(), kGivenParent.span_id());
  EXPECT_EQ(kind_of(recorder.start()), nopspan::SpanKind::server);
  EXPECT_THAT(recorder.start(), HasMetadata("key", 1));
  EXPECT_THAT(recorder.stop(), HasMeasurement("rows", 3));
}

TEST(SpanWithAParent, ForwardsTheTraceThoughNobodyListens) {
  nopspan::span("work", kGivenParent, [] { EXPECT_EQ(Context::current().traceparent(), kGivenParent.traceparent()); });
  EXPECT_TRUE(Context::current().empty());
}

TEST(SpanWithAParent, LeavesTheContextIfTheWorkThrows) {
  const SpanRecorder recorder("work");
  EXPECT_THROW(nopspan::span("work", kGivenParent, [] { throw std::runtime_error("x"); }), std::runtime_error);
  EXPECT_EQ(recorder.exception()->parent_id(), kGivenParent.span_id());
  EXPECT_TRUE(Context::current().empty());
}

TEST(AsyncSpanClosure, IsCurrentInTheWorkAndEndsAfterIt) {
  const Recorder recorder({"work.start", "work.stop", "inner.start"});
  const int result = nopspan::async_span("work", kGivenParent, [](AsyncSpan& span) {
    const Span inner{"inner"};
    EXPECT_EQ(Context::current().span_id(), id_of(inner));
    EXPECT_EQ(span.context().root_id(), inner.context().root_id());
    return 7;
  });
  EXPECT_EQ(result, 7);
  EXPECT_THAT(recorder.names(), ElementsAre("work.start", "inner.start", "work.stop"));
  EXPECT_THAT(recorder.events("inner.start").at(0), IsChildOf(recorder.events("work.start").at(0)));
  EXPECT_EQ(recorder.events("work.start").at(0)->parent_id(), kGivenParent.span_id());
  EXPECT_THAT(recorder.events("work.stop").at(0), HasStatus(Status::ok));
}

TEST(AsyncSpanClosure, EndsWhereTheWorkHasMovedItTo) {
  const SpanRecorder recorder("work");
  AsyncSpan kept;
  nopspan::async_span("work", kGivenParent, [&](AsyncSpan& span) { kept = std::move(span); });
  EXPECT_THAT(recorder.names(), ElementsAre("work.start"));
  kept.end();
  EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
}

TEST(AsyncSpanClosure, EndsWithTheExceptionOfTheWork) {
  const SpanRecorder recorder("work");
  EXPECT_THROW(nopspan::async_span("work", kGivenParent, []() -> int { throw std::runtime_error("x"); }),
               std::runtime_error);
  EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.exception"));
  EXPECT_THAT(recorder.exception(), HasStatus(Status::exception));
  EXPECT_TRUE(Context::current().empty());
}

TEST(AsyncSpanClosure, TakesOptionsAndMetadata) {
  const SpanRecorder recorder("work");
  const auto metadata = [](Fields& f) { f.set("key", 1); };
  nopspan::async_span("work", kGivenParent, metadata, [] {});
  EXPECT_THAT(recorder.start(), HasMetadata("key", 1));
  nopspan::async_span("work", kGivenParent, nopspan::SpanOptions{nopspan::SpanKind::client}, metadata, [] {});
  nopspan::async_span("work", kGivenParent, nopspan::SpanOptions{nopspan::SpanKind::client}, [] {});
  const auto starts = events_of(recorder, 3, "work.start");
  EXPECT_EQ(kind_of(starts[0]), nopspan::SpanKind::internal);
  EXPECT_EQ(kind_of(starts[1]), nopspan::SpanKind::client);
  EXPECT_THAT(starts[1], HasMetadata("key", 1));
  EXPECT_EQ(kind_of(starts[2]), nopspan::SpanKind::client);
}

TEST(AsyncSpanClosure, ForwardsTheTraceThoughNobodyListens) {
  nopspan::async_span("work", kGivenParent,
                      [] { EXPECT_EQ(Context::current().traceparent(), kGivenParent.traceparent()); });
  EXPECT_TRUE(Context::current().empty());
}

}  // namespace
