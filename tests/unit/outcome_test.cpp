// SPDX-License-Identifier: Apache-2.0
// fail() and cancel(), and which of them wins.
#include "recorded.h"

#include <nopspan/span.h>

#include <nopspan/probes.h>

#include <stdexcept>
#include <string>
#include <vector>

namespace {

TEST(Outcome, OfAFailedSpanIsAStopWithStatusError) {
  const SpanRecorder recorder("work");
  Span{"work"}.fail("timeout", "after 3 s");
  EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
  EXPECT_THAT(recorder.stop(), AllOf(HasStatus(Status::error), HasMetadata("error.type", "timeout")));
  EXPECT_THAT(recorder.stop(), HasMetadata("error.message", "after 3 s"));
  EXPECT_THAT(recorder.start(), HasStatus(Status::ok));
}

TEST(Outcome, OfASpanInNoCatalogueIsInItsAttributes) {
  const Recorder recorder{"work.stop", "work.exception"};
  const SpanRecorder starts("work");
  { Span("work").fail("timeout"); }
  { Span("work").set("error.type", "own").fail("refused"); }
  { Span("work").cancel("client gone"); }
  EXPECT_THROW(nopspan::span("work", [] { throw std::runtime_error("secret"); }), std::runtime_error);
  EXPECT_THROW(nopspan::span("work", [](Span& span) { span.set("error.type", "own"), throw 7; }), int);
  const auto types = [](const auto& events) {
    std::vector<Value> found;
    for (const auto& event : events) found.push_back(event->attributes().find("error.type").copy());
    return found;
  };
  EXPECT_THAT(types(recorder.events()), ElementsAre("timeout", "refused", Value(), "std::runtime_error", "own"));
  EXPECT_THAT(types(starts.events("work.start")), ::testing::Each(Value()));
}

TEST(Outcome, OfAFailureWithoutATypeIsOther) {
  const SpanRecorder recorder("work");
  Span{"work"}.fail(nullptr);
  EXPECT_THAT(recorder.stop(), AllOf(HasStatus(Status::error), HasMetadata("error.type", "_OTHER")));
  EXPECT_THAT(recorder.stop(), LacksMetadata("error.message"));
}

TEST(Outcome, OfACancelledSpanIsAStopWithStatusCancelled) {
  const SpanRecorder recorder("work");
  Span{"work"}.cancel("client gone");
  EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
  EXPECT_THAT(recorder.stop(), AllOf(HasStatus(Status::cancelled), HasMetadata("cancel.reason", "client gone")));
  EXPECT_THAT(recorder.stop(), LacksMetadata("error.type"));
}

TEST(Outcome, IsWhatWasSaidFirst) {
  const SpanRecorder recorder("work");
  {
    Span span{"work"};
    span.fail("first");
    span.cancel("second");
    span.fail("third");
  }
  {
    Span span{"work"};
    span.cancel("first");
    span.fail("second", "message");
  }
  const auto stops = events_of(recorder, 2, "work.stop");
  EXPECT_THAT(stops[0], AllOf(HasStatus(Status::error), HasMetadata("error.type", "first")));
  EXPECT_THAT(stops[0], LacksMetadata("cancel.reason"));
  EXPECT_THAT(stops[1], AllOf(HasStatus(Status::cancelled), HasMetadata("cancel.reason", "first")));
  EXPECT_THAT(stops[1], AllOf(LacksMetadata("error.type"), LacksMetadata("error.message")));
}

TEST(Outcome, IsTheExceptionThatLeavesTheSpan) {
  const SpanRecorder recorder("work");
  EXPECT_THROW(nopspan::span("work",
                             [](Span& span) {
                               span.fail("timeout");
                               throw std::runtime_error("boom");
                             }),
               std::runtime_error);
  EXPECT_THROW(
      {
        Span span{"work"};
        span.cancel();
        throw std::runtime_error("boom");
      },
      std::runtime_error);
  const auto exceptions = events_of(recorder, 2, "work.exception");
  for (const auto& event : exceptions) {
    EXPECT_THAT(event, AllOf(HasStatus(Status::exception), HasMetadata("kind", "error"), LacksMetadata("error.type")));
    EXPECT_THAT(event, LacksMetadata("cancel.reason"));
  }
}

TEST(Outcome, OfAnAsyncSpanIsItsEnd) {
  const SpanRecorder recorder("work");
  AsyncSpan failed{"work"};
  failed.fail("timeout", "message");
  EXPECT_FALSE(failed);
  failed.cancel();
  failed.end();
  AsyncSpan cancelled{"work"};
  cancelled.cancel("client gone");
  EXPECT_FALSE(cancelled);
  cancelled.fail("late");
  const auto stops = events_of(recorder, 2, "work.stop");
  EXPECT_THAT(stops[0], AllOf(HasStatus(Status::error), HasMetadata("error.type", "timeout")));
  EXPECT_THAT(stops[1], AllOf(HasStatus(Status::cancelled), HasMetadata("cancel.reason", "client gone")));
}

TEST(Outcome, HasATypeThatIsCutVisiblyWhenTooLong) {
  const SpanRecorder recorder("work");
  const Counted truncated(&nopspan::Stats::truncated);
  Span{"work"}.fail(std::string(100, 't'));
  EXPECT_THAT(recorder.stop(), HasMetadata("error.type", std::string(60, 't') + "\u2026"));
  EXPECT_EQ(truncated.times(), 1U);
}

TEST(Outcome, LeavesTheFirstCallersTextsWhenTheyChange) {
  const SpanRecorder recorder("work");
  {
    Span span{"work"};
    std::string type = "timeout";
    std::string message = "a message of some length, longer than a short one";
    span.fail(type, message);
    type.assign("xxxxxxx");
    message.clear();
  }
  EXPECT_THAT(recorder.stop(), HasMetadata("error.type", "timeout"));
  EXPECT_THAT(recorder.stop(), HasMetadata("error.message", "a message of some length, longer than a short one"));
}

TEST(Outcome, OfASentenceHasNoTypeAndKeepsItAsTheMessage) {
  const SpanRecorder recorder("work");
  const Counted repaired(&nopspan::Stats::names_invalid);
  Span{"work"}.fail("the prompt was: my secret");
  Span{"work"}.fail("the prompt was: my secret", "refused");
  const auto stops = events_of(recorder, 2, "work.stop");
  EXPECT_THAT(stops[0], HasMetadata("error.type", "_OTHER"));
  EXPECT_THAT(stops[0], HasMetadata("error.message", "the prompt was: my secret"));
  EXPECT_TRUE(stops[0]->metadata("error.message").is_content());
  EXPECT_THAT(stops[1], AllOf(HasMetadata("error.type", "_OTHER"), HasMetadata("error.message", "refused")));
  EXPECT_EQ(repaired.times(), 2U);
}

}  // namespace
