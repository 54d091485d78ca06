// SPDX-License-Identifier: Apache-2.0
// fork(): a span belongs to the process that began it.
#include "in_child.h"
#include "recorded.h"
#include "sanitizers.h"

#include <nopspan/context.h>
#include <nopspan/llm.h>
#include <nopspan/log.h>

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <thread>

namespace {

// The lines that the child writes with `write(line)`. The child must exit with status 0.
std::vector<std::string> lines_of_child(const std::function<void(const std::function<void(std::string)>&)>& work) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const std::string problem = in_child([&] {
    close(ends[0]);
    work([&](std::string line) {
      line += '\n';
      EXPECT_EQ(write(ends[1], line.data(), line.size()), static_cast<ssize_t>(line.size()));
    });
  });
  EXPECT_THAT(problem, IsEmpty());
  close(ends[1]);
  std::FILE* const text = fdopen(ends[0], "r");
  std::vector<std::string> lines;
  for (char line[100]; std::fgets(line, sizeof(line), text) != nullptr;)
    lines.emplace_back(line, std::strlen(line) - 1);
  std::fclose(text);
  return lines;
}

std::string span_id(const Span& span) { return std::to_string(span.context().span_id()); }

TEST(Fork, GivesParentAndChildDifferentIds) {
  const Recorder recorder{"work.start"};
  { const Span warm{"work"}; }  // fills the pools of random bytes, so that parent and child could share them
  const auto make_ids = [](const std::function<void(std::string)>& write) {
    for (int i = 0; i < 100; ++i) {
      const Span span{"work"};
      write(span_id(span));
      write(span.request_id());
      write(nopspan::make_request_id());
    }
  };
  std::vector<std::string> all = lines_of_child(make_ids);
  make_ids([&](const std::string& id) { all.push_back(id); });
  ASSERT_EQ(all.size(), 600U);
  EXPECT_EQ(std::set<std::string>(all.begin(), all.end()).size(), 600U);
}

TEST(Fork, OfAThreadThatNeverEmittedGivesDifferentIdsToo) {
  std::vector<std::string> all;
  for (int child = 0; child < 2; ++child) {
    for (const std::string& id : lines_of_child([](const auto& write) { write(nopspan::make_request_id()); })) {
      all.push_back(id);
    }
  }
  ASSERT_EQ(all.size(), 2U);
  EXPECT_NE(all[0], all[1]);
}

TEST(Fork, InsideASpanLeavesItToTheParent) {
  const Recorder recorder(Recorder::span_events({"outer", "async", "inner"}));
  {
    std::optional<Span> outer(std::in_place, "outer");
    AsyncSpan async{"async"};
    expect_in_child([&] {
      const Counted inherited(&nopspan::Stats::inherited);
      {
        const Recorder mine(Recorder::span_events({"outer", "async", "inner"}));
        nopspan::span("inner", [] {});
        outer.reset();
        async.end();
        EXPECT_THAT(mine.names(), ElementsAre("inner.start", "inner.stop"));
        // The child process's own span is a child of the parent's span, in the same request.
        EXPECT_EQ(mine.events()[0]->request_id(), recorder.events("outer.start")[0]->request_id());
        EXPECT_EQ(mine.events()[0]->parent_id(), recorder.events("outer.start")[0]->span_id());
      }
      EXPECT_EQ(inherited.times(), 2U);
    });
    async.end();
    outer.reset();
  }
  EXPECT_THAT(recorder.names(), ElementsAre("outer.start", "async.start", "async.stop", "outer.stop"));
}

// Without handlers, async_end() has a shorter path. It is the first call of the library in the child.
TEST(Fork, LeavesAnAsyncSpanThatNoHandlerTakesToTheParent) {
  nopspan::keep_open_spans(true);
  AsyncSpan async{"async"};
  ASSERT_TRUE(async);
  expect_in_child([&] {
    const std::uint64_t before = nopspan::stats().inherited;
    async.end();
    EXPECT_EQ(nopspan::stats().inherited, before + 1);
  });
  async.end();
  nopspan::keep_open_spans(false);
}

TEST(Fork, InsideASpanLeavesNoContextIfAnotherThreadOfTheChildEndsIt) {
  const Recorder recorder(Recorder::span_events({"outer", "work"}));
  std::optional<Span> outer(std::in_place, "outer");
  expect_in_child([&] {
    std::optional<AsyncSpan> later;
    std::thread([&] {
      outer.reset();
      later.emplace("work", Context());
    }).join();
    EXPECT_TRUE(Context::current().empty());
    const Span span{"work"};
    EXPECT_EQ(recorder.events("work.start")[1]->parent_id(), 0U);
    EXPECT_NE(span_id(span), std::to_string(later->context().span_id()));
  });
}

