// SPDX-License-Identifier: Apache-2.0
// The log: where nopspan reports its own errors and warnings.
#include "raised_gate.h"
#include "recorded.h"

#include <nopspan/agent.h>
#include <nopspan/execute.h>
#include <nopspan/llm.h>
#include <nopspan/log.h>

#include <memory>

namespace {

using nopspan::LogLevel;

// Makes nopspan log an error.
void provoke() {
  attach_ok("bad", "a.b", [](const Event&) { throw std::runtime_error("boom"); });
  nopspan::execute("a.b");
}

class LogSink : public ::testing::Test {
 protected:
  void TearDown() override { nopspan::set_log_sink({}); }
};

TEST_F(LogSink, GetsTheLine) {
  std::vector<std::pair<LogLevel, std::string>> lines;
  nopspan::set_log_sink([&](LogLevel level, std::string_view line) { lines.emplace_back(level, line); });
  ::testing::internal::CaptureStderr();
  provoke();
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), IsEmpty());
  ASSERT_THAT(lines, SizeIs(1));
  EXPECT_EQ(lines[0].first, LogLevel::error);
  EXPECT_THAT(lines[0].second, HasSubstr("handler \"bad\" of event a.b"));
}

// stderr may be a full pipe, a pipe without a reader, or a file of the program that has got its number.
TEST_F(LogSink, IsNotStderrByDefaultForWhatHappensInASpan) {
  const Counted kept(&nopspan::Stats::warnings);
  ::testing::internal::CaptureStderr();
  provoke();
  attach_ok("event", "log.span", [](const Event&) {});
  { const Span span{"log.span"}; }
  detach_ok("event");
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), IsEmpty());
  EXPECT_EQ(kept.times(), 2U);
}

TEST_F(LogSink, IsReachedFromABeginWithoutAllocating) {
  static char line[512];
  static std::size_t size = 0;
  nopspan::set_log_sink([](LogLevel, std::string_view message) { size = message.copy(line, sizeof(line)); });
  const RaisedGate tracer(RaisedGate::spans);
  const std::size_t before = allocations();
  { const Span span{"llm.a-name-of-no-other-test-which-is-not-short"}; }
  EXPECT_EQ(allocations(), before);
  EXPECT_EQ(std::string_view(line, size),
            "unknown span name \"a-name-of-no-other-test-which-is-not-short\"; valid: chat, generate, image, step, "
            "stream, tool; it is emitted anyway");
}

TEST_F(LogSink, IsNotReplacedByStderrForAnUnknownNameWhileATracerIsAttached) {
  const RaisedGate tracer(RaisedGate::spans);
  const Counted kept(&nopspan::Stats::warnings);
  ::testing::internal::CaptureStderr();
  { const Span span{"llm.another-name-of-no-other-test"}; }
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), IsEmpty());
  EXPECT_EQ(kept.times(), 1U);
}

TEST_F(LogSink, IsTheDefaultAgainWhenAnEmptyOneIsSet) {
  nopspan::set_log_sink([](LogLevel, std::string_view) { FAIL(); });
  nopspan::set_log_sink({});
  const Counted kept(&nopspan::Stats::warnings);
  provoke();
  EXPECT_EQ(kept.times(), 1U);
}

TEST_F(LogSink, MayThrow) {
  nopspan::set_log_sink([](LogLevel, std::string_view) { throw std::runtime_error("sink"); });
  provoke();
  EXPECT_EQ(nopspan::detach("bad"), Errc::not_found);
}

TEST_F(LogSink, MayReplaceItselfWhileItRuns) {
  auto held = std::make_shared<int>(7);
  const std::weak_ptr<int> watched = held;
  nopspan::set_log_sink([held](LogLevel, std::string_view) {
    nopspan::set_log_sink([](LogLevel, std::string_view) {});
    EXPECT_EQ(*held, 7);
  });
  held.reset();
  provoke();
  EXPECT_TRUE(watched.expired());
}

TEST_F(LogSink, MayEmitEventsItself) {
  int lines = 0;
  nopspan::set_log_sink([&](LogLevel, std::string_view) {
    ++lines;
    nopspan::execute("from.sink");
    nopspan::list_handlers();
  });
  provoke();
  EXPECT_EQ(lines, 1);
}

TEST(LogLevel, HasItsNameAsText) {
  EXPECT_STREQ(nopspan::to_string(LogLevel::debug), "debug");
  EXPECT_STREQ(nopspan::to_string(LogLevel::info), "info");
  EXPECT_STREQ(nopspan::to_string(LogLevel::warning), "warning");
  EXPECT_STREQ(nopspan::to_string(LogLevel::error), "error");
}

// ---- The handlers that log the events of a catalogue.

namespace agent = nopspan::agent;
namespace llm = nopspan::llm;
using ::testing::ContainsRegex;
using ::testing::Each;

