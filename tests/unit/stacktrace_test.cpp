// SPDX-License-Identifier: Apache-2.0
// Stack traces of exceptions: capture_stacktraces().
#include "in_thread.h"
#include "recorded.h"

#include <nopspan/agent.h>
#include <nopspan/execute.h>

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>

namespace {

struct Refused : std::runtime_error {
  Refused() : std::runtime_error("refused") {}
};

// The tests search for the frames of these functions. So each has a section of its own, whose bounds the linker knows.
struct Code {
  const char* begin;
  const char* end;
};
#define FRAME_OF(function)                                                  \
  extern "C" const char __start_##function[];                               \
  extern "C" const char __stop_##function[];                                \
  constexpr Code code_of_##function{__start_##function, __stop_##function}; \
  __attribute__((noinline, section(#function)))
FRAME_OF(refuse) void refuse() { throw Refused(); }
FRAME_OF(refuse_text) void refuse_text() { throw "refused"; }
FRAME_OF(catch_in) void catch_in(Span& span) {
  try {
    refuse();
  } catch (...) {
    span.caught();
  }
}
void catch_in_hand() {
  Span span{"hand"};
  catch_in(span);
}
FRAME_OF(leave_scope) void leave_scope() {
  const Span span{"scope"};
  refuse();
}
FRAME_OF(leave_async_scope) void leave_async_scope() {
  const AsyncSpan span{"async"};
  refuse();
}

// True if `frame` is "PROGRAM+0xOFFSET" with an address in `code`.
bool is_in(std::string_view frame, const Code& code) {
  Dl_info program{};
  if (dladdr(code.begin, &program) == 0) return false;
  const char* const slash = std::strrchr(program.dli_fname, '/');
  const std::string name = std::string(slash != nullptr ? slash + 1 : program.dli_fname) + "+";
  if (frame.substr(0, name.size()) != name) return false;
  const auto* const address = static_cast<const char*>(program.dli_fbase) +
                              std::strtoull(std::string(frame.substr(name.size())).c_str(), nullptr, 16);
  return address > code.begin && address <= code.end;
}

MATCHER_P(BeginsIn, code, "") {
  const Value frames = arg->metadata("stacktrace").copy();
  *result_listener << "has " << frames.to_string();
  return !frames.as_list().empty() && is_in(frames.as_list()[0].as_string(), code);
}

// Without optimization, the destructors and members of a span are frames of their own.
MATCHER_P(BeginsAtTheSpanIn, code, "") {
  const Value frames = arg->metadata("stacktrace").copy();
  *result_listener << "has " << frames.to_string();
  constexpr std::size_t kMostFramesOfSpan = 3;
  for (std::size_t i = 0; i < frames.as_list().size() && i < kMostFramesOfSpan; ++i) {
    if (is_in(frames.as_list()[i].as_string(), code)) return true;
  }
  return false;
}

class Stacktrace : public testing::Test {
 protected:
  Stacktrace() { nopspan::capture_stacktraces(true); }
  ~Stacktrace() override { nopspan::capture_stacktraces(false); }
};

TEST(Stacktraces, AreAbsentUnlessTheyAreSwitchedOn) {
  const SpanRecorder recorder("work");
  EXPECT_THROW(nopspan::span("work", [] { refuse(); }), Refused);
  EXPECT_THAT(recorder.exception(), LacksMetadata("stacktrace"));
}

TEST_F(Stacktrace, BeginsWhereTheExceptionWasThrown) {
  const SpanRecorder recorder("work");
  EXPECT_THROW(nopspan::span("work", [] { refuse(); }), Refused);
  EXPECT_THAT(recorder.exception(), BeginsIn(code_of_refuse));
}

TEST_F(Stacktrace, OfAPointerBeginsWhereItWasThrown) {
  const SpanRecorder recorder("work");
  EXPECT_THROW(nopspan::span("work", [] { refuse_text(); }), const char*);
  EXPECT_THAT(recorder.exception(), BeginsIn(code_of_refuse_text));
}

TEST_F(Stacktrace, BeginsThereInEverySpanThatTheExceptionLeaves) {
  const Recorder recorder{"outer.exception", "scope.exception", "inner.exception"};
  const auto scope = [] {
    const Span span{"scope"};
    nopspan::span("inner", [] { refuse(); });
  };
  EXPECT_THROW(nopspan::span("outer", scope), Refused);
  ASSERT_THAT(recorder.names(), ElementsAre("inner.exception", "scope.exception", "outer.exception"));
  for (const auto& event : recorder.events()) EXPECT_THAT(event, BeginsIn(code_of_refuse));
}

TEST_F(Stacktrace, BeginsThereForAnAsyncSpanAndATool) {
  const Recorder recorder{"async.exception", "agent.tool.exception"};
  const auto tool = [] { nopspan::agent::tool_span([](auto& m) { m.tool_name("t"); }, [] { refuse(); }); };
  EXPECT_THROW(nopspan::async_span("async", Context(), tool), Refused);
  ASSERT_EQ(recorder.size(), 2U);
  for (const auto& event : recorder.events()) EXPECT_THAT(event, BeginsIn(code_of_refuse));
}

TEST_F(Stacktrace, BeginsAtTheCatchOfTheApplication) {
  const SpanRecorder recorder("work");
  {
    Span span{"work"};
    catch_in(span);
  }
  EXPECT_THAT(recorder.exception(), BeginsAtTheSpanIn(code_of_catch_in));
}

TEST_F(Stacktrace, BeginsAtTheScopeThatTheExceptionLeaves) {
  const Recorder recorder{"scope.exception", "async.exception"};
  EXPECT_THROW(leave_scope(), Refused);
  EXPECT_THROW(leave_async_scope(), Refused);
  ASSERT_EQ(recorder.size(), 2U);
  EXPECT_THAT(recorder.events()[0], BeginsAtTheSpanIn(code_of_leave_scope));
  EXPECT_THAT(recorder.events()[1], BeginsAtTheSpanIn(code_of_leave_async_scope));
}

// The memory of an exception is that of the one before.
TEST_F(Stacktrace, IsNotThatOfAnEarlierException) {
  const Recorder recorder{"work.exception", "hand.exception"};
  EXPECT_THROW(nopspan::span("work", [] { refuse(); }), Refused);
  catch_in_hand();
  ASSERT_EQ(recorder.size(), 2U);
  EXPECT_THAT(recorder.events()[1], BeginsAtTheSpanIn(code_of_catch_in));
}

TEST_F(Stacktrace, IsNotThatOfAnExceptionThatPassedASpanWhichIsNotRecorded) {
  EXPECT_THROW(nopspan::span("work", [] { refuse(); }), Refused);
  const SpanRecorder recorder("hand");
  catch_in_hand();
  EXPECT_THAT(recorder.exception(), BeginsAtTheSpanIn(code_of_catch_in));
}

// A destructor that runs during unwinding handles an exception of its own.
struct Cleaner {
  ~Cleaner() { catch_in_hand(); }
};
FRAME_OF(refuse_and_clean) void refuse_and_clean() {
  const Cleaner cleaner;
  throw Refused();
}

TEST_F(Stacktrace, IsNotThatOfAnExceptionAroundIt) {
  const Recorder recorder{"work.exception", "hand.exception"};
  EXPECT_THROW(nopspan::span("work", [] { refuse_and_clean(); }), Refused);
  ASSERT_THAT(recorder.names(), ElementsAre("hand.exception", "work.exception"));
  EXPECT_THAT(recorder.events()[0], BeginsAtTheSpanIn(code_of_catch_in));
  EXPECT_THAT(recorder.events()[1], BeginsIn(code_of_refuse_and_clean));
}

TEST_F(Stacktrace, OfAThreadExitIsThatOfTheCatch) {
  const SpanRecorder recorder("work");
  in_thread([] { nopspan::span("work", [] { pthread_exit(nullptr); }); });
  EXPECT_THAT(recorder.exception(), HasMetadata("kind", "exit"));
  EXPECT_GT(recorder.exception()->metadata("stacktrace").copy().as_list().size(), 0U);
}

TEST_F(Stacktrace, OfTheApplicationIsKept) {
  const SpanRecorder recorder("work");
  const auto work = [](Span& span) {
    span.set("stacktrace", "mine");
    refuse();
  };
  EXPECT_THROW(nopspan::span("work", work), Refused);
  EXPECT_THAT(recorder.exception(), HasMetadata("stacktrace", "mine"));
}

TEST_F(Stacktrace, ReplacesThatOfTheStart) {
  const SpanRecorder recorder("work");
  EXPECT_THROW(nopspan::span(
                   "work", [](Fields& f) { f.set("stacktrace", "mine"); }, [] { refuse(); }),
               Refused);
  EXPECT_THAT(recorder.start(), HasMetadata("stacktrace", "mine"));
  EXPECT_THAT(recorder.exception(), BeginsIn(code_of_refuse));
}

TEST_F(Stacktrace, OfAHandlerBeginsWhereItThrew) {
  const Recorder failures{"telemetry.handler.failure"};
  attach_ok("bad", "a.b", [](const Event&) { refuse(); });
  nopspan::execute("a.b");
  ASSERT_EQ(failures.size(), 1U);
  EXPECT_THAT(failures.events()[0], BeginsIn(code_of_refuse));
}

TEST_F(Stacktrace, HasAtMost32Frames) {
  const SpanRecorder recorder("work");
  struct Deep {
    static int call(int depth) { return depth == 0 ? std::stoi("none") : call(depth - 1) + 1; }
  };
  EXPECT_THROW(nopspan::span("work", [] { return Deep::call(100); }), std::invalid_argument);
  const Value frames = recorder.exception()->metadata("stacktrace").copy();
  EXPECT_GT(frames.as_list().size(), 20U);
  EXPECT_LE(frames.as_list().size(), 32U);
}

}  // namespace
