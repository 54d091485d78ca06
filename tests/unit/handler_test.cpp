// SPDX-License-Identifier: Apache-2.0
// What a handler may do, and what happens to a handler that throws.
#include "in_child.h"
#include "recorded.h"

#include <nopspan/execute.h>
#include <nopspan/log.h>
#include <nopspan/registry.h>
#include <nopspan/span.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using nopspan::LogLevel;
using ::testing::EndsWith;
using ::testing::StartsWith;

class Handler : public ::testing::Test {
 protected:
  void SetUp() override {
    nopspan::set_log_sink([this](LogLevel level, std::string_view line) { log_.emplace_back(level, line); });
  }
  void TearDown() override {
    while (!nopspan::list_handlers().empty()) static_cast<void>(nopspan::detach(nopspan::list_handlers()[0].id));
    nopspan::set_log_sink({});
  }
  std::vector<std::pair<LogLevel, std::string>> log_;
};

TEST_F(Handler, ThatThrowsIsDetachedAndReported) {
  const Recorder failures{"telemetry.handler.failure"};
  const Counted counted(&nopspan::Stats::handler_failures);
  int calls = 0;
  attach_ok(
      "bad", "a.b",
      [&](const Event&) {
        ++calls;
        throw std::runtime_error("boom");
      },
      Value::map({{"k", 1}}));
  nopspan::execute("a.b");
  nopspan::execute("a.b");
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(counted.times(), 1U);
  EXPECT_EQ(nopspan::detach("bad"), Errc::not_found);
  EXPECT_THAT(log_, ElementsAre(Pair(LogLevel::error,
                                     "handler \"bad\" of event a.b failed with error "
                                     "std::runtime_error: boom; it has been detached")));
  ASSERT_THAT(failures.events(), SizeIs(1));
  const auto failure = failures.events()[0];
  EXPECT_THAT(keys_of(failure->metadata()),
              ElementsAre("event_name", "handler_config", "handler_id", "kind", "reason"));
  EXPECT_THAT(failure, AllOf(HasMetadata("event_name", "a.b"), HasMetadata("handler_id", "bad")));
  EXPECT_THAT(failure, AllOf(HasMetadata("handler_config", Value::map({{"k", 1}})), HasMetadata("kind", "error")));
  EXPECT_THAT(failure, HasMetadata("reason", Value::map({{"type", "std::runtime_error"}, {"message", "boom"}})));
  EXPECT_THAT(keys_of(failure->measurements()), ElementsAre("monotonic_time", "system_time"));
}

TEST_F(Handler, ThatThrowsForgesNoLine) {
  const Recorder failures{"telemetry.handler.failure"};
  const std::string message = "first\nnopspan: error: forged\x1b[2J\u0085\u2028" + std::string(1U << 16U, 'x');
  attach_ok("bad\n\"id\"", "a.\u2028b", [&](const Event&) { throw std::runtime_error(message); });
  nopspan::execute("a.\u2028b");
  ASSERT_THAT(log_, SizeIs(1));
  EXPECT_THAT(log_[0].second, StartsWith("handler \"bad??id?\" of event a.?b failed with error std::runtime_error: "
                                         "first?nopspan: error: forged?[2J??xxx"));
  EXPECT_THAT(log_[0].second, EndsWith("xxx\u2026; it has been detached"));
  EXPECT_LT(log_[0].second.size(), 500U);
  EXPECT_THAT(failures.events()[0], HasMetadata("handler_id", "bad\n\"id\""));
  EXPECT_EQ(failures.events()[0]->metadata("reason").find("message").as_string(), message);
}

TEST_F(Handler, ThatThrowsWhatIsNoExceptionIsDetachedToo) {
  const Recorder failures{"telemetry.handler.failure"};
  attach_ok("bad", "a.b", [](const Event&) { throw 7; });
  nopspan::execute("a.b");
  EXPECT_EQ(nopspan::detach("bad"), Errc::not_found);
  EXPECT_THAT(failures.events().at(0), HasMetadata("kind", "throw"));
}

TEST_F(Handler, ThatThrowsIsDetachedFromAllItsEvents) {
  int calls = 0;
  attach_many_ok("bad", {"a.b", "c.d"}, [&](const Event&) {
    ++calls;
    throw std::runtime_error("");
  });
  nopspan::execute("a.b");
  nopspan::execute("c.d");
  EXPECT_EQ(calls, 1);
}

TEST_F(Handler, ThatThrowsDisturbsNeitherTheOthersNorTheApplication) {
  std::string order;
  attach_ok("first", "work.stop", [&](const Event&) { order += "1"; });
  attach_ok("bad", "work.stop", [&](const Event&) {
    order += "x";
    throw std::runtime_error("");
  });
  attach_ok("last", "work.stop", [&](const Event&) { order += "2"; });
  EXPECT_EQ(nopspan::span("work", [] { return 7; }), 7);
  EXPECT_EQ(nopspan::span("work", [] { return 7; }), 7);
  EXPECT_EQ(order, "1x212");
}

TEST_F(Handler, ThatThrowsWhileAnExceptionUnwindsDisturbsNothing) {
  attach_ok("bad", "work.exception", [](const Event&) { throw std::runtime_error("handler"); });
  try {
    const Span span{"work"};
    throw std::logic_error("application");
  } catch (const std::logic_error& error) {
    EXPECT_STREQ(error.what(), "application");
  }
  EXPECT_THAT(log_, SizeIs(1));
}

