// SPDX-License-Identifier: Apache-2.0
// Processes with a seccomp filter, or in seccomp's strict mode. The first span of a process makes system calls that the
// filter may forbid, and strict mode forbids to read the clock (see nopspan/stats.h). So a process may be killed
// because it is traced. This class finds these processes.
#pragma once

#include "base/open_file.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace nopspan::collector {

// The seccomp mode of the main thread, or the strictest one of the first threads of a process. They may differ.
enum class Seccomp : std::uint8_t { none, filter, strict };
Seccomp seccomp_of(std::uint32_t pid, bool all_threads);

class Sandboxed {
 public:
  // Those that are watched at the same time. Each takes a descriptor. Further ones are not watched.
  static constexpr std::size_t kMost = 512;

  // Watches the process if its main thread is so restricted, or if `all_threads` one of its first ones. Call it before
  // an attach.
  void watch(std::uint32_t pid, bool all_threads);

  struct Killed {
    std::uint32_t pid;
    std::string comm;
    bool is_strict;  // it was in strict mode
  };
  // Returns the watched processes that SIGSYS has ended since the last call, or in strict mode SIGSEGV or SIGKILL. On
  // kernels before 6.15 it finds only those whose parent has not yet waited for them.
  std::vector<Killed> take_killed();

 private:
  struct Watched {
    std::string comm;
    bool is_strict;
    OpenFile process;  // a pidfd
  };
  std::map<std::uint32_t, Watched> watched_;
};

}  // namespace nopspan::collector
