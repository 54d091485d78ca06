// SPDX-License-Identifier: Apache-2.0
// Finds the awaiter of an awaitable as co_await does: by a member operator co_await, a free one, or itself.
#ifndef NOPSPAN_DETAIL_AWAITER_H
#define NOPSPAN_DETAIL_AWAITER_H

#include <type_traits>
#include <utility>

namespace nopspan::detail {

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

}  // namespace nopspan::detail

#endif  // NOPSPAN_DETAIL_AWAITER_H
