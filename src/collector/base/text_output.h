// SPDX-License-Identifier: Apache-2.0
// stdout and stderr, written by threads of their own (output.h).
#pragma once

#include "base/output.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

namespace nopspan::collector {

// Texts for a descriptor. After a failed write nothing more is written. Any thread may use it.
class TextOutput {
 public:
  // `fd` stays open and must outlive this object.
  explicit TextOutput(int fd, std::size_t capacity_bytes = Output::kCapacity,
                      const std::atomic<bool>& stop = interrupted);

  // See Output. A text is a block.
  void set_live();
  [[nodiscard]] bool is_live() const { return is_live_; }
  void set_deadline(const Deadline* until);
  void hurry();
  // Returns false if the text is lost.
  bool write(std::string_view text);
  bool flush();
  bool close();
  void rest();

  [[nodiscard]] bool has_failed() const { return state_->error != 0; }
  // errno of the first write that failed; 0 if none did.
  [[nodiscard]] int error() const { return state_->error; }
  // Texts that were not written, or not completely. Exact after flush() and close().
  [[nodiscard]] std::uint64_t lost() const { return state_->lost; }

 private:
  class Text;
  struct State {
    std::atomic<int> error = 0;
    std::atomic<std::uint64_t> lost = 0;
  };

  const int fd_;
  std::mutex mutex_;
  Output output_;
  std::atomic<bool> is_live_ = false;
  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

// For stdout and stderr. They are never destroyed. Their owner calls close().
TextOutput& standard_output();
TextOutput& standard_error();

// The width of the terminal that stdout is; 0 if it is no terminal, or does not report its width.
std::size_t columns_of_stdout();

// A line for stderr about texts that standard_output() lost; "" if there are none.
std::string output_dropped_text();

// Calls set_live() for both. A live source waits for neither the data nor the messages.
void set_standard_outputs_live();

// Writes what both have, and ends their threads until they have more: before a fork, which copies no thread, and before
// capabilities are given up, which other threads would keep.
void rest_standard_outputs();

// Makes std::cout and std::cerr write to standard_output() and standard_error(). std::flush then waits until the text
// is written, unless the output is live.
void redirect_streams();
// Undoes redirect_streams(): both write directly again.
void restore_streams();

// Lines for a terminal, optionally with colours, cut to the terminal's width.

enum class Style : std::uint8_t { plain, bold, dim, red, yellow, cyan };

class StyledLine {
 public:
  // Writes at the end of `to`, which must outlive this object. `width` is in cells. 0 means no limit.
  StyledLine(std::string& to, bool color, bool utf8, std::size_t width)
      : text_(to), width_(width), left_(width), color_(color), utf8_(utf8) {}

  // `text` must be printable(). A text that does not fit ends with "…", or with "~" without UTF-8.
  void add(std::string_view text, Style style = Style::plain) { add({text}, style); }
  // The same for a text in parts.
  void add(std::initializer_list<std::string_view> parts, Style style = Style::plain);
  // Begins the next line.
  void end();

 private:
  std::string& text_;
  const std::size_t width_;
  std::size_t left_;
  const bool color_, utf8_;
};

}  // namespace nopspan::collector