// Detaches both loggers and restores the default sink at the end of a test.
class DefaultLogger : public ::testing::Test {
 protected:
  DefaultLogger() {
    nopspan::set_log_sink(
        [this](LogLevel level, std::string_view line) { lines_.emplace_back(level, std::string(line)); });
  }
  ~DefaultLogger() override {
    static_cast<void>(agent::detach_default_logger());
    static_cast<void>(llm::detach_default_logger());
    nopspan::set_log_sink({});
  }

  // The log line of one event.
  std::string line_of(const Value& measurements, const Value& metadata) {
    static_cast<void>(agent::attach_default_logger());
    lines_.clear();
    EXPECT_EQ(agent::emit("agent.operator.done", measurements, metadata), Errc::ok);
    return lines_.size() == 1 ? lines_[0].second : "lines: " + std::to_string(lines_.size());
  }

  std::vector<std::pair<LogLevel, std::string>> lines_;
};

TEST_F(DefaultLogger, IsOneHandlerForEveryEventOfItsCatalogue) {
  EXPECT_EQ(agent::attach_default_logger(), Errc::ok);
  EXPECT_EQ(llm::attach_default_logger(), Errc::ok);
  EXPECT_THAT(nopspan::list_handlers("agent"), SizeIs(44));
  EXPECT_THAT(nopspan::list_handlers("llm"), SizeIs(19));
  EXPECT_EQ(nopspan::list_handlers("agent")[0].id, "agent-telemetry-default-logger");
  EXPECT_EQ(nopspan::list_handlers("llm")[0].id, "llm-telemetry-default-logger");
}

TEST_F(DefaultLogger, IsAttachedOnceAndDetachedOnce) {
  EXPECT_EQ(agent::detach_default_logger(), Errc::not_found);
  EXPECT_EQ(agent::attach_default_logger(), Errc::ok);
  EXPECT_EQ(agent::attach_default_logger(LogLevel::info), Errc::already_exists);
  EXPECT_EQ(llm::detach_default_logger(), Errc::not_found);
  EXPECT_EQ(agent::detach_default_logger(), Errc::ok);
  EXPECT_THAT(nopspan::list_handlers(), IsEmpty());
  agent::operators::started([](auto& e) { e.operator_name("ets"); });
  EXPECT_THAT(lines_, IsEmpty());
  EXPECT_EQ(agent::attach_default_logger(), Errc::ok);
}

TEST_F(DefaultLogger, LogsAtItsLevel) {
  EXPECT_EQ(agent::attach_default_logger(), Errc::ok);
  EXPECT_EQ(llm::attach_default_logger(LogLevel::warning), Errc::ok);
  agent::operators::started([](auto& e) { e.operator_name("ets"); });
  llm::retry([](auto&) {});
  ASSERT_THAT(lines_, SizeIs(2));
  EXPECT_EQ(lines_[0].first, LogLevel::debug);
  EXPECT_EQ(lines_[1].first, LogLevel::warning);
}

TEST_F(DefaultLogger, OfTheLlmCatalogueSaysTheRequestAndTheMeasurements) {
  EXPECT_EQ(llm::attach_default_logger(), Errc::ok);
  const ContextScope request{nopspan::Context::with_request_id("order-7")};
  nopspan::span(llm::image, [] { return nopspan::result([](llm::ImageFields& m) { m.image_count(2); }); });
  ASSERT_THAT(lines_, SizeIs(2));
  EXPECT_THAT(lines_[0].second,
              ContainsRegex("^\\[llm\\.image\\.start\\] request_id=order-7 system_time=[0-9]+ monotonic_time=[0-9]+$"));
  EXPECT_THAT(lines_[1].second, ContainsRegex("^\\[llm\\.image\\.stop\\] request_id=order-7 image_count=2 "
                                              "duration=[0-9]+ monotonic_time=[0-9]+$"));
}

TEST_F(DefaultLogger, SaysUnknownWhereThereIsNoId) {
  EXPECT_EQ(line_of(Value::map({{"n", 1}}), Value::map()), "[agent.operator.done] trace_id=unknown n=1");
  EXPECT_EQ(line_of(Value::map({{"n", 1}}), Value::map({{"trace_id", nullptr}})),
            "[agent.operator.done] trace_id=unknown n=1");
  EXPECT_EQ(llm::attach_default_logger(), Errc::ok);
  lines_.clear();
  llm::execute("adapter.retry", [](nopspan::Fields&) {});
  EXPECT_THAT(lines_, ElementsAre(Pair(LogLevel::debug, "[llm.adapter.retry] request_id=unknown ")));
}

