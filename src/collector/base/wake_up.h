// SPDX-License-Identifier: Apache-2.0
// Wakes a thread that waits in poll(2).
#pragma once

#include "base/failure.h"
#include "base/open_file.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace nopspan::collector {

// Readable by poll(2) from wake() until clear(). Thread-safe.
class WakeUp {
 public:
  WakeUp() : file_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (!file_) throw Failure("eventfd: " + errno_text(errno));
  }
  [[nodiscard]] int fd() const { return file_.get(); }
  void wake() const {
    const std::uint64_t one = 1;
    // write() fails only if the counter is at its maximum. The file is then readable anyway.
    [[maybe_unused]] const auto written = write(file_.get(), &one, sizeof(one));
  }
  void clear() const {
    std::uint64_t times = 0;
    [[maybe_unused]] const auto bytes = read(file_.get(), &times, sizeof(times));
  }

 private:
  OpenFile file_;
};

}  // namespace nopspan::collector
