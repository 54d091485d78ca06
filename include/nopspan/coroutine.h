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
///   nopspan::AsyncSpan span{"llm.chat", caller};
///   auto scope = co_await nopspan::context_scope(span.context_or(caller));  // current in this coroutine from here on
///   co_await std::suspend_always{};  // and again after this line, on the thread that resumes the coroutine
///   span.end();
/// }
/// @endcode
///
/// The header compiles as C++17, because it does not include `<coroutine>`. Only C++20 code can use what it defines.
///
/// Thread safety: a coroutine runs on one thread at a time. Only that thread may use the objects in its frame.
#ifndef NOPSPAN_COROUTINE_H
#define NOPSPAN_COROUTINE_H

#include <nopspan/config.h>
#include <nopspan/context.h>
#include <nopspan/detail/awaiter.h>

#include <type_traits>
#include <utility>

namespace nopspan {

/// The context of one coroutine. It lives in the coroutine's frame. CoroutinePromise has one. A program with a promise
/// or awaiter of its own may use it directly.
class CoroutineContext {
 public:
  /// No context yet: enter() does nothing.
  CoroutineContext() noexcept = default;
  /// Restores the thread's own context if the coroutine's is current.
  ~CoroutineContext() { leave(); }
  CoroutineContext(const CoroutineContext&) = delete;             ///< not copied
  CoroutineContext& operator=(const CoroutineContext&) = delete;  ///< not copied

  /// Makes `context` the coroutine's context, and current on this thread. Returns the coroutine's previous context.
  NOPSPAN_API Context exchange(const Context& context) noexcept;
  /// Restores the thread's own context. Call it before the coroutine suspends.
  NOPSPAN_API void leave() noexcept;
  /// Makes the coroutine's context current on this thread. Call it after the coroutine resumed.
  NOPSPAN_API void enter() noexcept;
  /// Whether enter() was called after the last leave().
  [[nodiscard]] bool entered() const noexcept { return entered_.frame != nullptr; }

 private:
  friend class CoroutineScope;
  Context context_;
  bool armed_ = false;  // a context was set
  detail::EnteredContext entered_;
};

/// Makes a context the coroutine's context until the scope ends, then restores the previous one. It is a local variable
/// of the coroutine. `co_await context_scope(context)` returns it.
class [[nodiscard]] CoroutineScope {
 public:
  /// Makes `context` the context of the coroutine that has `owner` in its frame.
  CoroutineScope(CoroutineContext& owner, const Context& context) noexcept
      : owner_(owner), nested_(owner.armed_), before_(owner.exchange(context)) {}
  /// Restores the coroutine's previous context.
  ~CoroutineScope() {
    const bool running = owner_.entered();  // false if the coroutine is destroyed while it is suspended
    owner_.leave();
    owner_.armed_ = nested_;
    owner_.context_ = before_;
    if (running) owner_.enter();
  }
  CoroutineScope(const CoroutineScope&) = delete;             ///< a scope is not copied
  CoroutineScope& operator=(const CoroutineScope&) = delete;  ///< a scope is not copied

 private:
  CoroutineContext& owner_;
  bool nested_;
  Context before_;
};

namespace detail {

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
    context.leave();
#if NOPSPAN_EXCEPTIONS
    try {
#endif
      if constexpr (std::is_same_v<decltype(awaiter_.await_suspend(handle)), bool>) {
        const bool suspended = awaiter_.await_suspend(handle);
        if (!suspended) context.enter();
        return suspended;
      } else {
        return awaiter_.await_suspend(handle);
      }
#if NOPSPAN_EXCEPTIONS
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

struct EnterScope {
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
inline detail::EnterScope context_scope(const Context& context) noexcept { return {context}; }

/// A base class for promise types. Every co_await of the coroutine leaves the context when the coroutine suspends, and
/// enters it when the coroutine resumes.
class CoroutinePromise {
 public:
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
    } else {
      return detail::ContextAwaiter<T>(context_, std::forward<T>(awaitable));
    }
  }

 private:
  CoroutineContext context_;
};

}  // namespace nopspan

#endif  // NOPSPAN_COROUTINE_H