TEST_F(DefaultLogger, SaysTheRequestOfAnEventWithoutAnId) {
  EXPECT_EQ(agent::attach_default_logger(), Errc::ok);
  EXPECT_EQ(llm::attach_default_logger(), Errc::ok);
  const ContextScope run{nopspan::Context::with_request_id("run-7")};
  agent::operators::started([](auto& e) { e.operator_name("ets"); });
  EXPECT_EQ(agent::emit("agent.operator.done", Value::map(), Value::map()), Errc::ok);
  llm::execute("adapter.other", [](nopspan::Fields&) {});
  llm::execute("adapter.retry", [](nopspan::Fields&) {});
  ASSERT_THAT(lines_, SizeIs(3));
  EXPECT_THAT(lines_[0].second, HasSubstr("[agent.operator.started] trace_id=run-7 system_time="));
  EXPECT_EQ(lines_[1].second, "[agent.operator.done] trace_id=run-7 ");
  EXPECT_THAT(lines_[2].second, HasSubstr("[llm.adapter.retry] request_id=run-7 "));
}

TEST_F(DefaultLogger, WritesToStderrWithoutASink) {
  nopspan::set_log_sink({});
  EXPECT_EQ(agent::attach_default_logger(), Errc::ok);
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(agent::emit("agent.operator.done", Value::map({{"n", 1}}), Value::map({{"trace_id", "t"}})), Errc::ok);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "nopspan: debug: [agent.operator.done] trace_id=t n=1\n");
}

TEST_F(DefaultLogger, WritesTheMeasurementsInTheirOrder) {
  EXPECT_EQ(line_of(Value::map({{"b", 2}, {"a", -1}, {"c", 0.5}}), Value::map({{"trace_id", "t"}})),
            "[agent.operator.done] trace_id=t b=2 a=-1 c=0.5");
  EXPECT_EQ(line_of(Value::map(), Value::map({{"trace_id", "t"}})), "[agent.operator.done] trace_id=t ");
}

TEST_F(DefaultLogger, WritesIdsOfOtherTypesAsJson) {
  EXPECT_EQ(line_of(Value::map(), Value::map({{"trace_id", 7}})), "[agent.operator.done] trace_id=7 ");
  EXPECT_EQ(line_of(Value::map(), Value::map({{"trace_id", Value::list({1, "a\n"})}})),
            R"([agent.operator.done] trace_id=?1,"a\n"? )");
}

TEST_F(DefaultLogger, LetsNoTextForgeALineOrCommandATerminal) {
  const auto id = [&](const std::string& text) {
    return line_of(Value::map({{"n\n", 1}}), Value::map({{"trace_id", text}}));
  };
  EXPECT_EQ(id("a\n[agent.tool.stop] b"), "[agent.operator.done] trace_id=a??agent.tool.stop??b n?=1");
  EXPECT_EQ(id("\x1b[31mred\r\b\x7f"), "[agent.operator.done] trace_id=??31mred??? n?=1");
  EXPECT_EQ(id("c1 \u009b31m \u0085 nel"), "[agent.operator.done] trace_id=c1??31m???nel n?=1");
  EXPECT_EQ(id("\u2028\u2029 \u00e9 \u65e5"), "[agent.operator.done] trace_id=???\u00e9?\u65e5 n?=1");
  EXPECT_EQ(id(std::string("bad\xff\xc2 nul\0", 10)), "[agent.operator.done] trace_id=bad???nul? n?=1");
}

TEST_F(DefaultLogger, LetsNoTextForgeAField) {
  EXPECT_EQ(line_of(Value::map({{"a=2 b", 1}, {"[c]", 3}}), Value::map({{"trace_id", "t] duration=5"}})),
            "[agent.operator.done] trace_id=t??duration?5 a?2?b=1 ?c?=3");
}

TEST_F(DefaultLogger, WritesNoContent) {
  EXPECT_EQ(llm::attach_default_logger(), Errc::ok);
  short_span(llm::chat, [](auto& m) { m.content("request_id", "SECRET"); });
  EXPECT_EQ(agent::attach_default_logger(), Errc::ok);
  agent::operators::wait([](auto& e) { e.content("trace_id", "SECRET"); });
  agent::operators::wait([](auto& e) { e.content("trace_id", Value::list({"SECRET"})); });
  ASSERT_THAT(lines_, SizeIs(4));
  EXPECT_THAT(lines_[0].second, HasSubstr("[llm.chat.start] request_id=unknown "));
  EXPECT_THAT(lines_[2].second, HasSubstr("[agent.operator.wait] trace_id=unknown "));
  EXPECT_THAT(lines_, Each(Pair(LogLevel::debug, Not(HasSubstr("SECRET")))));
}

TEST_F(DefaultLogger, CutsALongId) {
  const std::string line = line_of(Value::map({{"n", 1}}), Value::map({{"trace_id", std::string(1U << 20U, 'x')}}));
  EXPECT_EQ(line, "[agent.operator.done] trace_id=" + std::string(60, 'x') + "\u2026 n=1");
}

TEST_F(DefaultLogger, SurvivesASinkThatThrows) {
  nopspan::set_log_sink([](LogLevel, std::string_view) { throw 7; });
  EXPECT_EQ(agent::attach_default_logger(), Errc::ok);
  agent::operators::started([](auto& e) { e.operator_name("ets"); });
  EXPECT_THAT(nopspan::list_handlers("agent"), SizeIs(44));
}

}  // namespace
