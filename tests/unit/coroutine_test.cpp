// SPDX-License-Identifier: Apache-2.0
// Contexts in coroutines (C++20). The scheduler below is the smallest one that can interleave coroutines, move them
// between threads and fail.
#include "recorded.h"

#include <nopspan/coroutine.h>
#include <nopspan/span.h>

#include <coroutine>
#include <exception>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using nopspan::RequestId;

std::string current() { return nopspan::request_id(); }
Context named(std::string_view id) { return Context::with_request_id(id); }

// A coroutine that starts eagerly, is resumed by hand, and keeps its exception.
struct Task {
  struct promise_type : nopspan::CoroutinePromise {
    Task get_return_object() { return Task{std::coroutine_handle<promise_type>::from_promise(*this)}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { thrown = std::current_exception(); }
    std::exception_ptr thrown;
  };

  explicit Task(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&&) = delete;
  ~Task() {
    if (handle_) handle_.destroy();
  }
  void resume() const { handle_.resume(); }
  [[nodiscard]] bool done() const { return handle_.done(); }
  [[nodiscard]] std::exception_ptr thrown() const { return handle_.promise().thrown; }

 private:
  std::coroutine_handle<promise_type> handle_;
};

TEST(Coroutine, TwoOnOneThreadKeepTheirContextsApart) {
  std::vector<std::string> seen;
  const auto work = [&](std::string id) -> Task {
    const auto scope = co_await nopspan::context_scope(named(id));
    for (int i = 0; i < 3; ++i) {
      seen.push_back(id + " sees " + current());
      co_await std::suspend_always();
    }
    seen.push_back(id + " sees " + current());
  };
  const ContextScope thread{named("thread")};
  const Task a = work("a");
  const Task b = work("b");
  while (!a.done()) {
    EXPECT_EQ(current(), "thread");
    a.resume();
    EXPECT_EQ(current(), "thread");
    b.resume();
  }
  EXPECT_EQ(current(), "thread");
  EXPECT_EQ(seen.size(), 8U);
  for (const std::string& line : seen) EXPECT_EQ(line.front(), line.back()) << line;
}

TEST(Coroutine, TakesItsContextToWhicheverThreadResumesIt) {
  std::vector<std::string> seen;
  const auto work = [&]() -> Task {
    const auto scope = co_await nopspan::context_scope(named("mine"));
    for (int i = 0; i < 3; ++i) {
      co_await std::suspend_always();
      seen.push_back(current());
    }
  };
  const Task task = work();
  EXPECT_EQ(current(), "");
  for (int i = 0; i < 3; ++i) {
    std::thread([&] {
      const ContextScope pool{named("pool")};
      task.resume();
      EXPECT_EQ(current(), "pool");
    }).join();
  }
  EXPECT_TRUE(task.done());
  EXPECT_THAT(seen, ElementsAre("mine", "mine", "mine"));
}

TEST(Coroutine, MakesSpansChildrenOfItsOwn) {
  const Recorder recorder{"request.start", "request.stop", "step.start"};
  const auto work = [&]() -> Task {
    AsyncSpan request{"request"};
    const auto scope = co_await nopspan::context_scope(request.context());
    co_await std::suspend_always();
    { const Span step{"step"}; }
    co_await std::suspend_always();
    { const Span step{"step"}; }
    request.end();
  };
  const Task a = work();
  const Task b = work();
  std::thread([&] { b.resume(); }).join();
  a.resume();
  std::thread([&] { a.resume(); }).join();
  b.resume();
  const auto requests = recorder.events("request.start");
  const auto steps = recorder.events("step.start");
  ASSERT_EQ(requests.size(), 2U);
  ASSERT_EQ(steps.size(), 4U);
  EXPECT_THAT(steps[0], IsChildOf(requests[1]));
  EXPECT_THAT(steps[1], IsChildOf(requests[0]));
  EXPECT_THAT(steps[2], IsChildOf(requests[0]));
  EXPECT_THAT(steps[3], IsChildOf(requests[1]));
  EXPECT_EQ(recorder.events("request.stop").size(), 2U);
}

TEST(Coroutine, RestoresTheScopeAroundANestedOne) {
  std::vector<std::string> seen;
  const auto work = [&]() -> Task {
    seen.push_back(current());
    {
      const auto outer = co_await nopspan::context_scope(named("outer"));
      seen.push_back(current());
      {
        const auto inner = co_await nopspan::context_scope(named("inner"));
        co_await std::suspend_always();
        seen.push_back(current());
      }
      seen.push_back(current());
      co_await std::suspend_always();
      seen.push_back(current());
    }
    seen.push_back(current());
    co_await std::suspend_always();
    seen.push_back(current());
  };
  const ContextScope thread{named("thread")};
  const Task task = work();
  while (!task.done()) {
    EXPECT_EQ(current(), "thread");
    task.resume();
  }
  EXPECT_THAT(seen, ElementsAre("thread", "outer", "inner", "outer", "outer", "thread", "thread"));
}

TEST(Coroutine, WithoutAContextOfItsOwnHasTheThreads) {
  std::vector<std::string> seen;
  const auto work = [&]() -> Task {
    seen.push_back(current());
    co_await std::suspend_always();
    seen.push_back(current());
  };
  const Task task = work();
  const ContextScope thread{named("thread")};
  task.resume();
  EXPECT_THAT(seen, ElementsAre("", "thread"));
}

TEST(Coroutine, DestroyedWhileSuspendedLeavesTheThreadAsItIs) {
  const Recorder recorder{"request.stop"};
  const Counted wrong(&nopspan::Stats::wrong_thread);
  const auto work = []() -> Task {
    const AsyncSpan request{"request"};
    const auto outer = co_await nopspan::context_scope(request.context());
    const auto inner = co_await nopspan::context_scope(named("inner"));
    co_await std::suspend_always();
    ADD_FAILURE();
  };
  const ContextScope thread{named("thread")};
  {
    const Task task = work();
    EXPECT_EQ(current(), "thread");
  }
  EXPECT_EQ(current(), "thread");
  {
    Task task = work();
    std::thread([moved = std::move(task)] {}).join();  // destroyed on a thread that never ran it
  }
  EXPECT_EQ(current(), "thread");
  EXPECT_EQ(wrong.times(), 0U);
  EXPECT_EQ(recorder.size(), 2U);  // both coroutines were abandoned
}

struct RefusesToSuspend {
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<>) const { throw std::runtime_error("refused"); }
  void await_resume() const noexcept {}
};

