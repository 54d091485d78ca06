// SPDX-License-Identifier: Apache-2.0
// Finds the processes that stand in the way of an attach to a file in all processes together.
#pragma once

#include "host/host.h"
#include "model/ledger.h"

#include <cstdint>
#include <string>
#include <vector>

namespace nopspan::collector {

// About how long an attach to the file takes for a process, and how long the detach, while no process can fork: the
// kernel changes each mapping of a page, and for each one it looks for the gate among all mappings of the process.
std::uint64_t attach_ns(const Host::Mapper& mapper);

// A process with more mappings of a file, or that takes longer, is not attached to.
constexpr std::uint64_t kMostMappings = 64, kMostAttachNs = 20'000'000;
bool is_crowd(const Host::Mapper& mapper);
// Why such a process is not attached to, for people.
std::string crowd_text(const Host::Mapper& mapper);

// The processes, as of the last scan, and why the kernel would refuse to attach or would take long.
std::vector<Unattached> find_obstacles(Host& host);
// The processes that have loaded a file more than once (dlmopen). The kernel changes only one of the gates of such a
// process, so the spans of the other copies are not seen.
std::vector<Unattached> find_twins(Host& host);
// The processes that map a file which somebody writes to.
std::vector<Unattached> find_written_to(Host& host);
// Why spans of a process that calls no sites are not seen, for people.
extern const char* const kCallsNoSites;
// For stderr.
std::string text_of(const Unattached& one);

}  // namespace nopspan::collector
