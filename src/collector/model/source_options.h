// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model/filter.h"

#include <cstdint>
#include <string>

namespace nopspan::collector {

// Options of the commands that look at spans.
struct SourceOptions {
  Filter filter;
  std::string from;                          // a recording; empty: this host's processes
  std::string binary;                        // attach to this file too, also if no process maps it yet
  std::uint64_t buffer_bytes = 16U << 20U;   // of the kernel's ring buffer
  std::uint64_t max_age_ns = 1'000'000'000;  // what a thread has held for so long is fetched from it
  std::uint64_t duration_ns = 0;             // 0: until SIGINT or SIGTERM
  std::string metrics;                       // a file to write the ledger to as metrics; empty: none
};

}  // namespace nopspan::collector
