// SPDX-License-Identifier: Apache-2.0
// Checks and repairs UTF-8. Strings in protobuf messages must be UTF-8, or a receiver refuses the whole message.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace nopspan::collector {

struct Utf8Character {
  char32_t code = 0;
  std::size_t bytes = 0;  // its length; 0 if the text does not begin with a valid character
};
// Decodes the first character of `text`, which must not be empty.
Utf8Character first_character(std::string_view text);

bool is_utf8(std::string_view text);
// `text` with "?" for each byte that is not UTF-8.
std::string repaired_utf8(std::string_view text);

}  // namespace nopspan::collector
