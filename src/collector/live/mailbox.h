// SPDX-License-Identifier: Apache-2.0
// Passes objects from one thread to another.
#pragma once

#include "base/wake_up.h"

#include <atomic>
#include <cstddef>
#include <mutex>
#include <utility>
#include <vector>

namespace nopspan::collector {

template <typename T>
class Mailbox {
 public:
  void post(T object) {
    {
      const std::lock_guard lock(mutex_);
      waiting_.push_back(std::move(object));
      size_ = waiting_.size();
    }
    wake_up_.wake();
  }
  // All objects that were posted since the last call, in order.
  std::vector<T> take() {
    wake_up_.clear();
    const std::lock_guard lock(mutex_);
    size_ = 0;
    return std::exchange(waiting_, {});
  }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] int fd() const { return wake_up_.fd(); }

 private:
  WakeUp wake_up_;
  std::mutex mutex_;
  std::vector<T> waiting_;
  std::atomic<std::size_t> size_ = 0;  // of waiting_
};

}  // namespace nopspan::collector
