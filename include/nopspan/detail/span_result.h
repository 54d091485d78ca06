// SPDX-License-Identifier: Apache-2.0
// How span() runs its work: with the Span& or without, with a plain result or one made by result().
#ifndef NOPSPAN_DETAIL_SPAN_RESULT_H
#define NOPSPAN_DETAIL_SPAN_RESULT_H

#include <nopspan/detail/config.h>
#include <nopspan/detail/span_calls.h>

#include <type_traits>
#include <utility>
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE {
class Span;
}

namespace NOPSPAN_NAMESPACE::detail {

// result() and result_ref() return it: the value, and the callable that sets fields of the stop event.
template <class T, class Stop>
struct Result {
  T value;
  Stop stop;

  template <class F>
  void operator()(F& fields) {
    if constexpr (std::is_invocable_v<Stop&, const std::remove_reference_t<T>&, F&>) {
      stop(static_cast<const std::remove_reference_t<T>&>(value), fields);
    } else {
      stop(fields);
    }
  }
  T take() { return static_cast<T&&>(value); }
};
template <class Stop>
struct Result<void, Stop> {
  Stop stop;

  template <class F>
  void operator()(F& fields) {
    stop(fields);
  }
  void take() {}
};

template <class R>
struct result_traits {
  static constexpr bool wrapped = false;
  using type = R;
};
template <class T, class Stop>
struct result_traits<Result<T, Stop>> {
  static constexpr bool wrapped = true;
  using type = T;
};

template <class Fn, class S>
decltype(auto) call(Fn& work, S& span) {
  constexpr bool kTakesSpan = std::is_invocable_v<Fn&, S&>;
  constexpr bool kIsWork = std::disjunction_v<std::is_invocable<Fn&, S&>, std::is_invocable<Fn&>>;
  static_assert(kIsWork, "the work of a span is a callable that takes nothing, or the span");
  if constexpr (kTakesSpan) {
    return work(span);
  } else if constexpr (kIsWork) {
    return work();
  }
}
template <class Fn, class S = Span>
using called_t = decltype(call(std::declval<Fn&>(), std::declval<S&>()));
template <class Fn, class S = Span>
using span_result_t = typename result_traits<called_t<Fn, S>>::type;

struct SpanAccess {
#if NOPSPAN_CATCHES
  // Called inside catch (...): records that the exception that is being handled ends the span, and rethrows it. Always
  // inlined, because clang otherwise keeps the span in memory on the disabled path.
  template <class S>
  [[noreturn]] __attribute__((__always_inline__)) static void rethrow(S& span) {
    if (span_caught(span.state_)) span_rethrow();
    throw;
  }
#endif
};

// A clause `catch (const AtThrow&)` before `catch (...)` catches nothing. Its type notes where exceptions are thrown,
// while capture_stacktraces() is on. No compiler emits this type, because nobody defines the destructor: the library
// defines its symbol. With -fno-rtti every object emits it, so such a clause then has a type that does nothing.
class NOPSPAN_VISIBLE ThrowWatcher {
 public:
  virtual ~ThrowWatcher();
};
struct NeverThrown {};
#if defined(__GXX_RTTI) && NOPSPAN_CATCHES
using AtThrow = ThrowWatcher;
#else
using AtThrow = NeverThrown;
#endif

// S is Span or AsyncSpan. They are not complete here.
template <class F, class S, class Fn>
inline span_result_t<Fn, S> run(S& scope, Fn& work) {
#if NOPSPAN_CATCHES
  try {
#endif
    if constexpr (result_traits<called_t<Fn, S>>::wrapped) {
      auto result = call(work, scope);
      scope.template with<F>(result);
      return result.take();
    } else {
      return call(work, scope);
    }
#if NOPSPAN_CATCHES
  } catch (const AtThrow&) {
    __builtin_unreachable();
  } catch (...) {
    SpanAccess::rethrow(scope);
  }
#endif
}

// Ends an AsyncSpan that was not moved away, and that has not ended yet.
template <class S>
struct EndAsync {
  S& span;
  ~EndAsync() { span.end(); }
};

}  // namespace NOPSPAN_NAMESPACE::detail

#endif  // NOPSPAN_DETAIL_SPAN_RESULT_H