TEST_F(Handler, OfFailuresThatThrowsIsDetachedAsWell) {
  attach_ok("worse", "telemetry.handler.failure", [](const Event&) { throw std::runtime_error("again"); });
  attach_ok("bad", "a.b", [](const Event&) { throw std::runtime_error("once"); });
  nopspan::execute("a.b");
  EXPECT_THAT(nopspan::list_handlers(), SizeIs(0));
  EXPECT_THAT(log_, SizeIs(2));
}

TEST_F(Handler, MayDetachItself) {
  int calls = 0;
  auto held = std::make_shared<int>(0);
  const std::weak_ptr<int> watched = held;
  attach_ok("self", "a.b", [&, held](const Event&) {
    ++calls;
    detach_ok("self");
    EXPECT_EQ(nopspan::detach("self"), Errc::not_found);
    EXPECT_EQ(*held, 0);  // captures live as long as the handler runs
  });
  held.reset();
  nopspan::execute("a.b");
  EXPECT_TRUE(watched.expired());
  nopspan::execute("a.b");
  EXPECT_EQ(calls, 1);
}

TEST_F(Handler, MayDetachAnotherAndTheDispatchGoesOnWithThoseItBeganWith) {
  std::string order;
  attach_ok("first", "a.b", [&](const Event&) {
    order += "1";
    static_cast<void>(nopspan::detach("second"));
  });
  attach_ok("second", "a.b", [&](const Event&) { order += "2"; });
  nopspan::execute("a.b");
  EXPECT_EQ(order, "12");
  nopspan::execute("a.b");
  EXPECT_EQ(order, "121");
}

TEST_F(Handler, MayAttachAnotherWhichSeesTheNextEvent) {
  std::string order;
  attach_ok("first", "a.b", [&](const Event&) {
    order += "1";
    static_cast<void>(nopspan::attach("second", "a.b", [&](const Event&) { order += "2"; }));
  });
  nopspan::execute("a.b");
  EXPECT_EQ(order, "1");
  nopspan::execute("a.b");
  EXPECT_EQ(order, "112");
}

TEST_F(Handler, MayEmitOtherEventsAndSpans) {
  const Recorder recorder{"from.handler", "inside.start", "inside.stop"};
  attach_ok("emits", "work.stop", [](const Event& e) {
    nopspan::execute("from.handler", [&](Fields& f) { f.set("of", e.name()); });
    const Span span{"inside"};
  });
  { const Span span{"work"}; }
  EXPECT_THAT(recorder.names(), ElementsAre("from.handler", "inside.start", "inside.stop"));
}

TEST_F(Handler, IsNotCalledAgainWhileItRunsAndThatIsCounted) {
  const Counted dropped(&nopspan::Stats::recursion_dropped);
  int calls = 0;
  int others = 0;
  attach_ok("audit", "db.query.stop", [&](const Event&) {
    ++calls;
    for (int i = 0; i < 3; ++i) const Span span{"db.query"};
  });
  attach_ok("other", "db.query.stop", [&](const Event&) { ++others; });
  { const Span span{"db.query"}; }
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(others, 4);  // the other handler is not running, so it receives the events of the first one too
  EXPECT_EQ(dropped.times(), 3U);
  { const Span span{"db.query"}; }
  EXPECT_EQ(calls, 2);
}

TEST_F(Handler, IsNotCalledAgainByWayOfAnotherOne) {
  std::string order;
  attach_ok("ping", "ping", [&](const Event&) {
    order += "i";
    nopspan::execute("pong");
  });
  attach_ok("pong", "pong", [&](const Event&) {
    order += "o";
    nopspan::execute("ping");
  });
  nopspan::execute("ping");
  nopspan::execute("pong");
  EXPECT_EQ(order, "iooi");
}

TEST_F(Handler, IsCalledOnAThreadWhileItRunsOnAnother) {
  std::atomic<int> inside{0};
  attach_ok("id", "a.b", [&](const Event&) {
    ++inside;
    EXPECT_TRUE(wait_until([&] { return inside.load() == 2; }));
  });
  std::thread other([] { nopspan::execute("a.b"); });
  nopspan::execute("a.b");
  other.join();
}

TEST_F(Handler, OfEventsThatNestIsStoppedAtSixteenDeepAndCounted) {
  const Counted dropped(&nopspan::Stats::recursion_dropped);
  int deepest = 0;
  for (int i = 0; i < 18; ++i) {
    attach_ok(std::to_string(i), "nested." + std::to_string(i), [&, i](const Event&) {
      deepest = std::max(deepest, i + 1);
      nopspan::execute(nopspan::Name::intern("nested." + std::to_string(i + 1)));
    });
  }
  nopspan::execute("nested.0");
  EXPECT_EQ(deepest, 16);
  EXPECT_EQ(dropped.times(), 1U);
  nopspan::execute("nested.0");
  EXPECT_EQ(dropped.times(), 2U);
}

TEST_F(Handler, MayListHandlersAndSetTheLogSink) {
  attach_ok("id", "a.b", [](const Event&) {
    EXPECT_THAT(nopspan::list_handlers(), SizeIs(1));
    nopspan::set_log_sink({});
  });
  nopspan::execute("a.b");
}

TEST_F(Handler, MayChangeTheEventsOfTheSpanItRunsIn) {
  attach_many_ok("id", {"work.start", "work.stop"}, [](const Event& e) {
    if (e.name() == "work.start") nopspan::execute("a.b");
  });
  const Recorder recorder{"a.b"};
  {
    const Span span{"work"};
    EXPECT_THAT(recorder.events(), SizeIs(1));
    EXPECT_EQ(recorder.events()[0]->span_id(), id_of(span));
  }
}

}  // namespace
