// SPDX-License-Identifier: Apache-2.0
// The kernel's side of `nopspan hist`: loaded, attached to sites, and read.
#pragma once

#include "hist/hist_table.h"
#include "host/probe_file.h"
#include "live/probe_link.h"

#include <cstdint>
#include <memory>
#include <string>

struct hist;

namespace nopspan::collector {

struct HistOptions;

class HistProgram {
 public:
  // Throws Failure if the kernel refuses it.
  explicit HistProgram(const HistOptions& options);

  // To one site, in one process (0: in all). Nothing if the kernel refuses it, and errno says why.
  ProbeLink attach(const ProbeFile& file, const Probe& probe, std::uint32_t pid);
  static std::string attach_failure(const std::string& path, int error);

  // Adds its rows and counts.
  void read_into(HistTable& table) const;

 private:
  struct Destroy {
    void operator()(hist* object) const;
  };
  using Object = std::unique_ptr<hist, Destroy>;
  // Null if the kernel refuses the program, and errno says why.
  static Object load(const HistOptions& options, bool has_cmpxchg);
  void read_rows(HistTable& table) const;
  void read_counts(Counts& counts) const;
  [[nodiscard]] std::uint64_t recursion_misses() const;

  Object object_;
  int program_ = -1;  // file descriptor
  bool has_cmpxchg_ = true;
};

}  // namespace nopspan::collector
