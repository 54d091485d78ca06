// SPDX-License-Identifier: Apache-2.0
// Whether the kernel may take the CPU from a thread that is in a BPF program of a uprobe, and give it to another
// thread.
#pragma once

#include <cstdint>
#include <string>

namespace nopspan::collector {

enum class Preemption : std::uint8_t { no, yes, unknown };

// What the kernel says of itself. What cannot be read is empty.
struct PreemptionFacts {
  unsigned major = 0;        // of the kernel's version
  std::string version;       // `uname -v`
  std::string model;         // /sys/kernel/debug/sched/preempt
  std::string command_line;  // /proc/cmdline
  std::string config;        // the configuration that the kernel was built with
};

Preemption preemption_of(const PreemptionFacts& facts);
// Of this host's kernel.
PreemptionFacts preemption_facts();

}  // namespace nopspan::collector
