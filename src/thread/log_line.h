// SPDX-License-Identifier: Apache-2.0
// Log lines that contain texts of the application. Such a text must not be able to forge or break a line.
#pragma once

#include "thread/log.h"
#include "thread/thread_state.h"

#include <cstddef>
#include <new>
#include <string>
#include <string_view>

namespace nopspan::detail {

inline constexpr std::size_t kMaxLogTextBytes = 256;

// The text, safe to print inside a line. Each invalid UTF-8 byte, each control character or line separator, and each
// character in `refused` becomes "?". A text of more than `limit` bytes is truncated, and "…" is added.
std::string printable(std::string_view text, std::size_t limit = kMaxLogTextBytes, std::string_view refused = {});

// Logs the string that `make()` returns. The string is made and freed inside the library (see InsideLibrary), but the
// sink is called outside of it, because it is application code. If memory runs out, nothing is logged.
template <class Make>
void log_line(LogLevel level, const Make& make) noexcept {
  std::string line;
  try {
    const InsideLibrary inside;
    line = make();
  } catch (const std::bad_alloc&) {
    return;
  }
  log(level, line);
  const InsideLibrary inside;
  line = std::string();
}

}  // namespace nopspan::detail
