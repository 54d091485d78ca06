// SPDX-License-Identifier: Apache-2.0
// A terminal as a screen of cells, by ncurses, which is known to terminal.cpp alone.
#pragma once

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace nopspan::collector {

// Whether stdin and stdout are a terminal whose cursor can be placed.
bool has_screen();

// One at a time. While it lives SIGINT, SIGTERM and SIGHUP set `stopping` however often they come, and what is written
// to stderr is held back, if that is this terminal too.
class Terminal {
 public:
  enum class Style : std::uint8_t { plain, strong, header, sorted, selected, good, bad, faint };
  // What is no character: above all of them.
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

  // Throws Failure.
  explicit Terminal(bool color);
  ~Terminal() { restore(); }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  // The terminal as it was, and then what was held back. Once.
  void restore();

  // As of the last begin(): a frame is begin(), put(), end().
  [[nodiscard]] std::size_t width() const { return width_; }
  [[nodiscard]] std::size_t height() const { return height_; }
  void begin();
  // What is printable(), cut where the screen ends; nothing outside of it.
  void put(std::size_t row, std::size_t column, std::string_view text, Style style = Style::plain);
  // A whole line.
  void put_line(std::size_t row, std::string_view text, Style style = Style::plain);
  // Shows the cursor there until the next begin().
  void put_cursor(std::size_t row, std::size_t column) const;
  static void end();

  // A key or character that was typed; `none` if there is none. A resize is `other`.
  static std::uint32_t key();
  // Waits until a key, something on `fd`, a signal or the time comes. False: the terminal is gone.
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
