// SPDX-License-Identifier: Apache-2.0
#include "json_lines.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <system_error>

namespace example {
namespace {

constexpr std::size_t kMostWaitingBytes = std::size_t{1} << 16;

std::string text_of(int error) { return std::generic_category().message(error); }

}  // namespace

JsonLines::JsonLines(const std::string& path)
    : path_(path), file_(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
  if (file_ < 0) throw std::runtime_error("cannot write " + path + ": " + text_of(errno));
}

JsonLines::~JsonLines() {
  flush();
  ::close(file_);
}

void JsonLines::write(const Json& line) {
  const std::string text = to_text(line);
  const std::lock_guard<std::mutex> lock(mutex_);
  waiting_ += text;
  waiting_ += '\n';
  if (waiting_.size() >= kMostWaitingBytes) drain();
}

std::string JsonLines::flush() {
  const std::lock_guard<std::mutex> lock(mutex_);
  drain();
  if (lost_ == 0) return {};
  return "cannot write " + path_ + ": " + text_of(error_) + "; lines lost: " + std::to_string(lost_);
}

void JsonLines::drain() {
  if (is_torn_ && !waiting_.empty()) waiting_.insert(0, "\n");
  while (!waiting_.empty()) {
    const ssize_t written = ::write(file_, waiting_.data(), waiting_.size());
    if (written >= 0) {
      if (written > 0) is_torn_ = waiting_[static_cast<std::size_t>(written) - 1] != '\n';
      waiting_.erase(0, static_cast<std::size_t>(written));
    } else if (errno != EINTR) {
      if (lost_ == 0) error_ = errno;
      lost_ += static_cast<std::size_t>(std::count(waiting_.begin(), waiting_.end(), '\n'));
      waiting_.clear();
    }
  }
}

}  // namespace example
