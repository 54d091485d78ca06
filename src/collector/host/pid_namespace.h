// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace nopspan::collector {

// This program's pid namespace, as kernel programs ask for a process's number in it (probes/collector.bpf.c).
struct PidNamespace {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;  // 0: it is the first one, which has the kernel's own numbers
};
PidNamespace pid_namespace();

}  // namespace nopspan::collector
