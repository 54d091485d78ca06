// SPDX-License-Identifier: Apache-2.0
// How values look to people.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace nopspan::collector {

// `text` without anything that a terminal could obey or that breaks a line: control characters and what is no UTF-8
// become \xNN, also DEL, C1 controls and bidirectional marks. Cut to `most` characters with "…" at its end.
std::string printable(std::string_view text, std::size_t most = 200);

// "412 ns", "3.41 ms", "1.25 s", "2m05s": three significant digits.
std::string duration_text(std::uint64_t ns);
// "950", "12.3k", "4.56M".
std::string number_text(double value);
// "1.5 KiB"
std::string bytes_text(std::uint64_t bytes);
// "12:00:03.123", in local time.
std::string time_text(std::uint64_t unix_ns);

std::string hex_text(std::string_view bytes);

}  // namespace nopspan::collector
