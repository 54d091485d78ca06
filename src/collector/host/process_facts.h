// SPDX-License-Identifier: Apache-2.0
// Reads facts about a process from /proc.
#pragma once

#include "model/entry.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace nopspan::collector {

// The few facts that show whether a process has changed. They come from one read, because the process may be gone
// before a second one.
struct ProcessState {
  std::string comm;
  char state = '?';                // as ps(1) shows it
  std::uint64_t start_ticks = 0;   // the time of its fork
  std::uint64_t memory_bytes = 0;  // size of its address space; 0 for a kernel thread or a zombie
  std::uint64_t stack_start = 0;   // changes with exec; 0 or 1 without the privilege to read it
};
// Empty if the process does not exist.
std::optional<ProcessState> process_state(std::uint32_t pid);
// Throws Failure if one of the pids does not exist, because it was mistyped or belongs to another namespace.
void require_processes(const std::vector<std::uint32_t>& pids);

// Sets everything but `library` and `library_version`. Fields that cannot be read stay empty. If the process is gone,
// only its pid is set.
Process process_facts(std::uint32_t pid);

// The process's cgroup, as in /proc/PID/cgroup; "" if the process is gone.
std::string cgroup_of(std::uint32_t pid);

// This host's name; "" if it has none.
const std::string& host_name();

// The value of a line of /proc/PID/status; "" if there is none.
std::string process_status(std::uint32_t pid, const std::string& key);

// The first `most` bytes of a file; "" if it cannot be read.
std::string read_small_file(const std::string& path, std::size_t most = 65536);

}  // namespace nopspan::collector
