// SPDX-License-Identifier: Apache-2.0
// How span() runs its work: with the Span& or without, with a plain result or one made by result().
#ifndef NOPSPAN_DETAIL_SPAN_RESULT_H
#define NOPSPAN_DETAIL_SPAN_RESULT_H

#include <nopspan/config.h>
#include <nopspan/detail/span_calls.h>

#include <type_traits>
#include <utility>

namespace nopspan {
class Span;
}

namespace nopspan::detail {

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

template <class Fn>
decltype(auto) call(Fn& work, Span& span) {
  if constexpr (std::is_invocable_v<Fn&, Span&>) {
    return work(span);
  } else {
    return work();
  }
}
template <class Fn>
using called_t = decltype(call(std::declval<Fn&>(), std::declval<Span&>()));
template <class Fn>
using span_result_t = typename result_traits<called_t<Fn>>::type;

struct SpanAccess {
  // Called inside catch (...): records that the exception that is being handled ends the span.
  template <class S>
  static void caught(S& span) noexcept {
    if (__builtin_expect(span.state_ != nullptr, 0)) span_exception(span.state_);
  }
};

// S is always Span, which is not complete here.
template <class F, class S, class Fn>
inline span_result_t<Fn> run(S& scope, Fn& work) {
#if NOPSPAN_EXCEPTIONS
  try {
#endif
    if constexpr (result_traits<called_t<Fn>>::wrapped) {
      auto result = call(work, scope);
      scope.template with<F>(result);
      return result.take();
    } else {
      return call(work, scope);
    }
#if NOPSPAN_EXCEPTIONS
  } catch (...) {
    SpanAccess::caught(scope);
    throw;
  }
#endif
}

}  // namespace nopspan::detail

#endif  // NOPSPAN_DETAIL_SPAN_RESULT_H
