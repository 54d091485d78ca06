// SPDX-License-Identifier: Apache-2.0
// nopspan::span() with a callable returns what the callable returns, whatever its type. Each test runs with and without
// a receiver.
#include "recorded.h"

#include <nopspan/llm.h>

#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <type_traits>

namespace {

class Closure : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (GetParam()) recorder_.emplace("work");
  }
  void TearDown() override {
    if (recorder_) {
      EXPECT_THAT(recorder_->names(), ElementsAre("work.start", "work.stop"));
    }
  }
  [[nodiscard]] const SpanRecorder* recorder() const { return recorder_ ? &*recorder_ : nullptr; }
  template <class Matcher>
  void expect_start(const Matcher& matcher) const {
    if (recorder_) {
      EXPECT_THAT(recorder_->start(), matcher);
    }
  }
  template <class Matcher>
  void expect_stop(const Matcher& matcher) const {
    if (recorder_) {
      EXPECT_THAT(recorder_->stop(), matcher);
    }
  }

 private:
  std::optional<SpanRecorder> recorder_;
};
INSTANTIATE_TEST_SUITE_P(Listening, Closure, ::testing::Bool(),
                         [](const auto& listening) { return listening.param ? "Yes" : "No"; });

struct Pinned {
  explicit Pinned(int number) : value(number) {}
  Pinned(Pinned&&) = delete;
  int value;
};

TEST_P(Closure, ReturnsAValue) {
  EXPECT_EQ(nopspan::span("work", [] { return std::string("value"); }), "value");
}

TEST_P(Closure, ReturnsVoid) {
  bool ran = false;
  nopspan::span("work", [&] { ran = true; });
  EXPECT_TRUE(ran);
}

TEST_P(Closure, ReturnsTheReferenceItself) {
  int target = 0;
  decltype(auto) returned = nopspan::span("work", [&]() -> int& { return target; });
  static_assert(std::is_same_v<decltype(returned), int&>);
  EXPECT_EQ(&returned, &target);
}

TEST_P(Closure, ReturnsAConstReferenceItself) {
  const std::string target = "text";
  const std::string& returned = nopspan::span("work", [&]() -> const std::string& { return target; });
  EXPECT_EQ(&returned, &target);
}

TEST_P(Closure, ReturnsAMoveOnlyValue) {
  const std::unique_ptr<int> value = nopspan::span("work", [] { return std::make_unique<int>(7); });
  EXPECT_EQ(*value, 7);
}

TEST_P(Closure, ReturnsAValueThatCannotBeMoved) {
  const Pinned pinned = nopspan::span("work", [] { return Pinned(7); });
  EXPECT_EQ(pinned.value, 7);
}

TEST_P(Closure, GivesTheSpanToAWorkThatTakesIt) {
  nopspan::span("work", [&](Span& span) {
    EXPECT_EQ(static_cast<bool>(span), GetParam());
    span.set("key", 1);
  });
  expect_stop(HasMetadata("key", 1));
}

TEST_P(Closure, TakesAWorkThatCanOnlyBeMoved) {
  EXPECT_EQ(nopspan::span("work", [value = std::make_unique<int>(7)]() mutable { return *std::move(value); }), 7);
}

TEST_P(Closure, CallsStartMetadataOnlyForAListener) {
  int calls = 0;
  nopspan::span(
      "work", [&](Fields& f) { f.set("calls", ++calls); }, [] {});
  EXPECT_EQ(calls, GetParam() ? 1 : 0);
  expect_start(HasMetadata("calls", 1));
}

TEST_P(Closure, TakesAResultTogetherWithWhatTheStopAdds) {
  int calls = 0;
  const std::string value = nopspan::span("work", [&] {
    return nopspan::result(std::string("value"), [&](const std::string& text, Fields& f) {
      ++calls;
      f.set("text", text).measure("length", text.size());
    });
  });
  EXPECT_EQ(value, "value");
  EXPECT_EQ(calls, GetParam() ? 1 : 0);
  expect_start(LacksMetadata("text"));
  expect_stop(AllOf(HasMetadata("text", "value"), HasMeasurement("length", 5)));
}

TEST_P(Closure, TakesAResultWhoseStopWantsTheFieldsAlone) {
  EXPECT_EQ(nopspan::span("work", [] { return nopspan::result(7, [](Fields& f) { f.set("key", 1); }); }), 7);
  expect_stop(HasMetadata("key", 1));
}

