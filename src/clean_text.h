// SPDX-License-Identifier: Apache-2.0
// What may leave the process as a name, an id or a label: at most 63 bytes of UTF-8 without control characters.
#pragma once

#include <nopspan/name.h>

#include <cstddef>
#include <string_view>

namespace nopspan::detail {

// The length of the UTF-8 sequence that begins at text[at]; 0 where the bytes there are none (overlong forms,
// surrogates and code points over U+10FFFF included).
std::size_t utf8_sequence(std::string_view text, std::size_t at) noexcept;
bool is_utf8(std::string_view text) noexcept;

// Whether the text can leave the process as it is.
bool is_clean(std::string_view text) noexcept;

// Copies `text` to `out` (64 bytes), "?" for each byte that cannot stay, cut to 60 bytes and "…" if over 63; ends it
// with a NUL. Counts what was cut. Returns the length.
std::size_t clean(std::string_view text, char (&out)[kMaxNameBytes + 1]) noexcept;

}  // namespace nopspan::detail
