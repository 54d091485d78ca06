// SPDX-License-Identifier: Apache-2.0
// Finds the processes that stand in the way of an attach to a file in all processes together.
#pragma once

#include "host/host.h"
#include "model/ledger_counts.h"

#include <cstdint>
#include <string>
#include <vector>

namespace nopspan::collector {

// A process with more mappings of a file is not attached to.
constexpr std::uint64_t kMostMappings = 64;

// Why such a process is not attached to, for people.
std::string too_many_mappings_text(std::uint64_t mappings);

// The processes, as of the last scan, and why the kernel would refuse to attach or would take long.
std::vector<Unattached> find_obstacles(Host& host);
// The processes that have loaded a file more than once (dlmopen). The kernel changes only one of the gates of such a
// process, so the spans of the other copies are not seen.
std::vector<Unattached> find_twins(Host& host);
// Why spans of a process that calls no sites are not seen, for people.
extern const char* const kCallsNoSites;
// For stderr.
std::string text_of(const Unattached& one);

}  // namespace nopspan::collector
