// SPDX-License-Identifier: Apache-2.0
#include "host/obstacles.h"

#include "base/text.h"
#include "host/library_view.h"
#include "host/process_facts.h"

#include <linux/ioctl.h>
#include <sys/ioctl.h>

#include <array>
#include <charconv>
#include <csignal>
#include <utility>

namespace nopspan::collector {

// Measured with Linux 6.18, for mappings that fork has not copied.
std::uint64_t attach_ns(const Host::Mapper& mapper) {
  constexpr std::uint64_t kMappingNs = 10'000, kStepNs = 30;
  return mapper.mappings * (kMappingNs + mapper.all_mappings * kStepNs);
}

bool is_crowd(const Host::Mapper& mapper) {
  return mapper.mappings > kMostMappings || attach_ns(mapper) > kMostAttachNs;
}

std::string crowd_text(const Host::Mapper& mapper) {
  return "it maps the file " + std::to_string(mapper.mappings) +
         (mapper.mappings > kMostMappings ? " times"
                                          : " times among " + std::to_string(mapper.all_mappings) + " mappings") +
         ", so an attach would stop all forks on this host";
}

const char* const kCallsNoSites =
    "it runs under Valgrind, which would end it at a breakpoint. So it reaches no probe, and its spans are not seen";

std::vector<Unattached> find_obstacles(Host& host) {
  std::vector<Unattached> obstacles;
  for (const Host::Found& found : host.files().attachable()) {
    for (const Host::Mapper& mapper : host.mappers(*found.file)) {
      if (is_crowd(mapper)) obstacles.push_back({found.path, mapper.pid, mapper.comm, crowd_text(mapper)});
    }
  }
  for (const std::uint32_t pid : host.pids()) {
    for (const Host::Copy& copy : host.copies(pid)) {
      if (copy.gate_address == 0) continue;
      const auto gate = read_gate({pid, host.process(pid)->start_ticks}, copy.gate_address);
      const std::string negative = gate ? gate->negative() : "";
      if (negative.empty()) continue;
      obstacles.push_back({copy.path, pid, host.process(pid)->comm,
                           "it has made its semaphore negative (" + negative +
                               "), so the kernel refuses to attach to the file in all processes together"});
    }
  }
  return obstacles;
}

std::vector<Unattached> find_twins(Host& host) {
  std::vector<Unattached> twins;
  for (const std::uint32_t pid : host.pids()) {
    std::map<const ProbeFile*, std::size_t> gates;
    for (const Host::Copy& copy : host.copies(pid)) {
      if (copy.file->has_several_gates())
        twins.push_back({copy.path, pid, host.process(pid)->comm,
                         "the file has nopspan twice, perhaps nopspan_mini.h beside the static library, and nopspan "
                         "attaches to one of them only: spans of the other are not seen"});
      if (copy.gate_address == 0 || ++gates[copy.file.get()] != 2) continue;
      twins.push_back({copy.path, pid, host.process(pid)->comm,
                       "it has loaded the file more than once, perhaps by dlmopen(), and the kernel raises the gate of "
                       "one copy only: spans of the others are not seen"});
    }
  }
  return twins;
}

std::vector<Unattached> find_moved(Host& host) {
  std::vector<Unattached> moved;
  for (const std::uint32_t pid : host.pids()) {
    for (const Host::Copy& copy : host.copies(pid)) {
      if (!copy.has_text)
        moved.push_back({copy.path, pid, host.process(pid)->comm,
                         "it has moved its text to other memory, so it reaches no probe, and its spans are not seen"});
    }
  }
  return moved;
}

std::vector<Unattached> find_written_to(Host& host) {
  std::vector<Unattached> processes;
  for (const Host::Found& found : host.files().written()) {
    for (const Host::Mapper& mapper : host.mappers(*found.file))
      processes.push_back({found.path, mapper.pid, mapper.comm,
                           "a program opened the file for writing, and it is not attached to meanwhile"});
  }
  return processes;
}

std::string text_of(const Unattached& one) {
  return "nopspan: process " + std::to_string(one.pid) + " (" + printable(one.comm) + ") and " + printable(one.path) +
         ": " + one.why;
}

std::string skipped_text(const std::vector<Unattached>& skipped) {
  std::map<std::string, std::vector<const Unattached*>> by_reason;
  for (const Unattached& each : skipped) by_reason[each.why].push_back(&each);
  std::string text;
  for (const auto& [reason, all] : by_reason) {
    const Unattached& first = *all.front();
    if (first.pid == 0) {
      const std::string what = first.path.empty() ? "not all processes were examined" : printable(first.path);
      text.append("nopspan: ").append(what).append(": ").append(reason).append("\n");
      continue;
    }
    text += "nopspan: not examined: process " + std::to_string(first.pid) + " (" + printable(first.comm) + ")" +
            (first.path.empty() ? "" : ", " + printable(first.path)) + ": " + reason;
    if (all.size() > 1) text += " (and " + std::to_string(all.size() - 1) + " more)";
    text += "\n";
  }
  return text;
}

namespace {

// struct pidfd_info of linux/pidfd.h, which Debian 12 does not have.
struct PidfdInfo {
  std::uint64_t mask;
  std::uint64_t cgroup;
  std::array<std::uint32_t, 11> ids;
  std::int32_t exit_code;
};
static_assert(sizeof(PidfdInfo) == 64);
constexpr unsigned long kGetInfo = _IOWR(0xFF, 11, PidfdInfo);
constexpr std::uint64_t kExit = 8;

// The last field of /proc/PID/stat, if the process is a zombie. Its pid is not reused before its parent waits for it.
int exit_code_of_zombie(std::uint32_t pid) {
  const auto state = process_state(pid);
  if (!state || state->state != 'Z') return 0;
  const std::string text = read_small_file("/proc/" + std::to_string(pid) + "/stat");
  const std::size_t at = text.rfind(' ');
  int code = 0;
  if (at != std::string::npos) std::from_chars(text.data() + at + 1, text.data() + text.size(), code);
  return code;
}

// The number of the signal that has ended the process; 0 if it has ended otherwise, or if that cannot be read.
int signal_that_ended(std::uint32_t pid, int process) {
  PidfdInfo info{};
  info.mask = kExit;
  const bool knows = ::ioctl(process, kGetInfo, &info) == 0 && (info.mask & kExit) != 0;
  return (knows ? info.exit_code : exit_code_of_zombie(pid)) & 0x7f;
}

}  // namespace

Seccomp seccomp_of(std::uint32_t pid, bool all_threads) {
  Seccomp strictest = Seccomp::none;
  for (const std::uint32_t thread : all_threads ? first_threads(pid).ids : std::vector{thread_to_read(pid)}) {
    const std::string mode = process_status(thread, "Seccomp");
    if (mode == "1") return Seccomp::strict;
    if (mode == "2") strictest = Seccomp::filter;
  }
  return strictest;
}

void Sandboxed::watch(std::uint32_t pid, bool all_threads) {
  if (watched_.contains(pid) || watched_.size() >= kMost) return;
  const Seccomp seccomp = seccomp_of(pid, all_threads);
  if (seccomp == Seccomp::none) return;
  OpenFile process = open_process(pid);
  const auto state = process_state(pid);
  if (process && state)
    watched_.insert_or_assign(pid, Watched{state->comm, seccomp == Seccomp::strict, std::move(process)});
}

std::vector<Sandboxed::Killed> Sandboxed::take_killed() {
  std::vector<Killed> killed;
  std::erase_if(watched_, [&](const auto& entry) {
    const auto& [pid, watched] = entry;
    if (!has_ended(watched.process)) return false;
    const int signal = signal_that_ended(pid, watched.process.get());
    if (watched.is_strict ? signal == SIGSEGV || signal == SIGKILL : signal == SIGSYS)
      killed.push_back({pid, watched.comm, watched.is_strict});
    return true;
  });
  return killed;
}

}  // namespace nopspan::collector
