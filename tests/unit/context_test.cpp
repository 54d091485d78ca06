// SPDX-License-Identifier: Apache-2.0
// Contexts: current, attached, inherited, and sent to other threads.
#include "recorded.h"

#include <nopspan/context.h>
#include <nopspan/execute.h>
#include <nopspan/span.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <queue>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

namespace {

static_assert(std::is_trivially_copyable_v<Context> && sizeof(Context) <= 128);
static_assert(!std::is_copy_constructible_v<ContextScope> && !std::is_move_constructible_v<ContextScope>);

TEST(Context, IsEmptyWhereThereIsNone) {
  EXPECT_TRUE(Context().empty());
  EXPECT_TRUE(Context::current().empty());
  EXPECT_TRUE(nopspan::request_id().empty());
  EXPECT_TRUE(Context().traceparent().empty());
  EXPECT_TRUE(Context().tracestate().empty());
}

TEST(Context, IsEmptyInASpanThatIsNotRecorded) {
  const Span span{"work"};
  EXPECT_TRUE(Context::current().empty());
  EXPECT_TRUE(span.context().empty());
  EXPECT_TRUE(nopspan::request_id().empty());
}

TEST(Context, OfTheCurrentSpanIsTheSpans) {
  const SpanRecorder recorder("work");
  const Span span{"work"};
  EXPECT_EQ(Context::current().span_id(), id_of(span));
  EXPECT_EQ(Context::current().request_id(), span.request_id());
  EXPECT_EQ(nopspan::request_id(), span.request_id());
  EXPECT_EQ(recorder.start()->request_id(), span.request_id().view());
  EXPECT_EQ(recorder.start()->span_id(), id_of(span));
}

TEST(Context, StaysCurrentWithTheGateDown) {
  const Context context = Context::with_request_id("order-7");
  {
    const ContextScope here{context};
    EXPECT_EQ(nopspan::request_id(), "order-7");
    const Span span{"work"};
    EXPECT_EQ(span.request_id(), "order-7");
    {
      const ContextScope inner{Context::with_request_id("order-8")};
      EXPECT_EQ(nopspan::request_id(), "order-8");
    }
    EXPECT_EQ(nopspan::request_id(), "order-7");
  }
  EXPECT_TRUE(nopspan::request_id().empty());
}

TEST(Context, OfAScopeIsTheParentOfSpans) {
  const Recorder recorder{"first.start", "second.start", "inner.start"};
  {
    const ContextScope here{Context::with_request_id("order-7")};
    { const Span first{"first"}; }
    const Span second{"second"};
    const Span inner{"inner"};
  }
  const auto events = events_of(recorder, 3);
  EXPECT_EQ(events[0]->request_id(), "order-7");
  EXPECT_EQ(events[0]->parent_id(), 0U);
  EXPECT_EQ(events[1]->request_id(), "order-7");
  EXPECT_EQ(events[1]->parent_id(), 0U);
  EXPECT_THAT(events[2], IsChildOf(events[1]));
}

TEST(Context, EmptyBeginsANewRequestInside) {
  const Recorder recorder{"outer.start", "inner.start"};
  {
    const Span outer{"outer"};
    const ContextScope nothing{Context()};
    EXPECT_TRUE(nopspan::request_id().empty());
    const Span inner{"inner"};
  }
  const auto events = events_of(recorder, 2);
  EXPECT_NE(events[1]->request_id(), events[0]->request_id());
  EXPECT_EQ(events[1]->parent_id(), 0U);
  EXPECT_FALSE(events[1]->is_orphan());  // the attached context states that there is no parent
}

TEST(Context, IsNoLongerCurrentWhenAScopeAroundItHasEnded) {
  const Counted left(&nopspan::Stats::scopes_left);
  const ContextScope all{Context::with_request_id("all")};
  std::optional<ContextScope> outer(std::in_place, Context::with_request_id("outer"));
  std::optional<ContextScope> inner(std::in_place, Context::with_request_id("inner"));
  outer.reset();
  EXPECT_EQ(left.times(), 1U);
  EXPECT_EQ(nopspan::request_id(), "all");
  const ContextScope next{Context::with_request_id("next")};  // in the frame that `inner` had
  inner.reset();
  EXPECT_EQ(nopspan::request_id(), "next");
}

TEST(Context, OfScopesAfterOneThatAnotherThreadHasEnded) {
  auto ended = std::make_unique<ContextScope>(Context::with_request_id("ended"));
  std::thread([&] { ended.reset(); }).join();
  {
    const ContextScope first{Context::with_request_id("first")};
    const ContextScope second{Context::with_request_id("second")};
    {
      const ContextScope third{Context::with_request_id("third")};
      EXPECT_EQ(nopspan::request_id(), "third");
    }
    EXPECT_EQ(nopspan::request_id(), "second");
  }
  EXPECT_TRUE(nopspan::request_id().empty());
}

TEST(Context, OfMoreScopesThanABlockHolds) {
  std::vector<std::unique_ptr<ContextScope>> scopes;
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 100; ++i) {
      scopes.push_back(std::make_unique<ContextScope>(Context::with_request_id(std::to_string(i))));
    }
    for (int i = 99; i >= 0; --i) {
      EXPECT_EQ(nopspan::request_id(), std::to_string(i));
      scopes.pop_back();
    }
  }
  EXPECT_TRUE(nopspan::request_id().empty());
}

