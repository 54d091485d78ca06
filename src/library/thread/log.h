// SPDX-License-Identifier: Apache-2.0
// The log: messages to the application's sink. If there is none, they are printed or kept. A text of the application
// must not be able to forge or break a line.
#pragma once

#include "thread/thread_state.h"

#include <nopspan/log.h>
#include <nopspan/probes.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <string>
#include <string_view>

namespace nopspan::detail {

// What happens to a message if the application has set no sink.
enum class NoSink : std::uint8_t {
  print,  // to stderr. For messages that the application causes itself, whether or not anybody looks
  keep,   // for tracers, which read `warning_table`. For messages from the path of a span: stderr may block, end the
          // program by SIGPIPE, or be a file of the application
};
// From `content_at` on, the message is content, which is not kept for tracers.
void log(LogLevel level, NoSink no_sink, std::string_view message,
         std::size_t content_at = std::string_view::npos) noexcept;

inline constexpr std::uint32_t kWarnings = 16;
extern nopspan_warning warning_table[kWarnings];

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

struct LogText {
  std::string text;
  std::size_t content_at = std::string::npos;  // see log()
};

// Logs the string, or LogText, that `make()` returns. It is made and freed inside the library (see InsideLibrary), but
// the sink is called outside of it, because it is application code. If memory runs out, nothing is logged.
template <class Make>
void log_line(LogLevel level, NoSink no_sink, const Make& make) noexcept {
  LogText line;
  try {
    const InsideLibrary inside;
    line = LogText{make()};
  } catch (const std::bad_alloc&) {
    return;
  }
  log(level, no_sink, line.text, line.content_at);
  const InsideLibrary inside;
  line.text = std::string();
}

}  // namespace nopspan::detail
