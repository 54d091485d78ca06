// SPDX-License-Identifier: Apache-2.0
// The log: where nopspan reports its own errors and warnings.
#include "raised_gate.h"
#include "recorded.h"

#include <nopspan/execute.h>
#include <nopspan/log.h>
#include <nopspan/registry.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

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

}  // namespace
