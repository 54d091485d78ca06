// SPDX-License-Identifier: Apache-2.0
#include "stream/message_pipe.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <iostream>
#include <utility>

namespace nopspan::collector {

CapturedTexts::CapturedTexts() : before_(std::cerr.rdbuf(this)) {}

CapturedTexts::~CapturedTexts() { std::cerr.rdbuf(before_); }

std::string CapturedTexts::take() {
  const std::lock_guard lock(mutex_);
  const std::size_t end = text_.rfind('\n') + 1;  // 0 if there is none
  std::string lines = text_.substr(0, end);
  text_.erase(0, end);
  if (!lines.empty() && std::exchange(has_lost_, false)) lines += "nopspan: more messages could not be shown\n";
  return lines;
}

CapturedTexts::int_type CapturedTexts::overflow(int_type character) {
  const char text = traits_type::to_char_type(character);
  return xsputn(&text, 1) == 1 ? character : traits_type::eof();
}

std::streamsize CapturedTexts::xsputn(const char* text, std::streamsize size) {
  const std::lock_guard lock(mutex_);
  if (text_.size() < kMost) {
    text_.append(text, static_cast<std::size_t>(size));
  } else {
    has_lost_ = true;
  }
  return size;
}

void MessagePipe::flush() {
  if (kept() < kMostKept) pass_texts();
  write();
}

void MessagePipe::pass_texts() {
  if (const std::string text = texts_.take(); !text.empty()) writer_.on_text(text);
}

void MessagePipe::write() {
  is_blocked_ = false;
  while (pipe_ && kept() > 0) {
    const ssize_t bytes = ::write(pipe_.get(), buffer_.at(written_), kept());
    if (bytes < 0 && errno == EINTR) continue;
    is_blocked_ = bytes < 0 && errno == EAGAIN;
    if (is_blocked_) break;
    if (bytes < 0) pipe_.reset();
    if (bytes > 0) written_ += static_cast<std::size_t>(bytes);
  }
  if (kept() == 0 || !pipe_) {
    buffer_.clear();
    written_ = 0;
  } else if (written_ >= kMostKept) {
    buffer_.remove_front(std::exchange(written_, 0));
  }
}

void MessagePipe::wait(int milliseconds) const {
  pollfd writable{pipe_.get(), POLLOUT, 0};
  poll(&writable, 1, milliseconds);
}

void MessagePipe::end(const TracerEnd& end, std::chrono::milliseconds most) {
  constexpr int kLookMilliseconds = 20;
  pass_texts();
  writer_.on_end(end);
  const auto latest = std::chrono::steady_clock::now() + most;
  for (write(); kept() > 0 && std::chrono::steady_clock::now() < latest; write()) wait(kLookMilliseconds);
  pipe_.reset();
}

}  // namespace nopspan::collector
