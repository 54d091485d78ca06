// SPDX-License-Identifier: Apache-2.0
// A BPF program attached to a probe's site in a file. From Linux 6.6 on by a link of the kind uprobe_multi, which asks
// for CAP_BPF and CAP_PERFMON; before by a perf event, for which kernels from mid-2025 on (stable series too) want
// CAP_SYS_ADMIN.
#pragma once

#include "base/open_file.h"

#include <cstdint>
#include <memory>
#include <string>

struct bpf_link;
struct bpf_object;
struct bpf_program;

namespace nopspan::collector {

class ProbeLink {
 public:
  ProbeLink() = default;  // of nothing
  explicit operator bool() const { return event_ != nullptr || multi_; }

 private:
  friend ProbeLink attach_to_probe(const bpf_program* program, const std::string& path, std::uint64_t offset,
                                   std::uint64_t semaphore_offset, int pid);
  struct Destroy {
    void operator()(bpf_link* link) const;
  };
  std::unique_ptr<bpf_link, Destroy> event_;
  OpenFile multi_;
};

// Says of each of its programs in a section "uprobe" how it will be attached: after opening, before loading.
void prepare_for_probes(bpf_object* object);

// To the instruction at an offset in a file, whose semaphore at another (0: it has none) goes up with it; in one
// process, or in all (-1). Nothing if the kernel refuses, and errno says why.
ProbeLink attach_to_probe(const bpf_program* program, const std::string& path, std::uint64_t offset,
                          std::uint64_t semaphore_offset, int pid);

// The kind of a link, which a program must be loaded for: BPF_TRACE_UPROBE_MULTI of <linux/bpf.h> of Linux 6.6, which
// is newer than the headers that we may be built with.
inline constexpr std::uint32_t kUprobeMulti = 48;
// Whether the kernel has it, and lets this program have it.
bool has_uprobe_multi();
// As attach_to_probe() does it, of a program by its descriptor; `pid` 0: in all processes.
OpenFile create_uprobe_multi(int program, const char* path, std::uint64_t offset, std::uint64_t semaphore_offset,
                             std::uint32_t pid);

// What attach_to_probe()'s error means, for people.
std::string why_not_attached(int error);

}  // namespace nopspan::collector
