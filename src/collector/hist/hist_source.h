// SPDX-License-Identifier: Apache-2.0
// Histograms that the kernel fills (probes/hist.bpf.c), of this host's processes.
#pragma once

#include "hist/hist_table.h"
#include "model/filter.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace nopspan::collector {

struct HistOptions {
  std::vector<const KeyPart*> by;  // one or two
  const Quantity* of = nullptr;
  Filter filter;
  std::string binary;           // attach to this file too, also if no process maps it yet
  std::size_t most_rows = 512;  // of the kernel's; the rest are in one row
  bool check_sequences = true;  // look for hits that the kernel did not run the program for
};

class HistSource {
 public:
  // Loads the kernel's program; nothing is attached yet. Throws Failure.
  explicit HistSource(const HistOptions& options);
  ~HistSource();
  HistSource(const HistSource&) = delete;
  HistSource& operator=(const HistSource&) = delete;

  // Looks for files that have the probe, and attaches to what is new. Throws Failure if the kernel refuses all of them.
  void attach_new();
  // Readable when attach_new() may find something; it wants to be called ten times a second even so.
  [[nodiscard]] int watch_fd() const;
  // To how many files, or copies in the wanted processes, it is attached.
  [[nodiscard]] std::size_t attached() const;
  // False when all wanted processes (--pid) have ended.
  [[nodiscard]] bool may_see_more() const;
  // What could not be attached to, and why, since the last call.
  std::vector<std::string> take_warnings();

  // What was counted up to now. Exact after detach(); before, what is counted meanwhile may be in it by half.
  [[nodiscard]] HistTable read();
  void detach();

 private:
  class Loaded;
  std::unique_ptr<Loaded> loaded_;
};

}  // namespace nopspan::collector
