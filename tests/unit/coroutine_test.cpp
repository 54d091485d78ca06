// SPDX-License-Identifier: Apache-2.0
// Contexts in coroutines (C++20). The scheduler below is the smallest one that can interleave coroutines, move them
// between threads and fail.
#include "recorded.h"

#include <nopspan/coroutine.h>
#include <nopspan/execute.h>
#include <nopspan/probes.h>

#include <coroutine>
#include <exception>
#include <thread>

namespace {

using nopspan::RequestId;

std::string current() { return nopspan::request_id(); }
Context named(std::string_view id) { return Context::with_request_id(id); }

// Owns a coroutine.
struct Owner {
  explicit Owner(std::coroutine_handle<> made) : handle(made) {}
  Owner(Owner&& other) noexcept : handle(std::exchange(other.handle, nullptr)) {}
  Owner& operator=(Owner&&) = delete;
  ~Owner() {
    if (handle) handle.destroy();
  }
  std::coroutine_handle<> handle;
};
template <class Promise>
std::coroutine_handle<Promise> handle_of(Promise& promise) {
  return std::coroutine_handle<Promise>::from_promise(promise);
}

// What most awaitables have in common.
struct Suspends {
  bool await_ready() const noexcept { return false; }
  void await_resume() const noexcept {}
};

// A coroutine that starts eagerly, is resumed by hand, and keeps its exception.
struct Task : Owner {
  struct promise_type : nopspan::CoroutinePromise {
    Task get_return_object() { return Task(*this); }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { thrown = std::current_exception(); }
    std::exception_ptr thrown;
  };
  explicit Task(promise_type& made) : Owner(handle_of(made)), promise(&made) {}
  void resume() const { handle.resume(); }
  [[nodiscard]] bool done() const { return handle.done(); }
  [[nodiscard]] std::exception_ptr thrown() const { return promise->thrown; }
  promise_type* promise;
};

class Coroutine : public ::testing::Test {
 public:
  void see() { seen.push_back(current()); }

