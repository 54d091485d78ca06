// SPDX-License-Identifier: Apache-2.0
/// @file
/// Contexts in coroutines. Each time a coroutine resumes, its context becomes current on the thread that resumes it.
/// Each time it suspends, the thread's own context is restored.
///
/// @code
/// #include <nopspan/coroutine.h>
/// #include <nopspan/span.h>
///
/// #include <coroutine>
///
/// struct Task {
///   struct promise_type : nopspan::CoroutinePromise {
///     Task get_return_object() { return {}; }
///     std::suspend_never initial_suspend() noexcept { return {}; }
///     std::suspend_never final_suspend() noexcept { return {}; }
///     void return_void() {}
///     void unhandled_exception() {}
///   };
/// };
///
/// Task answer(const char* traceparent) {
///   const nopspan::Context caller = nopspan::Context::from_traceparent(traceparent);
///   auto scope = co_await nopspan::context_scope(caller);  // current in this coroutine from here on
///   co_await nopspan::co_span("llm.chat", [](nopspan::AsyncSpan& span) {  // a span around what it awaits
///     span.set("model", "small");
///     return std::suspend_always{};
///   });
/// }
/// @endcode
///
/// A coroutine whose promise is a CoroutinePromise inherits the context that is current where it is called. So the
/// spans of a coroutine that another one awaits are in the caller's request. The inherited context is current:
///
/// - from the beginning of the body, if the coroutine is awaited by one with such a promise, and that resumes it by
///   symmetric transfer (await_suspend() returns its handle). CoroutinePromise must then be the first base class of the
///   promise. It is also current from there if the coroutine does not suspend before its body;
/// - otherwise from the first co_await that suspended. To have it from the beginning of the body in all cases, let the
///   promise return `transform(std::suspend_always{})` from initial_suspend().
///
/// g++ 12 has a bug: it destroys twice what a closure captured by copy, if the closure is an argument inside a co_await
/// expression. So capture by reference there, or name the closure first: `auto work = [to] { … };`, and then
/// `co_await co_span("mail.send", work);`.
///
/// The library may read the memory of a coroutine that has not been destroyed. So call destroy() before that memory is
/// given back or used again, also if the coroutine has run to its end.
///
/// The header compiles as C++17 too, without `<coroutine>`. Only C++20 code can use what it defines.
///
/// Thread safety: a coroutine runs on one thread at a time. Only that thread may use the objects in its frame.
#ifndef NOPSPAN_COROUTINE_H
#define NOPSPAN_COROUTINE_H

