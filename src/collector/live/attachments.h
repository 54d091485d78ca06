// SPDX-License-Identifier: Apache-2.0
// Which files the kernel's programs are attached to.
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
    int pid = -1;      // -1: all processes that map it
  };

  explicit Attachments(KernelPrograms& programs) : programs_(programs) {}

  // Attaches to those that are not attached to yet, and detaches from all others. What fails is tried again, ever less
  // often, and told on stderr when its reason changes. Returns those that are attached now and were not before.
  std::vector<Target> set(const std::vector<Target>& targets, std::uint64_t now_ns);
  // Also after detach_all().
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