TEST(Coroutine, KeepsItsContextWhenAnAwaitThrows) {
  std::vector<std::string> seen;
  const auto work = [&]() -> Task {
    const auto scope = co_await nopspan::context_scope(named("mine"));
    try {
      co_await RefusesToSuspend();
    } catch (const std::runtime_error& error) {
      seen.emplace_back(error.what());
      seen.push_back(current());
    }
    co_await RefusesToSuspend();
  };
  const ContextScope thread{named("thread")};
  const Task task = work();
  EXPECT_TRUE(task.done());
  EXPECT_THROW(std::rethrow_exception(task.thrown()), std::runtime_error);
  EXPECT_EQ(current(), "thread");
  EXPECT_THAT(seen, ElementsAre("refused", "mine"));
}

// Awaitables of every shape. Each returns the value it was made with, and records the context that was current where it
// ran.
struct Ready {
  int value;
  bool await_ready() const noexcept { return true; }
  void await_suspend(std::coroutine_handle<>) const noexcept { ADD_FAILURE(); }
  int await_resume() const noexcept { return value; }
};
struct ChangesItsMind {
  int value;
  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<>) const noexcept {
    EXPECT_EQ(current(), "thread");  // not the coroutine's context, because the coroutine is about to be suspended
    return false;
  }
  int await_resume() const noexcept {
    EXPECT_EQ(current(), "mine");
    return value;
  }
};
struct ByMember {
  int value;
  Ready operator co_await() const noexcept { return Ready{value}; }
};
struct ByRvalueMember {
  int value;
  Ready operator co_await() && noexcept { return Ready{value}; }
};
struct ByFreeOperator {
  int value;
};
Ready operator co_await(const ByFreeOperator& awaitable) noexcept { return Ready{awaitable.value}; }
struct MoveOnly {
  explicit MoveOnly(int number) : value(number) {}
  MoveOnly(MoveOnly&&) = default;
  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<>) const noexcept { return false; }
  int await_resume() const noexcept { return value; }
  int value;
};
struct GivesAReference {
  int& value;
  bool await_ready() const noexcept { return true; }
  void await_suspend(std::coroutine_handle<>) const noexcept {}
  int& await_resume() const noexcept { return value; }
};

