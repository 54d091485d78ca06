// SPDX-License-Identifier: Apache-2.0
// Lines of the log that say what the application said.
#pragma once

#include "thread/log.h"
#include "thread/thread_state.h"

#include <cstddef>
#include <new>
#include <string>
#include <string_view>

namespace nopspan::detail {

inline constexpr std::size_t kMaxLogTextBytes = 256;

// The text as it may stand in a line: "?" for each byte that is no UTF-8, for a character that is none to see or ends a
// line, and for those in `refused`; cut with "…" if it is over `limit` bytes.
std::string printable(std::string_view text, std::size_t limit = kMaxLogTextBytes, std::string_view refused = {});

// Logs what `make()` returns. Making and freeing it is inside the library, where a signal handler emits nothing; the
// sink, which is the application's, is not. Without memory nothing is logged.
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
