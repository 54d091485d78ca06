// SPDX-License-Identifier: Apache-2.0
// The log: messages to the application's sink, or to stderr if there is none. A text of the application must not be
// able to forge or break a line.
#pragma once

#include "thread/thread_state.h"

#include <nopspan/log.h>

#include <cstddef>
#include <mutex>
#include <new>
#include <string>
#include <string_view>

namespace nopspan::detail {

// The default sink drops messages below the level of a warning, unless the application has asked for them.
void log(LogLevel level, std::string_view message, bool asked_for = false) noexcept;

// The lock of the sink, which fork() takes, so that no other thread holds it when the child is copied.
std::mutex& log_lock() noexcept;

inline constexpr std::size_t kMaxLogTextBytes = 256;

// A line that is built without allocating, for code that may run in a signal handler. What does not fit is left out.
class LogLine {
 public:
  LogLine& add(std::string_view text) noexcept {
    const std::size_t size = text.copy(text_ + size_, sizeof(text_) - size_);
    size_ += size;
    return *this;
  }
  // Adds what printable() returns.
  LogLine& add_printable(std::string_view text, std::size_t limit, std::string_view refused) noexcept;

  [[nodiscard]] std::string_view view() const noexcept { return {text_, size_}; }

 private:
  std::size_t size_ = 0;
  char text_[2 * kMaxLogTextBytes];
};

// The text, safe to print inside a line. Each invalid UTF-8 byte, each control character or line separator, and each
// character in `refused` becomes "?". A text of more than `limit` bytes (at most kMaxLogTextBytes) is truncated, and
// "…" is added.
std::string printable(std::string_view text, std::size_t limit = kMaxLogTextBytes, std::string_view refused = {});

// Logs the string that `make()` returns. The string is made and freed inside the library (see InsideLibrary), but the
// sink is called outside of it, because it is application code. If memory runs out, nothing is logged.
template <class Make>
void log_line(LogLevel level, const Make& make, bool asked_for = false) noexcept {
  std::string line;
  try {
    const InsideLibrary inside;
    line = make();
  } catch (const std::bad_alloc&) {
    return;
  }
  log(level, line, asked_for);
  const InsideLibrary inside;
  line = std::string();
}

}  // namespace nopspan::detail