#include <nopspan/context.h>
#include <nopspan/detail/config.h>
#include <nopspan/detail/span_result.h>
#include <nopspan/span.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#if defined(__cpp_impl_coroutine)
#include <coroutine>
#endif
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE {

namespace detail {
struct CoroutineAccess;
}

/// The context of one coroutine. It lives in the coroutine's frame. CoroutinePromise has one. A program with a promise
/// or awaiter of its own may use it directly.
class CoroutineContext {
 public:
  /// No context yet: enter() does nothing.
  CoroutineContext() noexcept = default;
  /// Restores the thread's own context if the coroutine's is current.
  ~CoroutineContext() {
    check_ = 0;
    leave();
  }
  CoroutineContext(const CoroutineContext&) = delete;             ///< not copied
  CoroutineContext& operator=(const CoroutineContext&) = delete;  ///< not copied

  /// Makes `context` the coroutine's context, and current on this thread. Returns the coroutine's previous context.
  NOPSPAN_API Context exchange(const Context& context) noexcept NOPSPAN_IN_SHELL(return {});
  /// Restores the thread's own context. Call it before the coroutine suspends.
  NOPSPAN_API void leave() noexcept NOPSPAN_IN_SHELL();
  /// Makes the coroutine's context current on this thread. Call it after the coroutine resumed.
  NOPSPAN_API void enter() noexcept NOPSPAN_IN_SHELL();
  /// Whether enter() was called after the last leave().
  [[nodiscard]] bool entered() const noexcept { return entered_.frame != nullptr; }

 private:
  friend class CoroutinePromise;
  friend class CoroutineScope;
  friend struct detail::CoroutineAccess;

  NOPSPAN_API void inherit() noexcept NOPSPAN_IN_SHELL();  // the current context, if there is one

  std::uintptr_t check_ = 0;   // of the context of a promise: made from its address, so that it can be recognized
  void* coroutine_ = nullptr;  // its address; null until it has first been suspended or started by transfer
  bool armed_ = false;         // a context was set
  bool is_inherited_ = false;  // the context ends with the coroutine's body, and not with a scope
  detail::EnteredContext entered_;
  Context context_;
};

/// Makes a context the coroutine's context until the scope ends, then restores the previous one. It is a local variable
/// of the coroutine. `co_await context_scope(context)` returns it.
class [[nodiscard]] CoroutineScope {
 public:
  /// Makes `context` the context of the coroutine that has `owner` in its frame.
  CoroutineScope(CoroutineContext& owner, const Context& context) noexcept
      : owner_(owner), nested_(owner.armed_), inherited_(owner.is_inherited_), before_(owner.exchange(context)) {}
  /// Restores the coroutine's previous context.
  ~CoroutineScope() {
    const bool running = owner_.entered();  // false if the coroutine is destroyed while it is suspended
    owner_.leave();
    owner_.armed_ = nested_;
    owner_.is_inherited_ = inherited_;
    owner_.context_ = before_;
    if (running) owner_.enter();
  }
  CoroutineScope(const CoroutineScope&) = delete;             ///< a scope is not copied
  CoroutineScope& operator=(const CoroutineScope&) = delete;  ///< a scope is not copied

 private:
  CoroutineContext& owner_;
  bool nested_;
  bool inherited_;
  Context before_;
};

namespace detail {

// Finds the awaiter of an awaitable as co_await does: by a member operator co_await, a free one, or itself.
template <class T>
auto member_co_await([[maybe_unused]] T&& awaitable, int)
#if defined(__cpp_impl_coroutine)
    -> decltype(std::forward<T>(awaitable).operator co_await()) {
  return std::forward<T>(awaitable).operator co_await();
}
#else
    -> std::enable_if_t<sizeof(T) == 0> {
}
#endif
template <class T>
T&& member_co_await(T&& awaitable, long) {
  return std::forward<T>(awaitable);
}
template <class T>
auto free_co_await([[maybe_unused]] T&& awaitable, int)
#if defined(__cpp_impl_coroutine)
    -> decltype(operator co_await(std::forward<T>(awaitable))) {
  return operator co_await(std::forward<T>(awaitable));
}
#else
    -> std::enable_if_t<sizeof(T) == 0> {
}
#endif
template <class T>
auto free_co_await(T&& awaitable, long) -> decltype(member_co_await(std::forward<T>(awaitable), 0)) {
  return member_co_await(std::forward<T>(awaitable), 0);
}
template <class T>
using awaiter_t = decltype(free_co_await(std::declval<T>(), 0));

struct CoroutineAccess {
  // Called when the coroutine is about to be suspended. Makes a copy of its context current until leave_context().
  static EnteredContext suspend(CoroutineContext& context, void* coroutine) noexcept {
    context.coroutine_ = coroutine;
    if (!context.entered()) return {};
    context.leave();
    return enter_context(context.context_);
  }
  // Does nothing if there is no context of a promise at this place, or if the body of its coroutine has begun.
  static void start(CoroutineContext& context, void* coroutine) noexcept;
};

// Called before a coroutine is resumed by symmetric transfer. If it has a CoroutinePromise and its body has not begun,
// the context that it inherited becomes current.
NOPSPAN_API void start_coroutine(void* coroutine) noexcept NOPSPAN_IN_SHELL();

// Exists while await_suspend() of an awaitable runs. The jobs and calls that it starts belong to the coroutine. That
// may already run on another thread meanwhile, or be destroyed, so a copy of its context is current.
class Suspending {
 public:
  Suspending(CoroutineContext& context, void* coroutine) noexcept
      : entered_(CoroutineAccess::suspend(context, coroutine)) {}
  ~Suspending() { leave_context(entered_); }
  Suspending(const Suspending&) = delete;
  Suspending& operator=(const Suspending&) = delete;

 private:
  EnteredContext entered_;
};

// Wraps an awaitable: leaves the coroutine's context before the coroutine suspends, enters it after it resumed.
template <class T>
class ContextAwaiter {
 public:
  ContextAwaiter(CoroutineContext& context, T&& awaitable)
      : context_(context), awaiter_(free_co_await(std::forward<T>(awaitable), 0)) {}

  bool await_ready() { return awaiter_.await_ready(); }
  template <class Handle>
  auto await_suspend(Handle handle) {
    // Leave before the inner call. When that returns, the coroutine may already run on another thread, or be destroyed.
    CoroutineContext& context = context_;
    const auto suspend = [&] {
      const Suspending here(context, handle.address());
      return awaiter_.await_suspend(handle);
    };
#if NOPSPAN_CATCHES
    try {
#endif
      if constexpr (std::is_same_v<decltype(suspend()), bool>) {
        const bool suspended = suspend();
        if (!suspended) context.enter();
        return suspended;
      } else if constexpr (std::is_void_v<decltype(suspend())>) {
        suspend();
      } else {
        auto next = suspend();
        start_coroutine(next.address());
        return next;
      }
#if NOPSPAN_CATCHES
    } catch (...) {
      context.enter();  // the coroutine continues with the exception
      throw;
    }
#endif
  }
  decltype(auto) await_resume() {
    context_.enter();
    return awaiter_.await_resume();
  }

 private:
  CoroutineContext& context_;
  awaiter_t<T> awaiter_;
};

// What co_await context_scope() and co_await co_span() are in a coroutine that does not know them. Its promise looks
// for an awaiter, and asio's for a callable that takes a frame. Both find one error.
struct OwnPromiseOnly {
  template <class Frame = void>
  static constexpr auto report() noexcept {
    static_assert(
        sizeof(Frame*) == 0,
        "co_span() and context_scope() need a promise that is derived from nopspan::CoroutinePromise, and that "
        "calls transform() in an await_transform() of its own. In a coroutine of asio use nopspan::spawn_span(), "
        "and in one of another library nopspan::traced()");
    return nullptr;
  }
  template <class Frame = void>
  auto await_ready() const noexcept {
    return report<Frame>() == nullptr;
  }
  template <class Handle>
  void await_suspend(Handle) const noexcept {}
  static std::nullptr_t await_resume() noexcept { return nullptr; }  // NOLINT(modernize-use-nodiscard)
  template <class Frame>
  auto operator()(Frame* /*unused*/) const noexcept {
    return report<Frame>();
  }
};

struct EnterScope : OwnPromiseOnly {
  Context context;
};
struct EnterScopeAwaiter {
  CoroutineContext& owner;
  Context context;
  [[nodiscard]] static bool await_ready() noexcept { return true; }
  template <class Handle>
  void await_suspend(Handle) const noexcept {}
  CoroutineScope await_resume() const noexcept { return CoroutineScope(owner, context); }
};

}  // namespace detail

/// In a coroutine whose promise is a CoroutinePromise, `auto scope = co_await context_scope(context);` makes `context`
/// the coroutine's context until the scope ends. This does not suspend the coroutine.
inline detail::EnterScope context_scope(ContextRef context) noexcept { return {{}, context.context()}; }

namespace detail {

// What co_span() returns.
template <class Work>
struct [[nodiscard]] CoSpan : OwnPromiseOnly {
  RequestSpan begun;
  Work work;
};
template <class T>
inline constexpr bool is_co_span = false;
template <class Work>
inline constexpr bool is_co_span<CoSpan<Work>> = true;

template <class Work>
class CoSpanAwaiter {
 public:
  CoSpanAwaiter(CoroutineContext& owner, CoSpan<Work>&& made)
      : span_(std::move(made.begun.span)),
        work_(std::move(made.work)),
        awaited_(begin(made.begun.context)),
        awaiter_(owner, std::forward<Awaited>(awaited_)) {}
  CoSpanAwaiter(const CoSpanAwaiter&) = delete;
  CoSpanAwaiter& operator=(const CoSpanAwaiter&) = delete;

  bool await_ready() { return awaiter_.await_ready(); }
  template <class Handle>
  auto await_suspend(Handle handle) {
    return awaiter_.await_suspend(handle);
  }
  decltype(auto) await_resume() {
    const EndAsync<AsyncSpan> end{span_};
#if NOPSPAN_CATCHES
    try {
#endif
      return awaiter_.await_resume();
#if NOPSPAN_CATCHES
    } catch (const AtThrow&) {
      __builtin_unreachable();
    } catch (...) {
      SpanAccess::rethrow(span_);
    }
#endif
  }

 private:
  using Awaited = called_t<Work, AsyncSpan>;

  Awaited begin(const Context& context) {
    const ContextScope here{context};
#if NOPSPAN_CATCHES
    try {
#endif
      return call(work_, span_);
#if NOPSPAN_CATCHES
    } catch (...) {
      span_.caught();
      throw;
    }
#endif
  }

  AsyncSpan span_;
  Work work_;
  Awaited awaited_;
  ContextAwaiter<Awaited> awaiter_;
};

template <class N, class Work>
CoSpan<std::decay_t<Work>> make_co_span(N& name, ContextRef parent, Work&& work) {
  return {{}, RequestSpan{name, parent}, std::forward<Work>(work)};
}
template <class N, class M, class Work>
CoSpan<std::decay_t<Work>> make_co_span(N& name, ContextRef parent, M&& start, Work&& work) {
  return {{}, RequestSpan{name, parent, start}, std::forward<Work>(work)};
}
template <class N, class M, class Work>
CoSpan<std::decay_t<Work>> make_co_span(N& name, ContextRef parent, SpanOptions options, M&& metadata, Work&& work) {
  return {{}, RequestSpan{name, parent, options, metadata}, std::forward<Work>(work)};
}

}  // namespace detail

/// In a coroutine whose promise is a CoroutinePromise: `co_await co_span(name, work)` runs `work` inside an AsyncSpan,
/// awaits what `work` returns (a task, or another awaitable), and returns the result of that. The span is a child of
/// the current context, and `work` and the coroutines that it calls have the context of the span. It ends when the
/// awaited task has ended, or where `work` moved it to; see async_span(). An exception of the task ends it as
/// `NAME.exception`. If the coroutine is destroyed while it waits, the span is abandoned.
///
/// Before `work` there may be options for the span, and metadata for its start, as for async_span(). Before these there
/// may be a parent, for example extract(headers).
template <class N, class First, class... Rest>
auto co_span(N&& name, First&& first, Rest&&... rest) {
  if constexpr (!detail::is_name<N>) {
    detail::report_wrong_name<N>();
  } else if constexpr (!detail::are_ordered_with_parent<2, First, Rest...>()) {
    detail::report_order<First, Rest...>();
  } else if constexpr (detail::is_parent<First>) {
    return detail::make_co_span(name, first, std::forward<Rest>(rest)...);
  } else {
    return detail::make_co_span(name, Context::current(), std::forward<First>(first), std::forward<Rest>(rest)...);
  }
}

namespace detail {

// An executor whose work has `context` as its current context. E is any_io_executor of asio or Boost.Asio.
template <class E>
class ContextExecutor {
 public:
  ContextExecutor(const E& executor, const Context& context) noexcept : executor_(executor), context_(context) {}
  [[nodiscard]] const E& inner() const noexcept { return executor_; }

  template <class F>
  void execute(F&& work) const {
    executor_.execute(wrap(context_, std::forward<F>(work)));
  }
  template <class P>
  [[nodiscard]] auto query(const P& property) const -> decltype(std::declval<const E&>().query(property)) {
    return executor_.query(property);
  }
  template <class P>
  [[nodiscard]] auto require(const P& property) const
      -> std::enable_if_t<std::is_same_v<decltype(std::declval<const E&>().require(property)), E>, ContextExecutor> {
    return {executor_.require(property), context_};
  }
  template <class P>
  [[nodiscard]] auto prefer(const P& property) const
      -> std::enable_if_t<std::is_same_v<decltype(std::declval<const E&>().prefer(property)), E>, ContextExecutor> {
    return {executor_.prefer(property), context_};
  }
  friend bool operator==(const ContextExecutor& a, const ContextExecutor& b) noexcept {
    return a.executor_ == b.executor_ && __builtin_memcmp(&a.context_, &b.context_, sizeof(Context)) == 0;
  }
  friend bool operator!=(const ContextExecutor& a, const ContextExecutor& b) noexcept { return !(a == b); }

 private:
  E executor_;
  Context context_;
};

// The executor itself, or the one inside if it is a ContextExecutor. The target() of asio 1.22 does not check the type,
// and without RTTI its target_type() is of another type.
template <class E>
E without_context(const E& executor) {
  static const auto& type = E(ContextExecutor<E>(executor, Context())).target_type();
  if (!(executor.target_type() == type)) return executor;
  return executor.template target<ContextExecutor<E>>()->inner();
}

#if defined(__cpp_impl_coroutine)
// After the end of a spawned coroutine, its executor's context is still current where asio resumes the caller. So this
// makes the caller's context current there. asio keeps it until it has resumed the caller.
class CallerContext {
 public:
  explicit CallerContext(const Context& caller) noexcept : context_(caller) {}
  CallerContext(CallerContext&& other) noexcept
      : context_(other.context_), entered_(std::exchange(other.entered_, EnteredContext())) {}
  CallerContext& operator=(CallerContext&&) = delete;
  ~CallerContext() { leave_context(entered_); }

  // A variable of the spawned coroutine, which ends with it.
  struct AtEnd {
    CallerContext* caller;  // null: nothing is spawned
    ~AtEnd() {
      if (caller != nullptr) caller->entered_ = enter_context(caller->context_);
    }
  };

 private:
  Context context_;
  EnteredContext entered_;
};

template <class Work>
using task_t = std::decay_t<called_t<Work, AsyncSpan>>;
// A coroutine of the type that `work` returns. If it is destroyed while it waits, the span is abandoned.
template <class Task, class Work>
Task run_traced(AsyncSpan span, Work work, CallerContext* caller = nullptr) {
  const CallerContext::AtEnd at_end{caller};
  using Result = decltype(std::declval<awaiter_t<Task>&>().await_resume());
#if NOPSPAN_CATCHES
  try {
#endif
    if constexpr (std::is_void_v<Result>) {
      co_await call(work, span);
      span.end();
    } else {
      Result result = co_await call(work, span);
      span.end();
      co_return result;
    }
#if NOPSPAN_CATCHES
  } catch (const AtThrow&) {
    __builtin_unreachable();
  } catch (...) {
    SpanAccess::rethrow(span);
  }
#endif
}
// The function that asio spawns.
template <class Work>
struct Spawned {
  task_t<Work> operator()() {
    return run_traced<task_t<Work>>(std::move(made.begun.span), std::move(made.work), &caller);
  }

  CoSpan<Work> made;
  CallerContext caller;
};
template <class Task, class = void>
inline constexpr bool is_asio_task = false;
template <class Task>
inline constexpr bool is_asio_task<Task, std::void_t<typename Task::executor_type>> = true;
template <class Executor, class E, class Token, class Work>
decltype(auto) spawn(E& executor, Token&& token, CoSpan<Work>&& made) {
  if constexpr (std::is_convertible_v<E&, Executor>) {
    const ContextExecutor<Executor> inside(without_context<Executor>(executor), made.begun.context);
    return co_spawn(inside, Spawned<Work>{std::move(made), CallerContext(Context::current())},
                    std::forward<Token>(token));
  } else {
    const Executor own = executor.get_executor();
    return spawn<Executor>(own, std::forward<Token>(token), std::move(made));
  }
}
#endif

}  // namespace detail

#if defined(__cpp_impl_coroutine)
/// A span in coroutines of asio or Boost.Asio, whose promise is not a CoroutinePromise. Runs `work` inside an
/// AsyncSpan, and spawns the asio::awaitable that it returns: the result is that of `co_spawn(executor, awaitable,
/// token)`. The other arguments are as for co_span(). The span's context is current whenever the awaitable runs on its
/// own executor, on whichever thread, and also in what it spawns on asio::this_coro::executor. It is not current after
/// `co_await post(bind_executor(pool, use_awaitable))`, where asio resumes the awaitable on another executor: use
/// `spawn_span(pool, …)` for that part. A coroutine that awaits the result continues in its own context.
///
/// An exception of the task ends the span, also the operation_aborted of one that asio cancels. To report that as
/// cancelled, `work` catches it, calls span.cancel(), and throws it again. A call takes about twice the time of
/// co_spawn(), also if no tracer is attached, because asio keeps the context with the executor. docs/developers.md has
/// an example.
template <class Executor, class Token, class N, class First, class... Rest>
decltype(auto) spawn_span(Executor&& executor, Token&& token, N&& name, First&& first, Rest&&... rest) {
  using Made = decltype(co_span(std::forward<N>(name), std::forward<First>(first), std::forward<Rest>(rest)...));
  if constexpr (detail::is_co_span<Made>) {
    using Task = detail::task_t<decltype(Made::work)>;
    static_assert(detail::is_asio_task<Task>, "the work of spawn_span() returns an asio::awaitable");
    if constexpr (detail::is_asio_task<Task>) {
      return detail::spawn<typename Task::executor_type>(
          executor, std::forward<Token>(token),
          co_span(std::forward<N>(name), std::forward<First>(first), std::forward<Rest>(rest)...));
    }
  }
}

/// A span in coroutines of other libraries, whose promise is not a CoroutinePromise: `co_await traced(name, parent,
/// work)` runs `work` inside an AsyncSpan, and awaits the task that it returns. The result is a task of the same type.
/// The other arguments are as for co_span(). The span's context is not current in the task, because nothing says when
/// that runs. So `work` takes the AsyncSpan&, and gives span.context_or(parent) to what it calls.
template <class N, class... Rest>
auto traced(N&& name, ContextRef parent, Rest&&... rest) {
  auto made = detail::make_co_span(name, parent, std::forward<Rest>(rest)...);
  return detail::run_traced<detail::task_t<decltype(made.work)>>(std::move(made.begun.span), std::move(made.work));
}
#endif

/// A base class for promise types. It has the coroutine's context, which is at first the one that is current where the
/// coroutine is called. Every co_await of the coroutine leaves the context when the coroutine suspends, and
/// enters it when the coroutine resumes. The context is still current in the await_suspend() of an awaitable, so a job
/// that is wrapped there (wrap()) and a message that is sent there (inject()) belong to the coroutine. So does another
/// coroutine without a context that is resumed there. Begin such work for all requests, such as that of a queue, with
/// `co_await context_scope(Context())`.
class CoroutinePromise {
 public:
  /// Inherits the current context, if there is one.
  CoroutinePromise() noexcept { context_.inherit(); }

  /// Called by co_await.
  template <class T>
  auto await_transform(T&& awaitable) {
    return transform(std::forward<T>(awaitable));
  }
  /// For a promise that has an await_transform() of its own: call this with the awaitable that it would return, and
  /// return the result. Do the same in yield_value(), because co_yield does not call await_transform().
  template <class T>
  auto transform(T&& awaitable) {
    if constexpr (std::is_same_v<std::decay_t<T>, detail::EnterScope>) {
      return detail::EnterScopeAwaiter{context_, awaitable.context};
    } else if constexpr (detail::is_co_span<std::decay_t<T>>) {
      return detail::CoSpanAwaiter<decltype(awaitable.work)>(context_, std::forward<T>(awaitable));
    } else {
      return detail::ContextAwaiter<T>(context_, std::forward<T>(awaitable));
    }
  }

 private:
  CoroutineContext context_;
};

}  // namespace NOPSPAN_NAMESPACE

#endif  // NOPSPAN_COROUTINE_H
