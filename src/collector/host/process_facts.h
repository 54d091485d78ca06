// SPDX-License-Identifier: Apache-2.0
// What /proc tells of a process.
#pragma once

#include "model/span.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace nopspan::collector {

// The few facts that tell whether anything has changed, read at once: the process may be gone after.
struct ProcessState {
  std::string command;             // comm
  char state = '?';                // as ps(1) shows it
  std::uint64_t start_ticks = 0;   // when it was forked
  std::uint64_t memory_bytes = 0;  // of its address space; 0: a kernel thread, or a zombie
  std::uint64_t stack_start = 0;   // another one after exec; 0 or 1 without the right to know
};
// Empty if there is no such process.
std::optional<ProcessState> process_state(std::uint32_t pid);
// Throws Failure if one of them is none: a pid was mistyped, or is one of another namespace.
void require_processes(const std::vector<std::uint32_t>& pids);

// All but library and library_version. What cannot be read stays empty; a process that is gone has its pid only.
Process process_facts(std::uint32_t pid);

// Where it is, as /proc/PID/cgroup has it; "" if it is gone.
std::string cgroup_of(std::uint32_t pid);

// This host's; "" if it has none.
const std::string& host_name();

// The value of a line of /proc/PID/status, "" if there is none.
std::string process_status(std::uint32_t pid, const std::string& key);

// A small file's contents, at most `most` bytes; "" if it cannot be read.
std::string read_small_file(const std::string& path, std::size_t most = 65536);

}  // namespace nopspan::collector
