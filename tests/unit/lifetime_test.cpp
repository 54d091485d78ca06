// SPDX-License-Identifier: Apache-2.0
// Spans at unusual times and places: on the wrong thread, or in the last destructors of a thread or a program.
#include "in_child.h"
#include "recorded.h"

#include <nopspan/span.h>

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace {

TEST(Lifetime, OfASpanDestroyedOnAnotherThreadIsCountedAndEmitted) {
  const SpanRecorder recorder("work");
  const Counted wrong(&nopspan::Stats::wrong_thread);
  auto span = std::make_unique<Span>("work");
  span->set("key", 1);
  std::thread([&] { span.reset(); }).join();
  EXPECT_EQ(wrong.times(), 1U);
  EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
  EXPECT_EQ(recorder.stop()->span_id(), recorder.start()->span_id());
  EXPECT_TRUE(Context::current().empty());  // no longer current on this thread either
}

TEST(Lifetime, OfASpanDestroyedOnAnotherThreadLeavesTheOthersInOrder) {
  const Recorder recorder{"outer.start", "inner.start", "next.start", "last.start"};
  {
    const Span outer{"outer"};
    auto inner = std::make_unique<Span>("inner");
    std::thread([&] { inner.reset(); }).join();
    const Span next{"next"};
  }
  { const Span last{"last"}; }
  const auto events = events_of(recorder, 4);
  EXPECT_THAT(events[2], IsChildOf(events[0]));
  EXPECT_EQ(events[3]->parent_id(), 0U);
}

// In a child process, because the span's memory cannot be freed any more and a leak checker would report it.
TEST(Lifetime, OfASpanThatOutlivesItsThreadIsNoCrash) {
  expect_in_child([] {
    const SpanRecorder recorder("work");
    std::unique_ptr<Span> span;
    std::thread([&] { span = std::make_unique<Span>("work"); }).join();
    std::thread([] { const Span other{"other"}; }).join();  // reuses the ended thread's state
    span.reset();
    EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
  });
}

TEST(Lifetime, OfAContextScopeDestroyedOnAnotherThreadIsCounted) {
  const Counted wrong(&nopspan::Stats::wrong_thread);
  std::optional<ContextScope> here(std::in_place, Context());
  std::thread([] {
    // Runs on a stack of its own, which does not contain `here`.
    const ContextScope there{Context::make()};
    EXPECT_FALSE(Context::current().empty());
  }).join();
  here.reset();
  EXPECT_EQ(wrong.times(), 0U);
}

struct Last {
  bool armed = false;
  ~Last() {
    if (armed) const Span span{"last"};
  }
};
thread_local Last before;
thread_local Last after;

TEST(Lifetime, AThreadsLastDestructorsMayEmit) {
  const SpanRecorder recorder("last");
  for (int i = 0; i < 3; ++i) {
    std::thread([] {
      before.armed = true;  // destroyed after the library's own thread state
      { const Span span{"first"}; }
      after.armed = true;  // destroyed before the library's own thread state
    }).join();
  }
  EXPECT_EQ(recorder.events("last.start").size(), 6U);
  EXPECT_EQ(recorder.events("last.stop").size(), 6U);
}

TEST(Lifetime, ManyShortThreadsReuseWhatTheyLeave) {
  const SpanRecorder recorder("work");
  for (int i = 0; i < 200; ++i) std::thread([] { const Span span{"work"}; }).join();
  EXPECT_EQ(recorder.events("work.stop").size(), 200U);
}

// A program that ends. Its handler writes the names that it receives to stderr.
struct AtExit {
  bool armed = false;
  ~AtExit() {
    if (!armed) return;
    const Span span{"at.exit"};
    AsyncSpan{"async.at.exit"}.end();
    detach_ok("recorder that is gone");
  }
};
AtExit static_at_exit;
thread_local AtExit thread_local_at_exit;

void write_name(const Event& event) {
  char line[200];
  const int size =
      std::snprintf(line, sizeof(line), "[%.*s]", static_cast<int>(event.name().size()), event.name().data());
  if (write(STDERR_FILENO, line, static_cast<std::size_t>(size)) < 0) std::abort();
}

TEST(LifetimeDeathTest, StaticDestructorsMayEmit) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        attach_many_ok("names", {"at.exit.start", "at.exit.stop", "async.at.exit.stop"}, write_name);
        static_at_exit.armed = true;
        std::exit(0);
      },
      ::testing::ExitedWithCode(0), "\\[at.exit.start\\]\\[async.at.exit.stop\\]\\[at.exit.stop\\]");
}

TEST(LifetimeDeathTest, ThreadLocalDestructorsOfTheMainThreadMayEmit) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        attach_many_ok("names", {"at.exit.start", "at.exit.stop"}, write_name);
        thread_local_at_exit.armed = true;
        { const Span span{"work"}; }
        std::exit(0);
      },
      ::testing::ExitedWithCode(0), "\\[at.exit.start\\]\\[at.exit.stop\\]");
}

TEST(LifetimeDeathTest, AProgramMayExitInsideASpan) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        attach_many_ok("names", {"work.start", "work.stop"}, write_name);
        const Span span{"work"};
        std::exit(0);
      },
      ::testing::ExitedWithCode(0), "^\\[work.start\\]$");
}

}  // namespace
