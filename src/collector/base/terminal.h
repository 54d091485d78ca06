// SPDX-License-Identifier: Apache-2.0
// A terminal as a screen of cells. Only terminal.cpp uses ncurses.
#pragma once

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nopspan::collector {

// Whether stdin and stdout are a terminal whose cursor can be positioned.
bool has_screen();

// Only one can exist at a time. It handles SIGINT, SIGTERM and SIGHUP (base/stop_signals.h), also an ignored one. Text
// written to stderr is held back if stderr is the same terminal.
class Terminal {
 public:
  enum class Style : std::uint8_t { plain, strong, header, sorted, selected, good, bad, faint };
  // Keys that are not characters have numbers above all characters.
  enum Key : std::uint32_t {
    none = 0,
    escape = 27,
    up = 0x110000,
    down,
    left,
    right,
    page_up,
    page_down,
    to_home,
    to_end,
    enter,
    erase,
    other
  };

  // Throws Failure if the terminal cannot be used.
  explicit Terminal(bool color);
  ~Terminal() { restore(); }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  // Restores the terminal and then prints the text that was held back. Later calls have no effect.
  void restore();
  // Whether the terminal takes output now. Any thread may call this and the next one.
  static bool takes_output();
  // Restores only the modes, such as echo. Writes nothing, so it never waits for the terminal.
  static void restore_modes();

  // The size at the last begin(). A frame is begin(), put() calls, end().
  [[nodiscard]] std::size_t width() const { return width_; }
  [[nodiscard]] std::size_t height() const { return height_; }
  void begin();
  // `text` must be printable(). It is cut at the edge of the screen; a position outside the screen is ignored.
  void put(std::size_t row, std::size_t column, std::string_view text, Style style = Style::plain);
  // Fills the whole line.
  void put_line(std::size_t row, std::string_view text, Style style = Style::plain);
  // Shows the cursor there until the next begin().
  void put_cursor(std::size_t row, std::size_t column) const;
  static void end();

  // The next key or character that was typed; `none` if there is none. A resize is returned as `other`.
  static std::uint32_t key();
  // Waits for a key, for input on `fd`, for a signal or for the timeout. Returns false if the terminal is gone.
  static bool wait(int fd, int milliseconds);
  [[nodiscard]] bool has_utf8() const { return has_utf8_; }

 private:
  void hold_stderr();
  void release_stderr();
  [[nodiscard]] int attributes_of(Style style) const;

  void* screen_ = nullptr;  // SCREEN
  std::size_t width_ = 0, height_ = 0;
  bool color_, has_utf8_;
  int held_fd_ = -1, stderr_fd_ = -1;
  struct sigaction before_[3] = {};
};

}  // namespace nopspan::collector
