// SPDX-License-Identifier: Apache-2.0
// Bounded tables of strings that live as long as the program: names that are made at run time, and the labels that
// contexts refer to by number. The tables are static arrays: nothing is allocated.
#pragma once

#include "base/clean_text.h"
#include "base/copy_bytes.h"
#include "base/hash.h"

#include <nopspan/probes.h>
#include <nopspan/types.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace nopspan::detail {

// A valid name or label: of an intern table, or a copy that a span owns. Ends with a NUL.
struct Interned {
  const char* text;
  std::size_t size;
  std::uint64_t hash;  // hash_bytes()

  [[nodiscard]] std::string_view view() const noexcept { return {text, size}; }
};

struct NameAccess {
  static bool is_constant(const Name& name) noexcept { return name.origin_ == Name::Origin::constant; }
  static std::size_t size(const Name& name) noexcept { return name.size_; }  // of a constant: with its NUL
  static Name constant(const char* text, std::size_t size_with_nul) noexcept { return {text, size_with_nul}; }
};

// Copies a name to `out`. If it is not valid, repairs the copy and counts that. A name that is made at run time is also
// put into the table of names.
Interned copy_unusual_name(const Name& name, char (&out)[kMaxNameBytes + 1]) noexcept;
inline Interned copy_name(const Name& name, char (&out)[kMaxNameBytes + 1]) noexcept {
  // Most names are constants of 8 to 24 plain bytes. Such a name is validated, copied and hashed in words, which may
  // overlap.
  const std::size_t size = NameAccess::size(name) - 1;
  if (__builtin_expect(!NameAccess::is_constant(name) || size < 8 || size > 24 || name.data()[size] != '\0', 0)) {
    return copy_unusual_name(name, out);
  }
  const std::uint64_t first = load_word(name.data());
  const std::uint64_t last = load_word(name.data() + size - 8);
  if (size <= 16) {
    if (__builtin_expect(!are_plain(first, last), 0)) return copy_unusual_name(name, out);
    std::memcpy(out, &first, sizeof(first));
    std::memcpy(out + size - 8, &last, sizeof(last));
    out[size] = '\0';
    return {out, size, hash_words(size, first, 0, last)};
  }
  const std::uint64_t second = load_word(name.data() + 8);
  if (__builtin_expect(!are_plain(first, last) || !are_plain(second, second), 0)) return copy_unusual_name(name, out);
  std::memcpy(out, &first, sizeof(first));
  std::memcpy(out + 8, &second, sizeof(second));
  std::memcpy(out + size - 8, &last, sizeof(last));
  out[size] = '\0';
  return {out, size, hash_words(size, first, second, last)};
}

// Labels by number. Engine and model have half of the numbers for themselves, so that many tenants cannot take those
// away. If a half is full, a new label becomes "other" and is counted.
inline constexpr std::size_t kLabels = 8192;
inline constexpr std::size_t kMaxLabels = 4000;  // in each half; a few numbers are kept for threads that race
inline constexpr std::uint16_t kNoLabel = 0;
inline constexpr std::uint16_t kOverflowLabel = 1;  // "other"
enum class LabelOf : bool { model, other };         // model: or engine
extern nopspan_label label_table[kLabels];

std::uint16_t intern_label(std::string_view text, LabelOf of) noexcept;
inline Interned label(std::uint16_t number) noexcept {
  const nopspan_label* entry = &label_table[number % kLabels];
  std::size_t size = __atomic_load_n(&entry->size, __ATOMIC_ACQUIRE);
  if (__builtin_expect(size == 0 && number != kNoLabel, 0)) {  // a context of another copy of the library
    entry = &label_table[kOverflowLabel];
    size = entry->size;
  }
  return {entry->text, size, entry->reserved};
}

}  // namespace nopspan::detail
