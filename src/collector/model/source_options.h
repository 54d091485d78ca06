// SPDX-License-Identifier: Apache-2.0
// The options that select a source and what it delivers.
#pragma once

#include "model/filter.h"

#include <cstdint>
#include <string>

namespace nopspan::collector {

// The options of all commands that read spans.
struct SourceOptions {
  Filter filter;
  std::string from;                          // a recording; empty for this host's processes
  std::string binary;                        // attach to this file too, even if no process maps it yet
  std::uint64_t buffer_bytes = 16U << 20U;   // size of the kernel's ring buffer
  std::uint64_t max_age_ns = 1'000'000'000;  // batches that a thread has held for longer are fetched
  std::uint64_t duration_ns = 0;             // 0 means until SIGINT or SIGTERM
  std::string metrics;                       // the file for the ledger's metrics; empty for none
};

}  // namespace nopspan::collector
