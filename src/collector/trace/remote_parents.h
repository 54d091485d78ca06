// SPDX-License-Identifier: Apache-2.0
// Learns from complete traces whether the clients of a process are processes that are traced here too.
#pragma once

#include "model/entry.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <tuple>

namespace nopspan::collector {

// A server's span is available as soon as it has ended, but its client's span only when the client has ended. With
// retries that can be much later. Waiting is useful if the client's span will arrive, and only a delay if the clients
// are on other hosts.
class RemoteParents {
 public:
  // Records that a process has spans.
  void saw(const Process& process) {
    if (processes_.size() >= kMaxProcesses) processes_.clear();
    processes_.try_emplace({process.pid, process.start_ticks}, Clients::unknown);
  }
  // Records whether the remote parent of a span of this process was seen.
  void learn(const Process& process, bool seen) {
    saw(process);
    Clients& clients = processes_[{process.pid, process.start_ticks}];
    if (seen || clients == Clients::unknown) clients = seen ? Clients::seen : Clients::unseen;
  }
  // Whether to wait for the remote parent of a span of this process. True if nothing is known about the process yet.
  [[nodiscard]] bool may_come(const Process& process) const {
    if (processes_.size() < 2) return false;
    const auto known = processes_.find({process.pid, process.start_ticks});
    return known == processes_.end() || known->second != Clients::unseen;
  }

 private:
  static constexpr std::size_t kMaxProcesses = 4096;  // beyond it all are forgotten
  using Key = std::tuple<std::uint32_t, std::uint64_t>;
  enum class Clients : std::uint8_t { unknown, unseen, seen };

  std::map<Key, Clients> processes_;
};

}  // namespace nopspan::collector
