// SPDX-License-Identifier: Apache-2.0
// The extra labels of a context, beyond engine, model and tenant. There are three keys: the first three that the
// process uses. A label with any other key becomes a field of its span alone, and is counted.
#pragma once

#include "state/context_access.h"
#include "state/intern.h"

#include <cstddef>
#include <cstring>
#include <string_view>

namespace nopspan::detail {

inline constexpr std::size_t kExtraLabels = 3;

constexpr ContextAccess::Label extra_label(std::size_t i) noexcept {
  return static_cast<ContextAccess::Label>(ContextAccess::extra + i);
}

// Labels by their keys. No label is the value kNone, which is not an index.
inline constexpr std::size_t kNone = ContextHead::kLabels;
// The index of the label with this key. If `add`, a new key takes the next free place. kNone (counted if `add`) if no
// label has the key.
std::size_t find_label(std::string_view key, bool add) noexcept;
// The key of a label that travels to other processes: tenant or an extra one. Empty if the key is not taken yet.
std::string_view travelling_key(std::size_t label) noexcept;

// The i-th key, or an empty text if it is not taken yet. It lives as long as the program.
Interned extra_label_key(std::size_t i) noexcept;

// True if the context has any label, including engine, model and tenant.
inline bool has_labels(const ContextHead& context) noexcept {
  std::uint64_t first;
  std::uint32_t last;
  static_assert(sizeof(context.labels) == sizeof(first) + sizeof(last));
  std::memcpy(&first, context.labels, sizeof(first));
  std::memcpy(&last, context.labels + 4, sizeof(last));
  return (first | last) != 0;
}

inline bool has_extra_labels(const ContextHead& context) noexcept {
  for (std::size_t i = 0; i < kExtraLabels; ++i) {
    if (context.labels[extra_label(i)] != kNoLabel) return true;
  }
  return false;
}

// Calls `each(key, value)` for the extra labels of a context, in the order in which their keys were first used. Both
// texts are valid, end with a NUL and live as long as the program.
template <class Each>
void for_each_extra_label(const ContextHead& context, const Each& each) {
  for (std::size_t i = 0; i < kExtraLabels; ++i) {
    const std::uint16_t number = context.labels[extra_label(i)];
    if (__builtin_expect(number == kNoLabel, 1)) continue;
    each(extra_label_key(i).view(), label(number).view());
  }
}

}  // namespace nopspan::detail