  std::vector<std::string> seen;  // the contexts that were current
  std::coroutine_handle<> parked;
};
using InheritedContext = Coroutine;

TEST_F(Coroutine, TwoOnOneThreadKeepTheirContextsApart) {
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

TEST_F(Coroutine, GivesItsContextToWhatItStartsWhenItSuspends) {
  struct Pool : Suspends {
    Coroutine& test;
    void await_suspend(std::coroutine_handle<> handle) {
      test.see();
      test.parked = handle;
    }
  };
  struct Declined : Pool {
    bool await_suspend(std::coroutine_handle<>) {
      test.see();
      return false;
    }
  };
  struct Transfer : Pool {
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> handle) {
      Pool::await_suspend(handle);
      return std::noop_coroutine();
    }
  };
  struct AtOnce : Pool {
    void await_suspend(std::coroutine_handle<> handle) { handle.resume(); }
  };
  const auto work = [&]() -> Task {
    const auto scope = co_await nopspan::context_scope(named("mine"));
    co_await Pool{{}, *this};
    co_await Declined{{{}, *this}};
    seen.push_back("after: " + current());
    co_await Transfer{{{}, *this}};
    co_await AtOnce{{{}, *this}};
    seen.push_back("after: " + current());
  };
  const Counted left(&nopspan::Stats::scopes_left);
  const Task task = work();
  EXPECT_EQ(current(), "");
  {
    const ContextScope thread{named("thread")};
    parked.resume();
    EXPECT_EQ(current(), "thread");
    parked.resume();
    EXPECT_EQ(current(), "thread");
  }
  EXPECT_TRUE(task.done());
  EXPECT_THAT(seen, ElementsAre("mine", "mine", "after: mine", "mine", "after: mine"));
  EXPECT_EQ(left.times(), 0U);
}

TEST_F(Coroutine, MakesSpansChildrenOfItsOwn) {
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
  const auto requests = events_of(recorder, 2, "request.start");
  const auto steps = events_of(recorder, 4, "step.start");
  EXPECT_THAT(steps[0], IsChildOf(requests[1]));
  EXPECT_THAT(steps[1], IsChildOf(requests[0]));
  EXPECT_THAT(steps[2], IsChildOf(requests[0]));
  EXPECT_THAT(steps[3], IsChildOf(requests[1]));
  EXPECT_EQ(recorder.events("request.stop").size(), 2U);
}

TEST_F(Coroutine, RestoresTheScopeAroundANestedOne) {
  const auto work = [&]() -> Task {
    see();
    {
      const auto outer = co_await nopspan::context_scope(named("outer"));
      see();
      {
        const auto inner = co_await nopspan::context_scope(named("inner"));
        co_await std::suspend_always();
        see();
      }
      see();
      co_await std::suspend_always();
      see();
    }
    see();
    co_await std::suspend_always();
    see();
  };
  const ContextScope thread{named("thread")};
  const Task task = work();
  while (!task.done()) {
    EXPECT_EQ(current(), "thread");
    task.resume();
  }
  EXPECT_THAT(seen, ElementsAre("thread", "outer", "inner", "outer", "outer", "thread", "thread"));
}

TEST_F(Coroutine, WithoutAContextOfItsOwnHasTheThreads) {
  const auto work = [&]() -> Task {
    see();
    co_await std::suspend_always();
    see();
  };
  const Task task = work();
  const ContextScope thread{named("thread")};
  task.resume();
  EXPECT_THAT(seen, ElementsAre("", "thread"));
}

TEST_F(Coroutine, DestroyedWhileSuspendedLeavesTheThreadAsItIs) {
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

TEST_F(Coroutine, ThatAnExceptionLeavesEndsItsSpanWithAnException) {
  const Recorder recorder{"request.exception"};
  const auto work = []() -> Task {
    const AsyncSpan request{"request"};
    co_await std::suspend_always();
    throw std::runtime_error("refused");
  };
  Task task = work();
  task.resume();
  ASSERT_EQ(recorder.size(), 1U);
  EXPECT_THAT(recorder.events()[0], HasStatus(Status::exception));
}

struct RefusesToSuspend : Suspends {
  void await_suspend(std::coroutine_handle<>) const { throw std::runtime_error("refused"); }
};

TEST_F(Coroutine, KeepsItsContextWhenAnAwaitThrows) {
  const auto work = [&]() -> Task {
    const auto scope = co_await nopspan::context_scope(named("mine"));
    try {
      co_await RefusesToSuspend();
    } catch (const std::runtime_error& error) {
      seen.emplace_back(error.what());
      see();
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
    EXPECT_EQ(current(), "mine");
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

TEST_F(Coroutine, AwaitsEveryKindOfAwaitable) {
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
template <class Promise>
struct LazyOf : Owner {
  struct promise_type : Promise {
    LazyOf get_return_object() { return LazyOf(*this); }
    std::suspend_always initial_suspend() noexcept { return {}; }
    struct Final : Suspends {
      std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> self) const noexcept {
        return self.promise().awaiter;
      }
    };
    Final final_suspend() noexcept { return {}; }
    void return_value(int result) { value = result; }
    void unhandled_exception() { thrown = std::current_exception(); }
    std::coroutine_handle<> awaiter = std::noop_coroutine();
    std::exception_ptr thrown;
    int value = 0;
  };
  struct Awaiter {
    promise_type& promise;
    bool await_ready() const noexcept { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> awaiter) const noexcept {
      promise.awaiter = awaiter;
      return handle_of(promise);
    }
    int await_resume() const {
      if (promise.thrown) std::rethrow_exception(promise.thrown);
      return promise.value;
    }
  };
  explicit LazyOf(promise_type& made) : Owner(handle_of(made)), promise(made) {}
  Awaiter operator co_await() const noexcept { return Awaiter{promise}; }
  promise_type& promise;
};
using Lazy = LazyOf<nopspan::CoroutinePromise>;
struct UnawarePromise {};
using Foreign = LazyOf<UnawarePromise>;  // of a library that does not know nopspan

TEST_F(Coroutine, ChangesContextsOverSymmetricTransfer) {
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
  EXPECT_THAT(seen, ElementsAre("child enters parent", "child has child1", "parent has parent", "child enters parent",
                                "child has child2", "parent has parent"));
}

// Suspends a coroutine and gives its handle to the test.
struct Park {
  std::coroutine_handle<>& where;
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> handle) const noexcept { where = handle; }
  void await_resume() const noexcept {}
};

TEST_F(Coroutine, ThatIsResumedFromAwaitSuspendOnAnotherThreadIsSafe) {
  // The other thread may run the coroutine to completion before await_suspend() returns here.
  struct Elsewhere : Suspends {
    void await_suspend(std::coroutine_handle<> handle) const {
      std::thread([handle] { handle.resume(); }).join();
    }
  };
  const auto work = [&]() -> Task {
    const auto scope = co_await nopspan::context_scope(named("mine"));
    co_await Elsewhere();
    see();
    co_await Elsewhere();
    see();
  };
  const ContextScope thread{named("thread")};
  const Task task = work();
  EXPECT_EQ(current(), "thread");
  EXPECT_THAT(seen, ElementsAre("mine", "mine"));
}

// A promise with its own await_transform, and with yield_value(), which bypasses await_transform.
struct Generator : Owner {
  struct promise_type : nopspan::CoroutinePromise {
    Generator get_return_object() { return Generator(*this); }
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
  explicit Generator(promise_type& made) : Owner(handle_of(made)), promise(made) {}
  promise_type& promise;
};

TEST_F(Coroutine, ThatYieldsPutsTheThreadsContextBack) {
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
    values.push_back(generator.promise.value);
  }
  EXPECT_THAT(values, ElementsAre(0, 1, 2));
  EXPECT_EQ(current(), "thread");
}

TEST(FixedString, ComparesUnambiguouslyInCpp20) {
  const RequestId id(std::string_view("order-7"));
  EXPECT_TRUE(id == "order-7" && "order-7" == id && id == id && id == std::string("order-7"));
  EXPECT_TRUE(id != "x" && std::string_view("x") != id);
}

TEST_F(InheritedContext, IsThatOfTheCoroutineThatAwaits) {
  const Recorder recorder{"answer.start", "retrieve.start", "hit"};
  const auto retrieve = []() -> Lazy {
    { const Span span{"retrieve"}; }
    nopspan::execute("hit");
    co_return 1;
  };
  const auto answer = [&]() -> Task {
    AsyncSpan span{"answer", Context::make()};
    const auto scope = co_await nopspan::context_scope(span.context());
    co_await retrieve();
  };
  const Task task = answer();
  ASSERT_TRUE(task.done());
  ASSERT_THAT(recorder.names(), ElementsAre("answer.start", "retrieve.start", "hit"));
  EXPECT_THAT(recorder.events()[1], IsChildOf(recorder.events()[0]));
  EXPECT_EQ(recorder.events()[2]->request_id(), recorder.events()[0]->request_id());
}

TEST_F(InheritedContext, IsCurrentOnWhicheverThreadResumesTheCoroutine) {
  const auto innermost = [&]() -> Lazy {
    see();
    co_await Park{parked};
    see();
    co_return 1;
  };
  const auto child = [&]() -> Lazy {
    const int result = co_await innermost();
    see();
    co_await Park{parked};
    see();
    co_return result;
  };
  const auto parent = [&]() -> Task {
    const auto scope = co_await nopspan::context_scope(named("parent"));
    co_await child();
    see();
  };
  const ContextScope thread{named("thread")};
  const Task task = parent();
  EXPECT_EQ(current(), "thread");
  for (int i = 0; i < 2; ++i) {
    std::thread([&] {
      const ContextScope pool{named("pool")};
      parked.resume();
      EXPECT_EQ(current(), "pool");
    }).join();
  }
  EXPECT_TRUE(task.done());
  EXPECT_THAT(seen, ElementsAre("parent", "parent", "parent", "parent", "parent"));
}

TEST_F(InheritedContext, IsKnownToEachOfSeveralCoroutinesThatStartLater) {
  const auto child = [&]() -> Lazy {
    see();
    co_return 1;
  };
  const auto parent = [&]() -> Task {
    const auto scope = co_await nopspan::context_scope(named("parent"));
    const Lazy first = child();
    const Lazy second = child();
    const auto inner = co_await nopspan::context_scope(named("inner"));
    co_await second;
    co_await first;
    see();
  };
  const Task task = parent();
  EXPECT_EQ(current(), "");
  EXPECT_THAT(seen, ElementsAre("parent", "parent", "inner"));
}

TEST_F(InheritedContext, EndsWithTheBodyOfTheCoroutine) {
  const Counted left(&nopspan::Stats::scopes_left);
  const auto work = [&]() -> Task {
    co_await std::suspend_always{};
    see();
  };
  const auto make = [&] {
    const ContextScope request{named("request")};
    return work();
  };
  Task task = make();
  task.resume();
  EXPECT_TRUE(task.done());
  EXPECT_EQ(current(), "");
  const ContextScope other{named("other")};
  { const Task destroyed = std::move(task); }
  EXPECT_EQ(current(), "other");
  EXPECT_THAT(seen, ElementsAre("request"));
  EXPECT_EQ(left.times(), 0U);
}

TEST_F(InheritedContext, EndsThoughTheCoroutineIsDestroyedElsewhere) {
  const Counted wrong(&nopspan::Stats::wrong_thread);
  const auto work = []() -> Task { co_await std::suspend_always{}; };
  const auto make = [&] {
    const ContextScope request{named("request")};
    return work();
  };
  for (int i = 0; i < 200; ++i) {
    Task task = make();
    task.resume();
    std::thread destroyer([moved = std::move(task)] {});
    EXPECT_EQ(current(), "");  // looks at the coroutine, which may be destroyed now
    destroyer.join();
    EXPECT_EQ(current(), "");
  }
  EXPECT_EQ(wrong.times(), 0U);
}

TEST_F(InheritedContext, ReturnsAfterAScopeInTheCoroutine) {
  const auto child = [&]() -> Lazy {
    {
      const auto scope = co_await nopspan::context_scope(named("child"));
      co_await Park{parked};
      see();
    }
    see();
    co_return 1;
  };
  const auto parent = [&]() -> Task {
    const auto scope = co_await nopspan::context_scope(named("parent"));
    co_await child();
    see();
  };
  const Task task = parent();
  EXPECT_EQ(current(), "");
  std::thread([&] {
    const ContextScope pool{named("pool")};
    parked.resume();
    EXPECT_EQ(current(), "pool");
  }).join();
  EXPECT_TRUE(task.done());
  EXPECT_THAT(seen, ElementsAre("child", "parent", "parent"));
}

// A task that resumes its awaiter from its own last await_suspend(), and that is started by resume(): without symmetric
// transfer.
struct Nested : Owner, Suspends {
  struct promise_type : nopspan::CoroutinePromise {
    Nested get_return_object() { return Nested(*this); }
    auto initial_suspend() { return transform(std::suspend_always{}); }
    struct Final : Suspends {
      void await_suspend(std::coroutine_handle<promise_type> self) const noexcept { self.promise().awaiter.resume(); }
    };
    Final final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
    std::coroutine_handle<> awaiter;
  };
  explicit Nested(promise_type& made) : Owner(handle_of(made)), promise(made) {}
  void await_suspend(std::coroutine_handle<> awaiter) const {
    promise.awaiter = awaiter;
    handle.resume();
  }
  promise_type& promise;
};

TEST_F(InheritedContext, IsThereFromTheStartIfThePromiseSaysSo) {
  const auto child = [&]() -> Nested {
    see();
    co_return;
  };
  const auto parent = [&]() -> Task {
    const auto scope = co_await nopspan::context_scope(named("parent"));
    co_await child();
    see();
    co_await child();
    see();
  };
  const ContextScope thread{named("thread")};
  const Task task = parent();
  EXPECT_TRUE(task.done());
  EXPECT_EQ(current(), "thread");
  EXPECT_THAT(seen, ElementsAre("parent", "parent", "parent", "parent"));
}

TEST_F(InheritedContext, DoesNotMisleadATransferToAnotherCoroutine) {
  struct Other {
    struct promise_type {
      Other get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
      std::suspend_always initial_suspend() noexcept { return {}; }
      std::suspend_never final_suspend() noexcept { return {}; }
      void return_void() {}
      void unhandled_exception() { std::terminate(); }
    };
    std::coroutine_handle<promise_type> handle;
    bool await_ready() const noexcept { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<>) const noexcept { return handle; }
    void await_resume() const noexcept {}
  };
  struct ToNobody : Suspends {
    std::coroutine_handle<> await_suspend(std::coroutine_handle<>) const noexcept { return std::noop_coroutine(); }
  };
  const auto other = [&]() -> Other {
    see();
    co_return;
  };
  const auto work = [&]() -> Task {
    const auto scope = co_await nopspan::context_scope(named("mine"));
    co_await other();
    co_await ToNobody{};
    see();
  };
  const ContextScope thread{named("thread")};
  const Task task = work();
  EXPECT_EQ(current(), "thread");
  task.resume();
  EXPECT_EQ(current(), "thread");
  task.resume();
  EXPECT_THAT(seen, ElementsAre("thread", "mine"));
}

TEST(CoSpan, IsAroundWhatItAwaits) {
  const Recorder recorder{"answer.start", "answer.stop", "step.start", "after.start"};
  std::coroutine_handle<> parked;
  const auto step = [&]() -> Lazy {
    { const Span span{"step"}; }
    co_await Park{parked};
    { const Span span{"step"}; }
    co_return 7;
  };
  int result = 0;
  const auto work = [&]() -> Task {
    result = co_await nopspan::co_span("answer", [&](AsyncSpan& span) {
      span.set("key", 1);
      return step();
    });
    const Span after{"after"};
  };
  const Task task = [&] {
    const ContextScope request{named("request")};
    return work();
  }();
  EXPECT_THAT(recorder.names(), ElementsAre("answer.start", "step.start"));
  parked.resume();
  EXPECT_TRUE(task.done());
  EXPECT_EQ(current(), "");
  EXPECT_EQ(result, 7);
  ASSERT_THAT(recorder.names(), ElementsAre("answer.start", "step.start", "step.start", "answer.stop", "after.start"));
  const auto events = recorder.events();
  EXPECT_THAT(events[1], IsChildOf(events[0]));
  EXPECT_THAT(events[2], IsChildOf(events[0]));
  EXPECT_THAT(events[3], HasMetadata("key", 1));
  for (const auto& event : events) EXPECT_EQ(event->request_id(), "request");
  EXPECT_EQ(events[4]->parent_id(), 0U);
}

TEST(CoSpan, EndsWithTheExceptionOfTheTask) {
  const SpanRecorder recorder("answer");
  std::string caught;
  const auto fail = []() -> Lazy {
    co_await std::suspend_never{};
    throw std::runtime_error("refused");
  };
  const auto work = [&]() -> Task {
    try {
      co_await nopspan::co_span("answer", named("request"), fail);
    } catch (const std::runtime_error& error) {
      caught = error.what();
    }
    try {
      co_await nopspan::co_span("answer", named("request"), []() -> Lazy { throw std::runtime_error("early"); });
    } catch (const std::runtime_error& error) {
      caught += std::string(" ") + error.what();
    }
  };
  const Task task = work();
  EXPECT_EQ(caught, "refused early");
  EXPECT_THAT(recorder.names(), ElementsAre("answer.start", "answer.exception", "answer.start", "answer.exception"));
  EXPECT_EQ(recorder.exception()->request_id(), "request");
  EXPECT_EQ(current(), "");
}

TEST(CoSpan, TakesAParentOptionsAndMetadata) {
  const SpanRecorder recorder("answer");
  const auto metadata = [](Fields& f) { f.set("key", 1); };
  const nopspan::SpanOptions client{nopspan::SpanKind::client};
  const auto awaited = [] { return Ready{1}; };
  int sum = 0;
  const auto work = [&]() -> Task {
    sum += co_await nopspan::co_span("answer", named("request"), client, metadata, awaited);
    sum += co_await nopspan::co_span("answer", named("request"), metadata, awaited);
    sum += co_await nopspan::co_span("answer", metadata, awaited);
    sum += co_await nopspan::co_span("answer", client, metadata, awaited);
  };
  const Task task = work();
  if (task.thrown()) std::rethrow_exception(task.thrown());
  EXPECT_EQ(sum, 4);
  EXPECT_THAT(recorder.events("answer.stop"), SizeIs(4));
  for (const auto& event : recorder.events("answer.start")) EXPECT_THAT(event, HasMetadata("key", 1));
}

TEST(CoSpan, EndsWhereTheWorkHasMovedItTo) {
  const SpanRecorder recorder("answer");
  AsyncSpan kept;
  const auto work = [&]() -> Task {
    co_await nopspan::co_span("answer", [&](AsyncSpan& span) {
      kept = std::move(span);
      return Ready{1};
    });
  };
  const Task task = work();
  EXPECT_THAT(recorder.names(), ElementsAre("answer.start"));
  kept.end();
  EXPECT_THAT(recorder.names(), ElementsAre("answer.start", "answer.stop"));
}

TEST(CoSpan, OfACoroutineThatIsDestroyedIsAbandoned) {
  const SpanRecorder recorder("answer");
  {
    const auto work = []() -> Task {
      co_await nopspan::co_span("answer", [] { return std::suspend_always{}; });
      ADD_FAILURE();
    };
    const Task task = work();
  }
  EXPECT_THAT(recorder.stop(), HasStatus(Status::cancelled));
}

TEST(Traced, IsASpanAroundATaskOfAnotherLibrary) {
  const SpanRecorder recorder("answer");
  const Context caller = named("order-7");
  std::coroutine_handle<> parked;
  const auto task = [&](Context context) -> Foreign {
    co_await Park{parked};
    EXPECT_EQ(context.request_id(), "order-7");
    if (context.span_id() != 0) throw std::runtime_error("refused");
    co_return 7;
  };
  const auto work = [&]() -> Foreign {
    const auto metadata = [](Fields& f) { f.set("key", 1); };
    const auto right = [&] { return task(caller); };
    const auto wrong = [&](AsyncSpan& span) { return task(span.context()); };
    const int got = co_await nopspan::traced("answer", caller, metadata, right);
    try {
      co_return co_await nopspan::traced("answer", caller, wrong);
    } catch (const std::runtime_error&) {
    }
    co_return got;
  };
  const Foreign all = work();
  all.handle.resume();
  parked.resume();
  EXPECT_THAT(recorder.stop(), HasMetadata("key", 1));
  parked.resume();
  EXPECT_EQ(all.promise.value, 7);
  EXPECT_THAT(recorder.names(), ElementsAre("answer.start", "answer.stop", "answer.start", "answer.exception"));
}

TEST(CoSpan, ForwardsTheTraceThoughNobodyListens) {
  const Context caller = Context::from_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  std::string header;
  const auto child = [&]() -> Lazy {
    header = Context::current().traceparent();
    co_return 1;
  };
  const auto work = [&]() -> Task { co_await nopspan::co_span("answer", caller, child); };
  const Task task = work();
  EXPECT_EQ(header, caller.traceparent());
}

}  // namespace
