// SPDX-License-Identifier: Apache-2.0
// How the functions of the C API read their arguments.
#pragma once

// The header declares these functions cold, so that compilers move the calls out of the application's hot code. Here
// they are compiled for speed.
#define NOPSPAN_C_CALL NOPSPAN_C_API

#include "base/counters.h"

#include <nopspan/c.h>
#include <nopspan/context.h>
#include <nopspan/types.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace nopspan::c {

// No text if the length is that of no object.
inline Text text_of(const char* text, std::size_t size) noexcept {
  if (size == NOPSPAN_NUL) return text;
  return size <= static_cast<std::size_t>(PTRDIFF_MAX) ? Text(text, size) : Text();
}

// How many items there are. 0, and counted, if it was a negative number.
inline std::size_t count_of(std::size_t given) noexcept {
  if (given <= static_cast<std::size_t>(PTRDIFF_MAX)) return given;
  detail::count(detail::counters.calls_invalid);
  return 0;
}

// A context is the same bytes in both APIs, and no file reads them as the array that C sees.
static_assert(sizeof(nopspan_context) == sizeof(Context));
static_assert(alignof(nopspan_context) == alignof(Context));
inline const Context& context_of(const nopspan_context* context) noexcept {
  return context != nullptr ? *reinterpret_cast<const Context*>(context) : detail::no_context;
}
inline nopspan_context to_c(const Context& context) noexcept {
  nopspan_context copy;
  std::memcpy(&copy, &context, sizeof(copy));
  return copy;
}

// Copies as much of a struct as its `size` says, and fills the rest with zeroes. All zero, and counted, if the program
// did not set the size. The member `size` of the copy is 0 then.
template <class Struct>
Struct copy_sized(const Struct* given) noexcept {
  Struct copy{};
  if (given == nullptr) return copy;
  if (given->size < sizeof(given->size)) {
    detail::count(detail::counters.calls_invalid);
    return copy;
  }
  std::memcpy(&copy, given, std::min(given->size, sizeof(copy)));
  return copy;
}

}  // namespace nopspan::c