TEST(Coroutine, AwaitsEveryKindOfAwaitable) {
  int sum = 0;
  const auto work = [&]() -> Task {
    const auto scope = co_await nopspan::context_scope(named("mine"));
    sum += co_await Ready{1};
    sum += co_await ChangesItsMind{2};
    sum += co_await ByMember{4};
    sum += co_await ByRvalueMember{8};
    sum += co_await ByFreeOperator{16};
    sum += co_await MoveOnly{32};
    const ByFreeOperator lvalue{64};
    sum += co_await lvalue;
    ByMember member{128};
    sum += co_await member;
    Ready ready{256};
    sum += co_await ready;
    int target = 0;
    co_await GivesAReference{target} = 512;
    sum += target;
    EXPECT_EQ(current(), "mine");
  };
  const ContextScope thread{named("thread")};
  const Task task = work();
  ASSERT_TRUE(task.done());
  if (task.thrown()) std::rethrow_exception(task.thrown());
  EXPECT_EQ(sum, 1023);
  EXPECT_EQ(current(), "thread");
}

// A child coroutine that is awaited by symmetric transfer, and that returns to its awaiter the same way.
struct Lazy {
  struct promise_type : nopspan::CoroutinePromise {
    Lazy get_return_object() { return Lazy{std::coroutine_handle<promise_type>::from_promise(*this)}; }
    std::suspend_always initial_suspend() noexcept { return {}; }
    struct Final {
      bool await_ready() const noexcept { return false; }
      std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> self) const noexcept {
        return self.promise().awaiter;
      }
      void await_resume() const noexcept {}
    };
    Final final_suspend() noexcept { return {}; }
    void return_value(int result) { value = result; }
    void unhandled_exception() { thrown = std::current_exception(); }
    std::coroutine_handle<> awaiter;
    std::exception_ptr thrown;
    int value = 0;
  };
  struct Awaiter {
    std::coroutine_handle<promise_type> handle;
    bool await_ready() const noexcept { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> awaiter) const noexcept {
      handle.promise().awaiter = awaiter;
      return handle;
    }
    int await_resume() const {
      if (handle.promise().thrown) std::rethrow_exception(handle.promise().thrown);
      return handle.promise().value;
    }
  };
  explicit Lazy(std::coroutine_handle<promise_type> made) : handle(made) {}
  Lazy(Lazy&& other) noexcept : handle(std::exchange(other.handle, nullptr)) {}
  Lazy& operator=(Lazy&&) = delete;
  ~Lazy() {
    if (handle) handle.destroy();
  }
  Awaiter operator co_await() const noexcept { return Awaiter{handle}; }
  std::coroutine_handle<promise_type> handle;
};

TEST(Coroutine, ChangesContextsOverSymmetricTransfer) {
  std::vector<std::string> seen;
  const auto child = [&](int depth) -> Lazy {
    seen.push_back("child enters " + current());
    const auto scope = co_await nopspan::context_scope(named("child" + std::to_string(depth)));
    co_await std::suspend_never();
    seen.push_back("child has " + current());
    if (depth == 2) throw std::runtime_error("deep");
    co_return depth;
  };
  const auto parent = [&]() -> Task {
    const auto scope = co_await nopspan::context_scope(named("parent"));
    const int one = co_await child(1);
    seen.push_back("parent has " + current());
    try {
      co_await child(2);
    } catch (const std::runtime_error&) {
      seen.push_back("parent has " + current());
    }
    EXPECT_EQ(one, 1);
  };
  const ContextScope thread{named("thread")};
  const Task task = parent();
  ASSERT_TRUE(task.done());
  if (task.thrown()) std::rethrow_exception(task.thrown());
  EXPECT_EQ(current(), "thread");
  EXPECT_THAT(seen, ElementsAre("child enters thread", "child has child1", "parent has parent", "child enters thread",
                                "child has child2", "parent has parent"));
}

