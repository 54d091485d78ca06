// SPDX-License-Identifier: Apache-2.0
// A BPF program that is attached to a probe's site in a file. Linux 6.6 and later use a link of the kind uprobe_multi,
// which needs CAP_BPF and CAP_PERFMON. Older kernels use a perf event; for that, kernels since mid-2025 (stable series
// too) require CAP_SYS_ADMIN.
#pragma once

#include "base/open_file.h"
#include "host/probe_file.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

struct bpf_link;
struct bpf_program;

namespace nopspan::collector {

class ProbeLink {
 public:
  struct Destroy {
    void operator()(bpf_link* link) const;
  };

  ProbeLink() = default;  // an empty link
  // A link of the kind uprobe_multi, or a perf event without a program.
  explicit ProbeLink(OpenFile file) : file_(std::move(file)) {}
  // What libbpf has attached in another way: a perf event with a program, or a program of a tracepoint or kprobe.
  explicit ProbeLink(bpf_link* event) : event_(event) {}
  explicit operator bool() const { return event_ != nullptr || file_; }
  // Only if it was made of an open file.
  [[nodiscard]] int fd() const { return file_.get(); }
  // A second descriptor: the program stays attached until both are closed. Empty if there are too many descriptors.
  [[nodiscard]] ProbeLink duplicate() const;

 private:
  std::unique_ptr<bpf_link, Destroy> event_;
  OpenFile file_;
};

// Why an attach failed.
struct WhyNot {
  int error = 0;     // an errno value; 0 if the file has no probe that can be attached to
  std::string text;  // for people
};

// Attaches a program to a file's batch probe, in one process or in all (`pid` -1). The gate's part for it is raised as
// long as the program is attached. If that fails, returns an empty link and sets `why_not`. Without a program (nullptr)
// nothing happens at the probe, so only the gate matters.
ProbeLink attach_to_probe(const bpf_program* program, const ProbeFile& file, int pid, WhyNot& why_not);
inline ProbeLink raise_gate(const ProbeFile& file, int pid, WhyNot& why_not) {
  return attach_to_probe(nullptr, file, pid, why_not);
}

// The link's kind; a program must be loaded for it. This is BPF_TRACE_UPROBE_MULTI of Linux 6.6's <linux/bpf.h>, which
// the installed headers may lack.
inline constexpr std::uint32_t kUprobeMulti = 48;
// Whether the kernel supports this kind and lets this program use it.
bool has_uprobe_multi();
// Such a link, for a program's descriptor. `semaphore_offset` 0 means none, and `pid` 0 all processes. If the kernel
// refuses, it is empty and errno has the reason.
OpenFile create_uprobe_multi(int program, const char* path, std::uint64_t offset, std::uint64_t semaphore_offset,
                             std::uint32_t pid);
// The same for kernels without this kind of link: a perf event, which has no program yet. `pid` -1 means all processes.
OpenFile open_uprobe_event(const std::string& path, std::uint64_t offset, std::uint64_t semaphore_offset, int pid);

// Explains an error of attach_to_probe() to people.
WhyNot why_not_attached(int error);

}  // namespace nopspan::collector
