// SPDX-License-Identifier: Apache-2.0
// The report of `nopspan ps` on a process that has probes.
#pragma once

#include "host/host.h"
#include "host/library_view.h"
#include "host/tracers.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace nopspan::collector {

struct CopyReport {
  Host::Copy copy;
  std::optional<LibraryView> view;  // empty if its memory could not be read
  std::string why_no_view;
  std::vector<AttachedTracer> attached;
};

struct ProcessReport {
  ProcessPointer process;
  std::vector<CopyReport> copies;
};

// `copies` is empty if the process has no probes or has ended meanwhile.
ProcessReport report_process(Host& host, const Tracers& tracers, std::uint32_t pid);

nlohmann::ordered_json to_json(const ProcessReport& report);

// Messages about what could not be examined, and why. Processes with the same reason are counted in one line.
std::string skipped_text(const std::vector<Unattached>& skipped);

}  // namespace nopspan::collector
