// SPDX-License-Identifier: Apache-2.0
// Passes the times of attaches from the host's thread to the thread that reads the ring buffer.
#pragma once

#include "stream/messages.h"

#include <atomic>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

namespace nopspan::collector {

class AttachLog {
 public:
  // Call it before the kernel is asked for an attach. Then what a process emits because of it is read after the change
  // was noted.
  void begin(std::uint64_t now_ns) { add({now_ns, true, false}); }
  void end(std::uint64_t now_ns, bool has_attached) { add({now_ns, false, has_attached}); }

  // The other thread calls these.
  [[nodiscard]] bool has_changed() const { return has_changed_; }
  std::vector<AttachChange> take() {
    const std::lock_guard lock(mutex_);
    has_changed_ = false;
    return std::exchange(changes_, {});
  }

 private:
  void add(const AttachChange& change) {
    const std::lock_guard lock(mutex_);
    changes_.push_back(change);
    has_changed_ = true;
  }

  std::atomic<bool> has_changed_ = false;
  std::mutex mutex_;
  std::vector<AttachChange> changes_;
};

}  // namespace nopspan::collector
