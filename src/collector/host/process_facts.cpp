// SPDX-License-Identifier: Apache-2.0
#include "host/process_facts.h"

#include "base/failure.h"
#include "base/text.h"
#include "host/cgroup.h"
#include "host/host_name.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>

namespace nopspan::collector {
namespace {

std::string folder_of(std::uint32_t pid) { return "/proc/" + std::to_string(pid); }

bool has_ended(const ProcessState& state) { return state.state == 'Z' || state.state == 'X'; }

std::uint32_t last_number(std::string_view text) {
  const std::size_t space = text.find_last_of(" \t");
  if (space != std::string_view::npos) text.remove_prefix(space + 1);
  std::uint32_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

// `id` is that of a process or of a thread. /proc/ID/stat is not read: the kernel adds up all threads for it.
std::optional<ProcessState> read_state(std::uint32_t id) {
  const std::string path = folder_of(id) + "/task/" + std::to_string(id) + "/stat";
  const std::string contents = read_small_file(path, 1024);
  std::string_view text = contents;
  // The comm is in parentheses, and may contain parentheses itself.
  const std::size_t comm_end = text.rfind(") ");
  if (comm_end == std::string_view::npos) return std::nullopt;
  ProcessState result;
  result.thread = id;
  if (const std::size_t begin = text.find('('); begin < comm_end) {
    result.comm = text.substr(begin + 1, comm_end - begin - 1);
  }
  text.remove_prefix(comm_end + 2);
  result.state = text.empty() ? '?' : text.front();
  for (unsigned field = 3; !text.empty(); ++field) {
    const std::string_view word = take_before(text, ' ');
    std::uint64_t* to = field == 4    ? &result.parent
                        : field == 22 ? &result.start_ticks
                        : field == 23 ? &result.memory_bytes
                        : field == 28 ? &result.stack_start
                                      : nullptr;
    if (to != nullptr) std::from_chars(word.data(), word.data() + word.size(), *to);
    if (field == 28) return result;
  }
  return std::nullopt;
}

// A program that traces another may leave it with thousands of ended threads.
void find_running_thread(std::uint32_t pid, ProcessState& state) {
  const FirstThreads threads = first_threads(pid);
  for (const std::uint32_t id : threads.ids) {
    const auto other = read_state(id);
    if (!other || has_ended(*other)) continue;
    state.state = other->state;
    state.thread = other->thread;
    state.memory_bytes = other->memory_bytes;
    state.stack_start = other->stack_start;
    return;
  }
  state.hides_threads = !threads.are_all;
}

// The offset of CLOCK_MONOTONIC in the time namespace of this folder's process to the initial one. The kernel reports
// the offset of the namespace that the process's new children get. Usually it is the same one. Otherwise another
// process in the namespace is asked.
std::optional<std::int64_t> offset_of_namespace(const std::string& folder) {
  const std::string space = link_of(folder + "/ns/time");
  std::string asked = folder;
  const auto is_for_children = [&space](const std::string& other) {
    return link_of(other + "/ns/time_for_children") == space;
  };
  if (!space.empty() && !is_for_children(folder)) {
    asked.clear();
    for_each_numeric_entry("/proc", [&](std::uint32_t pid) {
      const std::string other = folder_of(pid);
      if (asked.empty() && link_of(other + "/ns/time") == space && is_for_children(other)) asked = other;
    });
  }
  const std::string text = asked.empty() ? "" : read_small_file(asked + "/timens_offsets");
  long long seconds = 0;
  long long nanoseconds = 0;
  const std::size_t line = text.find("monotonic");
  if (line == std::string::npos || std::sscanf(text.c_str() + line, "monotonic %lld %lld", &seconds, &nanoseconds) != 2)
    return std::nullopt;
  return static_cast<std::int64_t>(seconds) * static_cast<std::int64_t>(kSecond) + nanoseconds;
}

}  // namespace

std::string link_of(const std::string& path) {
  std::array<char, 4096> link{};
  const ssize_t length = readlink(path.c_str(), link.data(), link.size());
  return {link.data(), length > 0 ? static_cast<std::size_t>(length) : 0};
}

std::string read_small_file(const std::string& path, std::size_t most) {
  const OpenFile file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  if (!file) return text;
  std::array<char, 4096> buffer{};
  while (text.size() < most) {
    const ssize_t got = ::read(file.get(), buffer.data(), std::min(buffer.size(), most - text.size()));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
  return text;
}

std::string read_line(const std::string& path) {
  std::string text = read_small_file(path);
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

const std::string& boot_id() {
  static const std::string id = read_line("/proc/sys/kernel/random/boot_id");
  return id;
}

FirstThreads first_threads(std::uint32_t pid) {
  const OpenFile folder(::open((folder_of(pid) + "/task").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  alignas(dirent64) std::array<char, 1024> names{};
  const auto next_names = [&] { return folder ? getdents64(folder.get(), names.data(), names.size()) : 0; };
  FirstThreads threads;
  const ssize_t size = next_names();
  for (ssize_t at = 0; at < size;) {
    const auto* entry = reinterpret_cast<const dirent64*>(names.data() + at);
    at += entry->d_reclen;
    if (const std::uint32_t id = last_number(entry->d_name); id != 0) threads.ids.push_back(id);
  }
  threads.are_all = next_names() <= 0;
  return threads;
}

std::optional<ProcessState> process_state(std::uint32_t pid) {
  auto state = read_state(pid);
  if (state && has_ended(*state)) find_running_thread(pid, *state);
  return state;
}

std::uint32_t thread_to_read(std::uint32_t pid) {
  const auto state = process_state(pid);
  return state ? state->thread : pid;
}

OpenFile open_process(std::uint32_t pid) {
  return OpenFile(static_cast<int>(syscall(SYS_pidfd_open, static_cast<pid_t>(pid), 0U)));
}

bool has_ended(const OpenFile& process) {
  pollfd ended{process.get(), POLLIN, 0};
  return !process || poll(&ended, 1, 0) > 0;
}

std::int64_t own_clock_offset() { return offset_of_namespace("/proc/self").value_or(0); }

std::optional<std::int64_t> clock_offset(std::uint32_t pid) {
  const std::string folder = folder_of(thread_to_read(pid));
  if (link_of(folder + "/ns/time") == link_of("/proc/self/ns/time")) return 0;
  const auto offset = offset_of_namespace(folder);
  return offset ? std::optional(*offset - own_clock_offset()) : std::nullopt;
}

void require_proc() {
  if (link_of("/proc/self") == std::to_string(getpid())) return;
  throw Failure(
      "/proc is not mounted, or belongs to another pid namespace, so no process can be found: mount -t proc "
      "proc /proc");
}

void require_processes(const std::vector<std::uint32_t>& pids) {
  for (const std::uint32_t pid : pids) {
    if (!process_state(pid)) {
      throw Failure("there is no process " + std::to_string(pid) +
                        " in this pid namespace; nopspan ps lists the processes that can be traced",
                    Failure::kUsageError);
    }
    // /proc has threads too, but does not list them. Nothing can be attached to them.
    const std::string process = process_status(pid, "Tgid");
    if (!process.empty() && process != std::to_string(pid)) {
      throw Failure(std::to_string(pid) + " is a thread of process " + process + ": use the pid of the process",
                    Failure::kUsageError);
    }
  }
}

std::string process_status(std::uint32_t pid, const std::string& key) {
  const std::string text = read_small_file(folder_of(pid) + "/status");
  const std::string line = "\n" + key + ":";
  const std::size_t at = text.find(line);
  if (at == std::string::npos) return "";
  const std::size_t from = text.find_first_not_of(" \t", at + line.size());
  return from == std::string::npos ? "" : text.substr(from, text.find('\n', from) - from);
}

std::uint32_t user_of(std::uint32_t pid) {
  const std::string users = process_status(pid, "Uid");
  return users.empty() ? kNoUser : static_cast<std::uint32_t>(std::strtoul(users.c_str(), nullptr, 10));
}

// The line has the pid in each namespace from this program's on.
bool is_in_namespace_below(std::uint32_t pid) {
  return process_status(pid, "NSpid").find_first_of(" \t") != std::string::npos;
}

std::string cgroup_of(std::uint32_t pid) {
  return cgroup_of_host(cgroup_path(read_small_file(folder_of(thread_to_read(pid)) + "/cgroup")));
}

Process unknown_process(std::uint32_t pid) {
  Process process;
  process.pid = process.namespace_pid = pid;
  process.host = host_name();
  process.boot_id = boot_id();
  return process;
}

Process process_facts(std::uint32_t pid) {
  Process process = unknown_process(pid);
  const auto state = process_state(pid);
  if (!state) return process;
  process.start_ticks = state->start_ticks;
  process.comm = state->comm;
  if (const std::uint32_t inner = last_number(process_status(pid, "NSpid")); inner != 0) process.namespace_pid = inner;
  process.cgroup = cgroup_of(pid);
  process.container = container_id(process.cgroup);
  process.executable = link_of(folder_of(state->thread) + "/exe");
  process.clock_offset_ns = clock_offset(pid).value_or(0);
  return process;
}

int for_each_numeric_entry(const std::string& folder, const std::function<void(std::uint32_t)>& on_number,
                           const Deadline* until) {
  const std::unique_ptr<DIR, int (*)(DIR*)> opened(opendir(folder.c_str()), closedir);
  if (!opened) return errno;
  const dirent* entry = nullptr;
  while ((until == nullptr || !until->is_over()) && (entry = readdir(opened.get())) != nullptr) {
    const char* end = entry->d_name + std::strlen(entry->d_name);
    std::uint32_t number = 0;
    if (std::from_chars(entry->d_name, end, number).ptr == end) on_number(number);
  }
  return 0;
}

std::unordered_map<std::uint32_t, std::uint32_t> thread_ids(const Process& process) {
  std::unordered_map<std::uint32_t, std::uint32_t> ids;
  const bool same = process.namespace_pid == process.pid;
  for_each_numeric_entry(folder_of(process.pid) + "/task", [&](std::uint32_t id) {
    ids.emplace(same ? id : last_number(process_status(id, "NSpid")), id);
  });
  return ids;
}

}  // namespace nopspan::collector