TEST(Context, OfAnUntracedSpanIsStillThatOfTheScope) {
  const ContextScope here{Context::with_request_id("order-7")};
  const Span span{"work"};
  EXPECT_EQ(Context::current().request_id(), "order-7");
}

TEST(Context, InheritsLabels) {
  const Recorder recorder{"outer.start", "inner.start", "cache.hit"};
  {
    const Span outer{"outer", [](Fields& f) { f.engine("vllm").model("small").tenant("acme"); }};
    const Span inner{"inner"};
    nopspan::execute("cache.hit");
  }
  const auto events = events_of(recorder, 3);
  EXPECT_THAT(events[0], HasMetadata("model", "small"));
  EXPECT_THAT(events[1], AllOf(HasMetadata("engine", "vllm"), HasMetadata("model", "small")));
  EXPECT_THAT(events[1], HasMetadata("tenant", "acme"));
  EXPECT_TRUE(events[2]->metadata().empty());
}

// One worker thread, as in a thread pool.
class Pool {
 public:
  Pool() : worker_([this] { run(); }) {}
  ~Pool() {
    submit(nullptr);
    worker_.join();
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  void submit(std::function<void()> job) {
    const std::lock_guard<std::mutex> lock(mutex_);
    jobs_.push(std::move(job));
    ready_.notify_one();
  }

 private:
  void run() {
    while (true) {
      std::unique_lock<std::mutex> lock(mutex_);
      ready_.wait(lock, [this] { return !jobs_.empty(); });
      const std::function<void()> job = std::move(jobs_.front());
      jobs_.pop();
      lock.unlock();
      if (!job) return;
      job();
    }
  }

  std::mutex mutex_;
  std::condition_variable ready_;
  std::queue<std::function<void()>> jobs_;
  std::thread worker_;
};

TEST(Context, TravelsToThePoolsThreads) {
  const Recorder recorder{"request.start", "job.start"};
  std::vector<nopspan::RequestId> ids;
  {
    Pool pool;
    for (int i = 0; i < 3; ++i) {
      const Span request{"request"};
      ids.push_back(request.request_id());
      pool.submit([context = Context::current()] {
        EXPECT_TRUE(nopspan::request_id().empty());  // the previous job left nothing behind
        const ContextScope scope{context};
        const Span job{"job"};
      });
    }
  }
  const auto requests = recorder.events("request.start");
  const auto jobs = events_of(recorder, 3, "job.start");
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(jobs[i]->request_id(), ids[i].view());
    EXPECT_THAT(jobs[i], IsChildOf(requests[i]));
  }
}

TEST(Context, TravelsToThePoolsThreadsWithTheGateDown) {
  nopspan::RequestId seen;
  {
    Pool pool;
    const ContextScope here{Context::with_request_id("order-7")};
    pool.submit([&seen, context = Context::current()] {
      const ContextScope scope{context};
      seen = nopspan::request_id();
    });
  }
  EXPECT_EQ(seen, "order-7");
}

TEST(FixedString, ConvertsToWhatTakesStrings) {
  const nopspan::RequestId id(std::string_view("order-7"));
  const std::string string = id;
  const std::string_view view = id;
  EXPECT_EQ(string, "order-7");
  EXPECT_EQ(view, "order-7");
  EXPECT_STREQ(id.c_str(), "order-7");
  EXPECT_TRUE(id == "order-7" && "order-7" == id && id != "order-8" && id == nopspan::RequestId(view));
  EXPECT_EQ(nopspan::FixedString<3>(std::string_view("order")), "ord");
}

}  // namespace
