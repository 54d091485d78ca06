// SPDX-License-Identifier: Apache-2.0
// Bounded tables of strings that live as long as the program: names, and the labels that contexts refer to by number.
// Each table holds up to 4096 strings.
#pragma once

#include "base/clean_text.h"

#include <nopspan/name.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nopspan::detail {

// A string of an intern table; ends with a NUL.
struct Interned {
  const char* text;
  std::size_t size;
};

// Returns `name` itself if it is valid, otherwise an interned and repaired copy (counted).
Interned clean_unusual_name(const Name& name) noexcept;
inline Interned clean_name(const Name& name) noexcept {
  return __builtin_expect(is_usual_name(name.view()), 1) ? Interned{name.data(), name.size()}
                                                         : clean_unusual_name(name);
}

// Labels by number. 0 is "" and 1 is "other". If the table is full, a new label becomes "other" and is counted.
inline constexpr std::uint16_t kNoLabel = 0;
std::uint16_t intern_label(std::string_view text) noexcept;
Interned label(std::uint16_t number) noexcept;

}  // namespace nopspan::detail
