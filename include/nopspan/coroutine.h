// SPDX-License-Identifier: Apache-2.0
// Contexts in coroutines: restored at each resume, on whatever thread, and the thread's own put back at each suspend.
//
//   struct Task { struct promise_type : nopspan::CoroutinePromise { … }; };
//
//   Task answer(Request request) {
//     nopspan::AsyncSpan span{"llm.chat", nopspan::Context::from_traceparent(request.traceparent)};
//     auto scope = co_await nopspan::context_scope(span.context());   // current in this coroutine from here on
//     co_await model.run();                                            // and again here, whichever thread resumes it
//   }
//
// The header is C++17: it needs no <coroutine>, and what it defines is inert until C++20 uses it.
#ifndef NOPSPAN_COROUTINE_H
#define NOPSPAN_COROUTINE_H

#include <nopspan/config.h>
#include <nopspan/context.h>

#include <type_traits>
#include <utility>

namespace nopspan {

// The context of one coroutine. Lives in the coroutine's frame; used by one thread at a time, as the coroutine is.
class CoroutineContext {
 public:
  CoroutineContext() noexcept = default;
  ~CoroutineContext() { leave(); }
  CoroutineContext(const CoroutineContext&) = delete;
  CoroutineContext& operator=(const CoroutineContext&) = delete;

  // Makes `context` the coroutine's, and current on this thread; returns the one before.
  NOPSPAN_API Context exchange(const Context& context) noexcept;
  // Before a suspend: puts the thread's own context back.
  NOPSPAN_API void leave() noexcept;
  // After a resume: makes the coroutine's context current on this thread.
  NOPSPAN_API void enter() noexcept;
  // Whether it is current on a thread now.
  [[nodiscard]] bool entered() const noexcept { return entered_; }

 private:
  friend class CoroutineScope;
  detail::Frame frame_;
  bool armed_ = false;    // a context was set
  bool entered_ = false;  // it is on a thread's stack now
};

// Keeps a context the coroutine's until the end of its scope, then restores the one before. A local of the coroutine.
class [[nodiscard]] CoroutineScope {
 public:
  CoroutineScope(CoroutineContext& owner, const Context& context) noexcept
      : owner_(owner), nested_(owner.armed_), before_(owner.exchange(context)) {}
  ~CoroutineScope() {
    const bool running = owner_.entered();  // not, if the coroutine is destroyed where it was suspended
    owner_.leave();
    owner_.armed_ = nested_;
    owner_.frame_.context = before_;
    if (running) owner_.enter();
  }
  CoroutineScope(const CoroutineScope&) = delete;
  CoroutineScope& operator=(const CoroutineScope&) = delete;

 private:
  CoroutineContext& owner_;
  bool nested_;
  Context before_;
};

namespace detail {

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

// Wraps an awaitable: leaves the coroutine's context before it suspends, enters it again after it resumed.
template <class T>
class ContextAwaiter {
 public:
  ContextAwaiter(CoroutineContext& context, T&& awaitable)
      : context_(context), awaiter_(free_co_await(std::forward<T>(awaitable), 0)) {}

  bool await_ready() { return awaiter_.await_ready(); }
  template <class Handle>
  auto await_suspend(Handle handle) {
    // Before the inner call: when that returns, the coroutine may already run elsewhere, or be gone.
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
      context.enter();  // the coroutine goes on with the exception
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

// In a coroutine whose promise is a CoroutinePromise: `auto scope = co_await context_scope(context);` makes it the
// coroutine's until the scope ends; it does not suspend.
inline detail::EnterScope context_scope(const Context& context) noexcept { return {context}; }

// A base for promise types: every co_await of the coroutine restores and puts back the context. A promise that has an
// await_transform of its own calls transform() for what it returns; so does yield_value(), which goes round
// await_transform.
class CoroutinePromise {
 public:
  template <class T>
  auto await_transform(T&& awaitable) {
    return transform(std::forward<T>(awaitable));
  }
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
