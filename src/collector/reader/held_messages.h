// SPDX-License-Identifier: Apache-2.0
// Messages of processes of which something must be known before their entries are delivered.
#pragma once

#include <collector_events.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

// The host's thread may be slow, because the processes that it examines can delay it. No message therefore waits longer
// than kLongest, and the memory is bounded. Not thread-safe.
class HeldMessages {
 public:
  static constexpr std::uint64_t kLongest = 200'000'000;  // ns
  static constexpr std::size_t kMostBytesOfProcess = 1U << 20U;
  static constexpr std::size_t kMostBytes = 16U << 20U;

  struct Message {
    nopspan_message message;
    std::string bytes;
  };
  struct Released {
    std::uint32_t pid = 0;
    unsigned missing = 0;  // what the messages waited for and did not happen in time (Until)
    std::vector<Message> messages;
  };

  // What a process's messages wait for.
  enum Until : unsigned { described = 1, begun = 2, live = 4 };

  // From now on, all messages of the process wait. `until` has one or more of Until.
  void hold(std::uint32_t pid, unsigned until, std::uint64_t now_ns);
  [[nodiscard]] bool holds(std::uint32_t pid) const { return processes_.contains(pid); }
  // Adds a message of a process that is held. Returns false if there is no room for it. Then release the process.
  bool add(const nopspan_message& message, std::string_view bytes);
  // It has happened, for one process or for all.
  void happened(std::uint32_t pid, Until until);
  void happened(Until until);

  // The messages that have waited long enough, or need not wait any more.
  std::vector<Released> take_due(std::uint64_t now_ns);
  Released take(std::uint32_t pid);

 private:
  struct Process {
    unsigned until = 0;
    std::uint64_t since_ns = 0;
    std::size_t bytes = 0;
    std::vector<Message> messages;
  };

  std::map<std::uint32_t, Process> processes_;
  std::size_t bytes_ = 0;
};

}  // namespace nopspan::collector
