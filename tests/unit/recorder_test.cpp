// SPDX-License-Identifier: Apache-2.0
// nopspan::testing, the header for users' own tests.
#include "in_thread.h"
#include "recorded.h"

#include <nopspan/execute.h>

#include <atomic>
#include <thread>

namespace {

using nopspan::testing::EventNamed;
using ::testing::PrintToString;

TEST(Recorder, RecordsTheEventsOfItsNamesInOrder) {
  const Recorder recorder{"work.start", "work.stop"};
  EXPECT_EQ(recorder.error(), Errc::ok);
  { const Span span{"work"}; }
  nopspan::execute("other");
  EXPECT_THAT(recorder.events(), ElementsAre(EventNamed("work.start"), EventNamed("work.stop")));
  EXPECT_THAT(recorder.events("work.stop"), ElementsAre(EventNamed("work.stop")));
  EXPECT_EQ(recorder.size(), 2U);
}

TEST(Recorder, LetsGoWhenItIsDestroyed) {
  { const Recorder recorder{"a.b"}; }
  EXPECT_TRUE(nopspan::list_handlers("a.b").empty());
}

TEST(Recorder, SaysThatAnEventNameIsNone) {
  ::testing::internal::CaptureStderr();
  const Recorder recorder{"a.b", "not..one"};
  EXPECT_EQ(recorder.error(), Errc::invalid_argument);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("error: a nopspan::testing::Recorder records nothing, because a handler needs"));
  nopspan::execute("a.b");
  EXPECT_EQ(recorder.size(), 0U);
}

TEST(Recorder, ForgetsWhatIsCleared) {
  Recorder recorder{"a.b"};
  nopspan::execute("a.b");
  recorder.clear();
  EXPECT_EQ(recorder.size(), 0U);
  nopspan::execute("a.b");
  EXPECT_THAT(recorder.names(), ElementsAre("a.b"));
}

TEST(Recorder, NamesTheEventsOfSpans) {
  EXPECT_THAT(Recorder::span_events({"a", "b"}),
              ElementsAre("a.start", "a.stop", "a.exception", "b.start", "b.stop", "b.exception"));
  EXPECT_THAT(Recorder::span_events({}), IsEmpty());
}

TEST(Recorder, RecordsAllThreads) {
  const Recorder recorder{"a.b"};
  in_threads(4, [](int) {
    for (int i = 0; i < 50; ++i) nopspan::execute("a.b");
  });
  EXPECT_EQ(recorder.size(), 200U);
}

TEST(Recorder, MayBeMadeWhileAnotherThreadEmits) {
  std::atomic<bool> stop{false};
  std::thread emitter([&] {
    while (!stop) const Span span{"work"};
  });
  for (int i = 0; i < 100; ++i) const Recorder recorder{"work.start", "work.stop"};
  stop = true;
  emitter.join();
}

TEST(Matchers, TellOneEventFromAnother) {
  const Recorder recorder{"outer.start", "inner.stop"};
  {
    const Span outer{"outer", [](Fields& f) { f.set("k", 1).measure("m", 2); }};
    Span inner{"inner"};
    inner.fail("timeout");
  }
  const auto events = events_of(recorder, 2);
  const nopspan::OwnedEvent outer = events[0];
  const nopspan::OwnedEvent inner = events[1];
  EXPECT_THAT(outer, AllOf(EventNamed("outer.start"), Not(EventNamed("outer.stop")), HasMetadata("k", 1)));
  EXPECT_THAT(outer, AllOf(Not(HasMetadata("k", 1.0)), Not(HasMetadata("absent", nullptr)), LacksMetadata("absent")));
  EXPECT_THAT(outer, AllOf(Not(LacksMetadata("k")), HasMeasurement("m", 2), Not(HasMeasurement("k", 1))));
  EXPECT_THAT(inner, AllOf(HasStatus(Status::error), Not(HasStatus(Status::ok)), IsChildOf(outer)));
  EXPECT_THAT(outer, Not(IsChildOf(inner)));
}

TEST(Matchers, FindNoChildAmongEventsWithoutASpan) {
  const Recorder recorder{"a.b", "work.start"};
  nopspan::execute("a.b");
  nopspan::execute("a.b");
  { const Span span{"work"}; }
  {
    const ContextScope request{Context::with_request_id("order-7")};
    nopspan::execute("a.b");
  }
  const auto events = events_of(recorder, 4);
  for (const auto& event : events) {
    for (const auto& parent : events) EXPECT_THAT(event, Not(IsChildOf(parent)));
  }
}

TEST(Matchers, TellTheChildrenOfOneSpanFromThoseOfAnother) {
  const Recorder recorder{"one.start", "two.start", "a.b"};
  for (const char* name : {"one", "two"}) {
    const Span outer{name};
    const Span inner{"inner"};
    nopspan::execute("a.b");
  }
  const auto events = events_of(recorder, 4);
  EXPECT_THAT(events[1], AllOf(IsChildOf(events[0]), Not(IsChildOf(events[1])), Not(IsChildOf(events[2]))));
  EXPECT_THAT(events[3], IsChildOf(events[2]));
}

TEST(Matchers, PrintEventsAndValues) {
  const Recorder recorder{"a.b"};
  nopspan::execute("a.b", [](Fields& f) { f.set("k", "v").measure("m", 2); });
  EXPECT_EQ(PrintToString(recorder.events().at(0)),
            R"(a.b ok span 0000000000000000 parent 0000000000000000 request  measurements {"m":2} metadata {"k":"v"})");
  EXPECT_EQ(PrintToString(Errc::not_found), nopspan::describe(Errc::not_found));
  EXPECT_EQ(PrintToString(nopspan::Value("v")), R"("v")");
}

TEST(Matchers, SayWhatTheyExpect) {
  const Recorder recorder{"work.start"};
  { const Span span{"work"}; }
  const auto work = recorder.events().at(0);
  const auto text = [](const ::testing::Matcher<nopspan::OwnedEvent>& matcher) {
    return ::testing::DescribeMatcher<nopspan::OwnedEvent>(matcher);
  };
  EXPECT_EQ(text(HasMetadata("k", 3)), R"(has the metadata {"k":3})");
  EXPECT_EQ(text(HasMetadata("k", 3.0)), R"(has the metadata {"k":3.0})");
  EXPECT_EQ(text(HasMetadata("k", "3")), R"(has the metadata {"k":"3"})");
  EXPECT_EQ(text(HasMeasurement("m", 2)), R"(has the measurement {"m":2})");
  EXPECT_EQ(text(Not(HasMetadata("k", nullptr))), R"(lacks the metadata {"k":null})");
  EXPECT_EQ(text(Not(LacksMetadata("k"))), "has the metadata k");
  EXPECT_EQ(text(IsChildOf(work)), "is a child of work.start span " +
                                       std::string(work->metadata("span_id").as_string()) + " request " +
                                       std::string(work->request_id()));
}

}  // namespace
