// SPDX-License-Identifier: Apache-2.0
// The kernel's side of `nopspan hist`: loaded, attached to sites, and read.
#pragma once

#include "hist/hist_processes.h"
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

  void read_rows_into(HistTable& table) const;
  // What was counted up to now. `is_final`: it is attached no more, and nothing explains a loss later.
  [[nodiscard]] HistHits hits(bool is_final) const;

 private:
  struct Destroy {
    void operator()(hist* object) const;
  };
  using Object = std::unique_ptr<hist, Destroy>;
  // Null if the kernel refuses the program, and errno says why.
  static Object load(const HistOptions& options, bool has_cmpxchg);
  [[nodiscard]] std::uint64_t recursion_misses() const;

  Object object_;
  int program_ = -1;  // file descriptor
  bool has_cmpxchg_ = true;
  bool checks_sequences_;
};

}  // namespace nopspan::collector
