// SPDX-License-Identifier: Apache-2.0
// Reads facts about processes from /proc.
#pragma once

#include "base/open_file.h"
#include "base/stopping.h"
#include "model/entry.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace nopspan::collector {

// The few facts that show whether a process has changed. They come from one read, because the process may be gone
// before a second one.
struct ProcessState {
  std::string comm;
  char state = '?';                // as ps(1) shows it
  std::uint32_t thread = 0;        // as of thread_to_read()
  std::uint64_t parent = 0;        // pid
  std::uint64_t start_ticks = 0;   // the time of its fork
  std::uint64_t memory_bytes = 0;  // size of its address space; 0 for a kernel thread or a zombie
  std::uint64_t stack_start = 0;   // changes with exec; 0 or 1 without the privilege to read it
  bool hides_threads = false;      // its main thread and some 30 others have ended, and there are more
  // Whether it runs a program.
  [[nodiscard]] bool has_memory() const { return memory_bytes != 0 || hides_threads; }
};
// Empty if the process does not exist. If its main thread has ended while others run, `state`, `memory_bytes` and
// `stack_start` are those of another thread, unless that is hidden.
std::optional<ProcessState> process_state(std::uint32_t pid);
// The ids of some 30 threads of the process.
struct FirstThreads {
  std::vector<std::uint32_t> ids;
  bool are_all = false;
};
FirstThreads first_threads(std::uint32_t pid);
// The thread whose folder in /proc has the files of the process (maps, exe, root, ...), and whose id reads its memory:
// the main thread, or another one if that has ended. /proc/TID exists for each thread, although /proc does not list it.
std::uint32_t thread_to_read(std::uint32_t pid);
// A pidfd. Empty if the process has ended.
OpenFile open_process(std::uint32_t pid);
bool has_ended(const OpenFile& process);
// Throws Failure if /proc does not show the processes of this program's pid namespace.
void require_proc();
// Throws Failure if one of the pids is the id of a thread, or if it does not exist, because it was mistyped or belongs
// to another namespace.
void require_processes(const std::vector<std::uint32_t>& pids);

// What is known of a process of this host from its pid alone.
Process unknown_process(std::uint32_t pid);

// Sets everything but `library` and `library_version`. Fields that cannot be read stay empty. If the process is gone,
// the result is that of unknown_process().
Process process_facts(std::uint32_t pid);

// The process's cgroup, as in /proc/PID/cgroup; "" if the process is gone.
std::string cgroup_of(std::uint32_t pid);

// CLOCK_MONOTONIC of a process minus that of this program. It is not 0 if they are in different time namespaces. Empty
// if it cannot be found out.
std::optional<std::int64_t> clock_offset(std::uint32_t pid);
// CLOCK_MONOTONIC of this program minus that of the kernel. 0 if it cannot be found out.
std::int64_t own_clock_offset();

// The id that the kernel chose when this host started; "" if it cannot be read.
const std::string& boot_id();

// Whether its pid namespace is below this program's.
bool is_in_namespace_below(std::uint32_t pid);

// The real user. A process cannot hide it by running a set-user-ID program. (The owner of /proc/PID can be hidden: it
// is root if the process is not dumpable.) kNoUser if the process is gone.
constexpr std::uint32_t kNoUser = UINT32_MAX;
std::uint32_t user_of(std::uint32_t pid);
// The value of a line of /proc/PID/status; "" if there is none.
std::string process_status(std::uint32_t pid, const std::string& key);

// Where a symbolic link leads; "" if it cannot be read.
std::string link_of(const std::string& path);
// The first `most` bytes of a file; "" if it cannot be read.
std::string read_small_file(const std::string& path, std::size_t most = 65536);
// The same without the line feed at the end.
std::string read_line(const std::string& path);

// Calls `on_number` for each entry whose name is a number: pids in /proc, descriptors in /proc/PID/fd. Ends early if
// `until` is over. Returns 0 or an errno value.
int for_each_numeric_entry(const std::string& folder, const std::function<void(std::uint32_t)>& on_number,
                           const Deadline* until = nullptr);

// The threads of a process. Key: the id in the process's own pid namespace. Value: the id in the collector's.
std::unordered_map<std::uint32_t, std::uint32_t> thread_ids(const Process& process);

}  // namespace nopspan::collector
