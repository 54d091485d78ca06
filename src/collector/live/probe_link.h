// SPDX-License-Identifier: Apache-2.0
// Attaches BPF programs to a probe's site in a file. Linux 6.6 and later use a link of the kind uprobe_multi, which
// needs CAP_BPF and CAP_PERFMON. Older kernels use a perf event; for that, kernels since mid-2025 (stable series too)
// require CAP_SYS_ADMIN.
#pragma once

#include "base/open_file.h"
#include "host/probe_file.h"

#include <cstdint>
#include <string>
#include <vector>

namespace nopspan::collector {

// Why an attach failed.
struct WhyNot {
  int error = 0;     // an errno value; 0 if the file has no probe that can be attached to
  std::string text;  // for people
};

// The link's kind; a program must be loaded for it. This is BPF_TRACE_UPROBE_MULTI of Linux 6.6's <linux/bpf.h>, which
// the installed headers may lack.
inline constexpr std::uint32_t kUprobeMulti = 48;
// Whether the kernel supports this kind and lets this program use it.
bool has_uprobe_multi();

// Attaches a program, given by its descriptor, to a place in a file, in one process or in all (`pid` -1). Without a
// program (-1) nothing happens at the place. The semaphore (`semaphore_offset`, 0: none) is raised until the last
// descriptor of the result is closed. If the kernel refuses, the result is empty and errno has the reason.
OpenFile attach_uprobe(int program, const char* path, std::uint64_t offset, std::uint64_t semaphore_offset, int pid);

// The same for a file's batch probe. If that fails, returns an empty link and sets `why_not`.
OpenFile attach_to_probe(int program, const ProbeFile& file, int pid, WhyNot& why_not);
inline OpenFile raise_gate(const ProbeFile& file, int pid, WhyNot& why_not) {
  return attach_to_probe(-1, file, pid, why_not);
}

// Explains an error of attach_to_probe() to people.
WhyNot why_not_attached(int error);

// A link that outlives this program. When the last link to a process is closed, the kernel changes all its mappings
// back in one call. For tens of thousands of mappings that takes many seconds, in which no process on the host can
// fork. When the process has ended, there is nothing to change.
struct LeftLink {
  OpenFile link;
  OpenFile process;  // a pidfd
};
// Starts a process, nopspan-keeper, that keeps the links open until their processes have ended. Does nothing if there
// are none. Returns false if it cannot be started.
bool leave_until_ended(const std::vector<LeftLink>& links);

}  // namespace nopspan::collector