TEST(Fork, LeavesTheFirstTokenOfASpanToTheParentToo) {
  const Recorder recorder{"gen_ai.stream.first_token"};
  Span span{nopspan::llm::stream};
  expect_in_child([&] {
    span.first_token();
    EXPECT_EQ(recorder.size(), 0U);
  });
  span.first_token();
  EXPECT_EQ(recorder.size(), 1U);
}

TEST(Fork, KeepsTheContextOfAScope) {
  const ContextScope here{Context::with_request_id("order-7")};
  EXPECT_THAT(lines_of_child([](const auto& write) { write(nopspan::request_id()); }), ElementsAre("order-7"));
}

// A collector adds up the counts of all processes.
TEST(Fork, GivesTheChildNoCountsOfTheParent) {
  const auto count_one = [] { const ContextScope scope{Context::with_request_id("")}; };
  count_one();
  count_one();
  EXPECT_GE(nopspan::stats().invalid_ids, 2U);
  expect_in_child([&] {
    count_one();
    EXPECT_EQ(nopspan::stats().invalid_ids, 1U);
  });
}

TEST(Fork, InsideAHandlerLeavesAWorkingRegistry) {
  std::string problem = "not called";
  attach_ok("forks", "a.b", [&](const Event&) {
    problem = in_child([] {
      attach_ok("child", "c.d", [](const Event&) {});
      nopspan::execute("c.d");
      detach_ok("child");
    });
  });
  nopspan::execute("a.b");
  detach_ok("forks");
  EXPECT_THAT(problem, IsEmpty());
}

// A forked child must be able to do all this, whatever the parent's other threads were doing.
void use_everything() {
  int calls = 0;
  attach_ok("child", "work.stop", [&](const Event&) { ++calls; });
  { const Span span{"work"}; }
  detach_ok("child");
  EXPECT_EQ(calls, 1);
  nopspan::set_log_sink({});
  nopspan::Name::intern("a.childs.name");
  EXPECT_FALSE(nopspan::make_request_id().empty());
}

TEST(Fork, WhileAnotherThreadRunsAHandlerDoesNotDeadlockTheChild) {
  Halt halt;
  attach_ok("slow", "a.b", [&](const Event&) { halt.here(); });
  std::thread emitter([] { nopspan::execute("a.b"); });
  EXPECT_TRUE(halt.is_reached());
  expect_in_child([] {
    use_everything();
    // No thread of the child runs the handler, so detach() does not wait.
    detach_ok("slow");
  });
  halt.release();
  emitter.join();
  detach_ok("slow");
}

TEST(Fork, WhileAnotherThreadDestroysAHandlerDoesNotHangTheChild) {
  Halt halt;
  attach_ok("slow", "a.b", [kept = std::shared_ptr<Halt>(&halt, [](Halt* at) { at->here(); })](const Event&) {});
  std::thread destroyer([] { detach_ok("slow"); });
  EXPECT_TRUE(halt.is_reached());
  expect_in_child([] {
    attach_ok("slow", "a.b", [](const Event&) {});
    detach_ok("slow");
  });
  halt.release();
  destroyer.join();
}

TEST(Fork, WhileOtherThreadsEmitAndWriteTheRegistryDoesNotDeadlockTheChild) {
  if (kAddressSanitizer || kThreadSanitizer) {
    GTEST_SKIP() << "the sanitizers' allocators have locks that fork() leaves behind (gcc 12)";
  }
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  threads.emplace_back([&] {
    while (!stop) {
      attach_ok("busy", "work.start", [](const Event&) {});
      detach_ok("busy");
    }
  });
  threads.emplace_back([&] {
    while (!stop) nopspan::set_log_sink([](nopspan::LogLevel, std::string_view) {});
  });
  threads.emplace_back([&] {
    for (int i = 0; !stop; ++i) {
      const Span span{"work"};
      nopspan::Name::intern("name." + std::to_string(i % 1000));
      Context::from_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=1");
    }
  });
  for (int i = 0; i < 30 && !HasFailure(); ++i) expect_in_child(use_everything);
  stop = true;
  for (std::thread& thread : threads) thread.join();
  nopspan::set_log_sink({});
}

TEST(Fork, OfAForkGivesEachProcessItsOwnSpans) {
  const Recorder recorder{"work.start", "work.stop"};
  expect_in_child([&] {
    const Span child{"work"};
    expect_in_child([&] {
      { const Span grandchild{"work"}; }
      EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.start", "work.stop"));
      EXPECT_EQ(recorder.events()[1]->parent_id(), recorder.events()[0]->span_id());
    });
  });
}

}  // namespace
