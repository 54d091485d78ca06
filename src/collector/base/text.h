// SPDX-License-Identifier: Apache-2.0
// Formats values for people, and takes texts apart.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace nopspan::collector {

// Makes `text` safe to print: a terminal cannot interpret it, and it stays on one line. Control characters (also DEL
// and C1), bidirectional marks and bytes that are not UTF-8 become \xNN. The result has at most `most` characters; a
// text that was cut ends with "…".
std::string printable(std::string_view text, std::size_t most = 200);

// "412 ns", "3.41 ms", "1.25 s", "2m05s": three significant digits.
std::string duration_text(std::uint64_t ns);
// "950", "12.3k", "4.56M".
std::string number_text(double value);
// "1.5 KiB"
std::string bytes_text(std::uint64_t bytes);
// "12:00:03.123", in local time.
std::string time_text(std::uint64_t unix_ns);
// "2026-11-27 12:00:03.123", in local time.
std::string date_text(std::uint64_t unix_ns);

// A remark as a line for stderr; "" if there is none.
std::string remark_text(const std::string& remark);

std::string hex_text(std::string_view bytes);
std::string base64_of(std::string_view bytes);

// "1 span", "3 spans"; or "1 entry", "3 entries", if `many` is given.
std::string counted(std::uint64_t count, const std::string& one, const std::string& many = "");
// Puts blanks before a text of fewer than `width` bytes.
std::string padded_left(const std::string& text, std::size_t width);
// Without blanks and tabs at both ends.
std::string_view trimmed(std::string_view text);
// Takes the text before the separator from `rest`, which loses both.
std::string_view take_before(std::string_view& rest, char separator);

// Of ASCII alone. Those of the C library depend on the locale: in Turkish, "I" is not the capital letter of "i".
constexpr char lower_case(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
constexpr char upper_case(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }
std::string upper_case(std::string text);
constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool is_letter_or_digit(char c) { return is_digit(c) || (lower_case(c) >= 'a' && lower_case(c) <= 'z'); }
constexpr bool is_hex_digit(char c) { return is_digit(c) || (lower_case(c) >= 'a' && lower_case(c) <= 'f'); }
// Whether two words are the same, in letters of either case.
bool is_same_word(std::string_view a, std::string_view b);

}  // namespace nopspan::collector
