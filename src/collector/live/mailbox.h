// SPDX-License-Identifier: Apache-2.0
// Passes objects from one thread to another.
#pragma once

#include "base/wake_up.h"

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
  [[nodiscard]] std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return waiting_.size();
  }
  [[nodiscard]] int fd() const { return wake_up_.fd(); }

 private:
  WakeUp wake_up_;
  mutable std::mutex mutex_;
  std::vector<T> waiting_;
};

}  // namespace nopspan::collector
