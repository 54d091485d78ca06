// SPDX-License-Identifier: Apache-2.0
// The pid namespace of this program.
#pragma once

#include <cstdint>

namespace nopspan::collector {

// The BPF programs use these two numbers to ask for a process's pid in that namespace (probes/collector.bpf.c).
struct PidNamespace {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;  // 0 if it is the initial namespace, which has the kernel's own numbers
};
PidNamespace pid_namespace();

}  // namespace nopspan::collector
