// SPDX-License-Identifier: Apache-2.0
// Whether the clients of a process are processes that are seen here too: learnt from the traces that were seen whole.
#pragma once

#include "model/span.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <tuple>

namespace nopspan::collector {

// A server's span is at hand as soon as it has ended, its client's when that has: for a retry this can be much later.
// It is worth waiting for where it will come, and a delay for nothing where clients are on other hosts.
class RemoteParents {
 public:
  // A process has spans.
  void saw(const Process& process);
  // A span of this process had a parent in another process, which was seen, or was not.
  void learn(const Process& process, bool seen);
  // Whether to wait for the parent of this process's span. Without experience: once.
  [[nodiscard]] bool may_come(const Process& process) const;

 private:
  static constexpr std::size_t kMaxProcesses = 4096;  // more: all are forgotten
  using Key = std::tuple<std::uint32_t, std::uint64_t>;
  enum class Clients : std::uint8_t { unknown, unseen, seen };

  std::map<Key, Clients> processes_;
};

}  // namespace nopspan::collector
