// SPDX-License-Identifier: Apache-2.0
// The white space of HTTP headers.
#pragma once

#include <string_view>

namespace nopspan::detail {

// The text without blanks and tabs at its ends.
inline std::string_view trim(std::string_view text) noexcept {
  const auto is_blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

}  // namespace nopspan::detail