TEST(Coroutine, ThatSuspendsInAChildLeavesTheThreadsContext) {
  std::vector<std::string> seen;
  std::coroutine_handle<> innermost;
  struct Park {
    std::coroutine_handle<>& where;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle) const noexcept { where = handle; }
    void await_resume() const noexcept {}
  };
  const auto child = [&]() -> Lazy {
    const auto scope = co_await nopspan::context_scope(named("child"));
    co_await Park{innermost};
    seen.push_back(current());
    co_return 1;
  };
  const auto parent = [&]() -> Task {
    const auto scope = co_await nopspan::context_scope(named("parent"));
    co_await child();
    seen.push_back(current());
  };
  const Task task = parent();
  EXPECT_EQ(current(), "");
  std::thread([&] {
    const ContextScope pool{named("pool")};
    innermost.resume();
    EXPECT_EQ(current(), "pool");
  }).join();
  EXPECT_TRUE(task.done());
  EXPECT_THAT(seen, ElementsAre("child", "parent"));
}

TEST(Coroutine, ThatIsResumedFromAwaitSuspendOnAnotherThreadIsSafe) {
  // The other thread may run the coroutine to completion before await_suspend() returns here.
  struct Elsewhere {
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle) const {
      std::thread([handle] { handle.resume(); }).join();
    }
    void await_resume() const noexcept {}
  };
  std::vector<std::string> seen;
  const auto work = [&]() -> Task {
    const auto scope = co_await nopspan::context_scope(named("mine"));
    co_await Elsewhere();
    seen.push_back(current());
    co_await Elsewhere();
    seen.push_back(current());
  };
  const ContextScope thread{named("thread")};
  const Task task = work();
  EXPECT_EQ(current(), "thread");
  EXPECT_THAT(seen, ElementsAre("mine", "mine"));
}

// A promise with its own await_transform, and with yield_value(), which bypasses await_transform.
struct Generator {
  struct promise_type : nopspan::CoroutinePromise {
    Generator get_return_object() { return Generator{std::coroutine_handle<promise_type>::from_promise(*this)}; }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    template <class T>
    auto await_transform(T&& awaitable) {
      return transform(std::forward<T>(awaitable));
    }
    auto yield_value(int number) {
      value = number;
      return transform(std::suspend_always());
    }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
    int value = 0;
  };
  explicit Generator(std::coroutine_handle<promise_type> made) : handle(made) {}
  Generator(Generator&& other) noexcept : handle(std::exchange(other.handle, nullptr)) {}
  Generator& operator=(Generator&&) = delete;
  ~Generator() {
    if (handle) handle.destroy();
  }
  std::coroutine_handle<promise_type> handle;
};

TEST(Coroutine, ThatYieldsPutsTheThreadsContextBack) {
  const auto count = [](int n) -> Generator {
    const auto scope = co_await nopspan::context_scope(named("generator"));
    for (int i = 0; i < n; ++i) {
      EXPECT_EQ(current(), "generator");
      co_yield i;
    }
  };
  const ContextScope thread{named("thread")};
  const Generator generator = count(3);
  std::vector<int> values;
  for (generator.handle.resume(); !generator.handle.done(); generator.handle.resume()) {
    EXPECT_EQ(current(), "thread");
    values.push_back(generator.handle.promise().value);
  }
  EXPECT_THAT(values, ElementsAre(0, 1, 2));
  EXPECT_EQ(current(), "thread");
}

TEST(FixedString, ComparesUnambiguouslyInCpp20) {
  const RequestId id(std::string_view("order-7"));
  EXPECT_TRUE(id == "order-7" && "order-7" == id && id == id && id == std::string("order-7"));
  EXPECT_TRUE(id != "x" && std::string_view("x") != id);
}

}  // namespace
