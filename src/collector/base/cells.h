// SPDX-License-Identifier: Apache-2.0
// Texts in the cells of a terminal. All take UTF-8 as printable() gives it, and ask the locale's LC_CTYPE how wide a
// character is.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace nopspan::collector {

// How many cells it takes.
std::size_t cells_of(std::string_view text);

enum class Align { left, right };
// Exactly `width` cells: filled up with blanks, or cut with "…" at its end. A character that is no letter of its own
// (a combining mark) stays with the one before it, but no more than two do.
std::string fit(std::string_view text, std::size_t width, Align align = Align::left);

// What a terminal that is not for UTF-8 can show: "?" for each character beyond ASCII.
std::string ascii_only(std::string_view text);

}  // namespace nopspan::collector
