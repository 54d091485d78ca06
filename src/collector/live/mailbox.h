// SPDX-License-Identifier: Apache-2.0
// Passes objects from one thread to another.
#pragma once

#include "base/failure.h"
#include "base/open_file.h"

#include <sys/eventfd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {

// Readable by poll(2) while an object waits. Thread-safe.
class WakeUp {
 public:
  WakeUp() : file_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (!file_) throw Failure(std::string("eventfd: ") + std::strerror(errno));
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

template <typename T>
class Mailbox {
 public:
  void post(T object) {
    {
      const std::lock_guard lock(mutex_);
      waiting_.push_back(std::move(object));
    }
    wake_up_.wake();
  }
  // All objects that were posted since the last call, in order.
  std::vector<T> take() {
    wake_up_.clear();
    const std::lock_guard lock(mutex_);
    return std::exchange(waiting_, {});
  }
  [[nodiscard]] bool empty() const {
    const std::lock_guard lock(mutex_);
    return waiting_.empty();
  }
  [[nodiscard]] int fd() const { return wake_up_.fd(); }

 private:
  WakeUp wake_up_;
  mutable std::mutex mutex_;
  std::vector<T> waiting_;
};

}  // namespace nopspan::collector
