// SPDX-License-Identifier: Apache-2.0
// Attaches the kernel programs to files, and detaches them.
#pragma once

#include "host/probe_file.h"
#include "live/kernel_programs.h"

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {

class Attachments {
 public:
  struct Target {
    ProbeFilePointer file;
    std::string path;  // for people
    int pid = -1;      // -1 for all processes that map the file
  };

  explicit Attachments(KernelPrograms& programs) : programs_(programs) {}

  // Attaches to the targets that are not attached yet, and detaches from all others. A failed target is tried again
  // after a pause that doubles up to 30 s. The reason of a failure is printed to stderr when it changes. Returns the
  // targets that are newly attached.
  std::vector<Target> set(const std::vector<Target>& targets, std::uint64_t now_ns);
  // Still true after detach_all().
  [[nodiscard]] bool is_attached(const ProbeFile& file) const;
  void detach_all();

 private:
  struct Attached {
    Target target;
    bool is_attached = false;
    ProbeLink link;
    std::string why_not;
    std::uint64_t again_ns = 0;
    std::uint64_t pause_ns = 250'000'000;
  };
  using Key = std::pair<const ProbeFile*, int>;

  bool attach(Attached& attached, std::uint64_t now_ns);

  KernelPrograms& programs_;
  std::map<Key, Attached> attached_;
};

}  // namespace nopspan::collector
