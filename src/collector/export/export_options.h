// SPDX-License-Identifier: Apache-2.0
// The options for the content of an export.
#pragma once

#include "model/service.h"

#include <nopspan/semconv.h>

#include <cstddef>
#include <cstdint>

namespace nopspan::collector {

struct ExportOptions {
  Semconv semconv = Semconv::v1_41;
  // Added to the attributes of each process, unless the process has an attribute of this name itself.
  NamesAndValues resource_attributes;
  bool traces = true;                          // without: spans are left out
  bool logs = true;                            // without: log records are left out, also those of late events
  std::size_t step_links = 0;                  // links of a step: those to its first members
  std::uint64_t max_age_ns = 300'000'000'000;  // how long events wait for the end of their span
};

}  // namespace nopspan::collector