TEST_P(Closure, TakesAResultThatCanOnlyBeMoved) {
  const std::unique_ptr<int> value = nopspan::span("work", [] {
    return nopspan::result(std::make_unique<int>(7), [](const std::unique_ptr<int>& v, Fields& f) { f.set("v", *v); });
  });
  EXPECT_EQ(*value, 7);
  expect_stop(HasMetadata("v", 7));
}

TEST_P(Closure, DecaysAResultSoThatItCannotDangle) {
  const auto work = [] {
    std::string local = "local";
    return nopspan::result(local, [](Fields&) {});
  };
  static_assert(std::is_same_v<decltype(nopspan::span("work", work)), std::string>);
  EXPECT_EQ(nopspan::span("work", work), "local");
}

TEST_P(Closure, TakesAReferenceByResultRef) {
  int target = 7;
  int& returned = nopspan::span(
      "work", [&] { return nopspan::result_ref(target, [](const int& value, Fields& f) { f.set("value", value); }); });
  EXPECT_EQ(&returned, &target);
  expect_stop(HasMetadata("value", 7));
}

TEST_P(Closure, TakesAConstReferenceByResultRef) {
  const int target = 7;
  const int& returned = nopspan::span("work", [&] { return nopspan::result_ref(target, [](Fields&) {}); });
  EXPECT_EQ(&returned, &target);
}

TEST_P(Closure, TakesAStopForAWorkThatReturnsNothing) {
  const auto work = [] { return nopspan::result([](Fields& f) { f.set("key", 1); }); };
  static_assert(std::is_void_v<decltype(nopspan::span("work", work))>);
  nopspan::span("work", work);
  expect_stop(HasMetadata("key", 1));
}

TEST_P(Closure, GivesTheSpanAndTakesAResult) {
  EXPECT_EQ(nopspan::span(
                "work", [](Fields& f) { f.set("at", "start"); },
                [](Span& span) {
                  span.set("at", "work");
                  return nopspan::result(7, [](Fields& f) { f.set("at", "stop"); });
                }),
            7);
  expect_start(HasMetadata("at", "start"));
  expect_stop(HasMetadata("at", "stop"));
}

TEST_P(Closure, EndsAfterTheWorksLocalsAreGone) {
  std::size_t at_destruction = 99;
  struct Local {
    const SpanRecorder* recorder;
    std::size_t& seen;
    ~Local() {
      if (recorder != nullptr) seen = recorder->size();
    }
  };
  nopspan::span("work", [&] { const Local local{recorder(), at_destruction}; });
  if (recorder() != nullptr) {
    EXPECT_EQ(at_destruction, 1U);
  }
}

TEST(CatalogueClosure, TakesTheCataloguesOwnBuilder) {
  const SpanRecorder recorder("llm.chat");
  const int turns = nopspan::span(
      nopspan::llm::chat, [](auto& m) { m.engine("llama.cpp").model("small").set("turn", 1); },
      [](Span& span) {
        span.set("key", 2);
        return nopspan::result(3, [](const int& value, auto& m) { m.chat_result("reply").measure("turns", value); });
      });
  EXPECT_EQ(turns, 3);
  EXPECT_THAT(recorder.start(), AllOf(HasMetadata("engine", "llama.cpp"), HasMetadata("model", "small")));
  EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("chat_result", "reply"), HasMeasurement("turns", 3)));
}

// ---- Work that runs inside a given context: wrap(), span() with a parent, async_span().

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

// As a framework's middleware has it: callbacks of one request, which run in no scope of each other.
TEST(RequestSpan, HasTheContextOfTheRequestInEachCallback) {
  for (const bool is_recorded : {false, true}) {
    nopspan::RequestSpan request;
    std::unique_ptr<SpanRecorder> recorder;
    if (is_recorded) recorder = std::make_unique<SpanRecorder>("work");
    request = nopspan::RequestSpan{"work", kGivenParent, nopspan::SpanKind::server, [](Fields& f) { f.set("key", 1); }};
    {
      const ContextScope here{request.context};
      EXPECT_EQ(Context::current().request_id(), kGivenParent.request_id());
      EXPECT_EQ(Context::current().span_id() == kGivenParent.span_id(), !is_recorded);
    }
    request.span.end();
    if (!is_recorded) continue;
    EXPECT_THAT(recorder->start(), HasMetadata("key", 1));
    EXPECT_EQ(kind_of(recorder->start()), nopspan::SpanKind::server);
    EXPECT_EQ(recorder->start()->span_id(), request.context.span_id());
    EXPECT_EQ(recorder->start()->parent_id(), kGivenParent.span_id());
    EXPECT_THAT(recorder->stop(), HasStatus(Status::ok));
  }
}

}  // namespace
