// SPDX-License-Identifier: Apache-2.0
// Whether text is UTF-8: protobuf's strings must be, or a receiver refuses the whole message.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace nopspan::collector {

struct Utf8Character {
  char32_t code = 0;
  std::size_t bytes = 0;  // that it takes; 0: it is none
};
// The one that `text` begins with, which is not empty.
Utf8Character first_character(std::string_view text);

bool is_utf8(std::string_view text);
// `text` with "?" for each byte that is not UTF-8.
std::string mended_utf8(std::string_view text);

}  // namespace nopspan::collector
