// SPDX-License-Identifier: Apache-2.0
#include "base/text_output.h"

#include "base/cells.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <streambuf>
#include <utility>
#include <vector>

namespace nopspan::collector {

// One text, or several short ones.
class TextOutput::Text : public Output::Block {
 public:
  Text(int fd, std::string_view text, std::shared_ptr<State> state) : fd_(fd), text_(text), state_(std::move(state)) {}

  bool absorb(std::string_view text) override {
    constexpr std::size_t kMost = 64U << 10U;
    if (text_.size() + text.size() > kMost) return false;
    text_.reserve(kMost);
    ends_before_.push_back(text_.size());
    text_ += text;
    return true;
  }

  bool write(Writing& writing) override {
    if (state_->error != 0) return false;
    writing_ = &writing;
    const Writing::Result result = writing.write(fd_, text_);
    if (result.error != 0 && result.error != ECANCELED) state_->error = result.error;
    return result.error == 0;
  }
  // The text that is being written may still be completed.
  void note_late() override { count_lost(unwritten() - 1); }
  void settle(bool is_written) override { count_lost(is_written ? 0 : unwritten()); }

 private:
  // The number of texts that are not written, or not completely.
  [[nodiscard]] std::uint64_t unwritten() const {
    const Writing* const writing = writing_;
    const std::size_t written = writing == nullptr ? 0 : writing->bytes();
    const auto whole = std::upper_bound(ends_before_.begin(), ends_before_.end(), written) - ends_before_.begin();
    return ends_before_.size() + 1 - static_cast<std::size_t>(whole);
  }
  // Replaces the number that was counted before.
  void count_lost(std::uint64_t texts) { state_->lost += texts - std::exchange(lost_, texts); }

  const int fd_;
  std::uint64_t lost_ = 0;
  std::string text_;
  std::vector<std::size_t> ends_before_;  // of the texts before the last one
  std::atomic<const Writing*> writing_ = nullptr;
  const std::shared_ptr<State> state_;
};

TextOutput::TextOutput(int fd, std::size_t capacity_bytes, const std::atomic<bool>& stop)
    : fd_(fd), output_(capacity_bytes, stop) {}

void TextOutput::set_live() {
  const std::lock_guard lock(mutex_);
  output_.set_live();
  is_live_ = true;
}

void TextOutput::set_deadline(const Deadline* until) {
  const std::lock_guard lock(mutex_);
  output_.set_deadline(until);
}

void TextOutput::hurry() {
  const std::lock_guard lock(mutex_);
  output_.hurry();
}

bool TextOutput::write(std::string_view text) {
  const std::lock_guard lock(mutex_);
  if (!has_failed()) {
    if (output_.extend(text) || output_.post(std::make_unique<Text>(fd_, text, state_), text.size())) return true;
  }
  ++state_->lost;
  return false;
}

bool TextOutput::flush() {
  const std::lock_guard lock(mutex_);
  return output_.flush();
}

bool TextOutput::close() {
  const std::lock_guard lock(mutex_);
  return output_.close();
}

void TextOutput::rest() {
  const std::lock_guard lock(mutex_);
  output_.rest();
}

TextOutput& standard_output() {
  static auto* const output = new TextOutput(STDOUT_FILENO);
  return *output;
}

TextOutput& standard_error() {
  constexpr std::size_t kMessages = 1U << 20U;
  static auto* const output = new TextOutput(STDERR_FILENO, kMessages);
  return *output;
}

namespace {

// Collects text for an output. Without `collects`, any thread may use it.
class OutputBuffer : public std::streambuf {
 public:
  OutputBuffer(TextOutput& output, bool collects) : output_(output), most_(collects ? 1U << 16U : 0) {}

 protected:
  int_type overflow(int_type character) override {
    if (traits_type::eq_int_type(character, traits_type::eof())) return traits_type::not_eof(character);
    const char one = traits_type::to_char_type(character);
    return xsputn(&one, 1) == 1 ? character : traits_type::eof();
  }
  std::streamsize xsputn(const char* text, std::streamsize bytes) override {
    const std::string_view added(text, static_cast<std::size_t>(bytes));
    if (most_ == 0) {
      output_.write(added);
    } else {
      collected_ += added;
      if (collected_.size() >= most_) pass_on(collected_.rfind('\n') + 1);
    }
    return output_.has_failed() ? 0 : bytes;
  }
  int sync() override {
    pass_on(collected_.size());
    if (!output_.is_live()) output_.flush();
    return output_.has_failed() ? -1 : 0;
  }

 private:
  // Texts end at the end of a line, so that no line is cut if the texts behind it are lost.
  void pass_on(std::size_t bytes) {
    if (bytes == 0) return;
    output_.write(std::string_view(collected_).substr(0, bytes));
    collected_.erase(0, bytes);
  }

  TextOutput& output_;
  const std::size_t most_;
  std::string collected_;
};

// Those of std::cout and std::cerr, while they are redirected.
struct Buffers {
  std::streambuf* output = nullptr;
  std::streambuf* error = nullptr;
} direct_buffers;

constexpr std::string_view kSequences[] = {"", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[33m", "\x1b[36m"};  // by Style

}  // namespace

std::size_t columns_of_stdout() {
  static const bool is_terminal = isatty(STDOUT_FILENO) == 1;  // the window's size may change, but this does not
  winsize size = {};
  return is_terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

std::string output_dropped_text() {
  const std::uint64_t lost = standard_output().lost();
  if (lost == 0) return "";
  return "nopspan: stdout: " + std::to_string(lost) + (lost == 1 ? " document" : " documents") +
         " could not be written\n";
}

void set_standard_outputs_live() {
  standard_output().set_live();
  standard_error().set_live();
}

void rest_standard_outputs() {
  std::cout.flush();
  standard_output().rest();
  standard_error().rest();
}

void redirect_streams() {
  static OutputBuffer output(standard_output(), true), error(standard_error(), false);
  direct_buffers = {std::cout.rdbuf(&output), std::cerr.rdbuf(&error)};
}

void restore_streams() {
  const Buffers before = std::exchange(direct_buffers, {});
  if (before.output == nullptr) return;
  std::cout.flush();
  std::cout.rdbuf(before.output);
  std::cerr.rdbuf(before.error);
}

void StyledLine::add(std::initializer_list<std::string_view> parts, Style style) {
  const std::string_view sequence = color_ ? kSequences[static_cast<std::size_t>(style)] : std::string_view();
  if (utf8_ && width_ == 0 && sequence.empty()) {
    for (const std::string_view part : parts) text_ += part;
    return;
  }
  std::string shown;
  for (const std::string_view part : parts) shown += part;
  if (!utf8_) shown = ascii_only(shown);
  if (width_ > 0) {
    if (const std::size_t cells = cells_of(shown); cells <= left_) {
      left_ -= cells;
    } else {
      shown = utf8_ || left_ == 0 ? fit(shown, left_) : shown.substr(0, left_ - 1) + "~";
      left_ = 0;
    }
  }
  if (shown.empty()) return;
  text_ += sequence;
  text_ += shown;
  if (!sequence.empty()) text_ += "\x1b[0m";
}

void StyledLine::end() {
  // Trailing blanks are invisible, and a nuisance when the line is copied.
  text_.erase(text_.find_last_not_of(' ') + 1);
  text_ += '\n';
  left_ = width_;
}

}  // namespace nopspan::collector
