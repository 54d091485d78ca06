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

  Attachments(KernelPrograms& programs, bool per_event) : programs_(programs), per_event_(per_event) {}

  // Attaches to those that are not attached to yet, and detaches from all others. What fails is tried again, ever less
  // often, and told on stderr when its reason changes. Returns those that are attached now and were not before.
  std::vector<Target> set(const std::vector<Target>& targets, std::uint64_t now_ns);
  // Also after detach_all().
  [[nodiscard]] bool is_attached(const ProbeFile& file) const;
  // Whether it hands batches over, or has a hit for each event.
  [[nodiscard]] bool is_by_batch(const ProbeFile& file) const { return file.has_batches() && !per_event_; }
  void detach_all();

 private:
  struct Attached {
    Target target;
    bool is_attached = false;
    std::vector<ProbeLink> links;
    std::string why_not;
    std::uint64_t again_ns = 0;
    std::uint64_t pause_ns = 250'000'000;
  };
  using Key = std::pair<const ProbeFile*, int>;

  bool attach(Attached& attached, std::uint64_t now_ns);

  KernelPrograms& programs_;
  bool per_event_;
  std::map<Key, Attached> attached_;
};

}  // namespace nopspan::collector
