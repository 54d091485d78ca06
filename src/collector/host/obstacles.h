// SPDX-License-Identifier: Apache-2.0
// Finds the processes that stand in the way of an attach to a file in all processes together.
#pragma once

#include "base/open_file.h"
#include "host/host.h"
#include "model/ledger.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace nopspan::collector {

// About how long an attach to the file takes for a process, and how long the detach, while no process can fork: the
// kernel changes each mapping of a page, and for each one it looks for the gate among all mappings of the process.
std::uint64_t attach_ns(const Host::Mapper& mapper);

// A process with more mappings of a file, or that takes longer, is not attached to.
constexpr std::uint64_t kMostMappings = 64, kMostAttachNs = 20'000'000;
bool is_crowd(const Host::Mapper& mapper);
// Why such a process is not attached to, for people.
std::string crowd_text(const Host::Mapper& mapper);

// The processes, as of the last scan, and why the kernel would refuse to attach or would take long.
std::vector<Unattached> find_obstacles(Host& host);
// The processes that have nopspan twice in what the kernel takes for one: a file that is loaded more than once
// (dlmopen), or has several gates. Only one gate is raised, so the spans of the others are not seen.
std::vector<Unattached> find_twins(Host& host);
// The processes that have moved the text of a file to other memory, where it has no probes.
std::vector<Unattached> find_moved(Host& host);
// The processes that map a file which somebody writes to.
std::vector<Unattached> find_written_to(Host& host);
// Why spans of a process that calls no sites are not seen, for people.
extern const char* const kCallsNoSites;
// For stderr.
std::string text_of(const Unattached& one);
// Messages about what could not be examined, and why. Processes with the same reason are counted in one line.
std::string skipped_text(const std::vector<Unattached>& skipped);

// Processes with a seccomp filter, or in seccomp's strict mode. The first span of a process makes system calls that the
// filter may forbid, and strict mode forbids to read the clock (see nopspan/stats.h). So a process may be killed
// because it is traced. This class finds these processes.

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
