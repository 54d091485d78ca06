// SPDX-License-Identifier: Apache-2.0
// Processes with a seccomp filter. The first span of a process makes system calls that the filter may forbid (see
// nopspan/prepare.h), so a process may be killed by SIGSYS because it is traced. This class finds these processes.
#pragma once

#include "base/open_file.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace nopspan::collector {

class Sandboxed {
 public:
  // Those that are watched at the same time. Each takes a descriptor. Further ones are not watched.
  static constexpr std::size_t kMost = 512;

  // Watches the process if it has a seccomp filter. Call it before an attach.
  void watch(std::uint32_t pid);

  struct Killed {
    std::uint32_t pid;
    std::string comm;
  };
  // Returns the watched processes that SIGSYS has ended since the last call. On kernels before 6.15 it finds only those
  // whose parent has not yet waited for them.
  std::vector<Killed> take_killed();

 private:
  struct Watched {
    std::string comm;
    OpenFile process;  // a pidfd
  };
  std::map<std::uint32_t, Watched> watched_;
};

}  // namespace nopspan::collector
