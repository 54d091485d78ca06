// SPDX-License-Identifier: Apache-2.0
// The keys that the catalogues' builders set, and what they are as attributes: docs/genai.md has the same table.
#pragma once

#include "fields/metadata.h"

#include <cstdint>
#include <string_view>

namespace nopspan::detail {

// The sets of names that nopspan gives a meaning to.
enum class Catalogue : std::uint8_t { llm, agent, engine };

struct AttributeKey {
  // Whose key it is.
  enum Of : std::uint8_t { llm = 1, agent = 2, engine = 4, retry = 8, all = llm | agent | engine };

  std::string_view key;        // of a span's or event's field
  Key input = kNoKey;          // the mapping reads it, and says what becomes of it; or
  std::string_view attribute;  // its attribute; "" if it has none of its own
  Of of = all;
  bool is_content = false;       // leaves the process only with the switch, however it is set
  std::string_view unless = {};  // not an attribute where this key is set: it is the same one

  static constexpr Key kNoKey = static_cast<Key>(0xff);
};

// Whose keys the fields of a catalogue's span have.
constexpr AttributeKey::Of attribute_keys_of(Catalogue catalogue) noexcept {
  return catalogue == Catalogue::llm     ? AttributeKey::llm
         : catalogue == Catalogue::agent ? AttributeKey::agent
                                         : AttributeKey::engine;
}
// The same of an event of that name; none, if it is the application's own.
AttributeKey::Of attribute_keys_of(std::string_view name) noexcept;

// Null for a key that is the application's own, and an attribute as it is.
const AttributeKey* find_attribute_key(std::string_view key, AttributeKey::Of of) noexcept;

}  // namespace nopspan::detail
