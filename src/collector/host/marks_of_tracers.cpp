// SPDX-License-Identifier: Apache-2.0
#include "host/marks_of_tracers.h"

#include "host/process_memory.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {
namespace {

using namespace std::string_view_literals;
#if defined(__aarch64__)
constexpr std::string_view kBreakpoint = "\xa0\x00\x20\xd4"sv;  // the kernel's BRK64_OPCODE_UPROBES
#else
constexpr std::string_view kBreakpoint = "\xcc"sv;  // INT3
#endif

}  // namespace

std::optional<bool> has_marks_of_tracers(const Target& process, const Host::Copy& copy) {
  const auto gate = read_gate(process, copy.gate_address);
  if (!gate) return std::nullopt;
  if (gate->spans != 0 || gate->batch != 0 || gate->points != 0) return true;
  constexpr std::size_t kMostSites = 256;
  std::vector<MemoryRange> sites;
  for (const Probe& probe : copy.file->probes()) {
    if (sites.size() < kMostSites)
      sites.push_back({copy.gate_address - copy.file->gate().address + probe.address, kBreakpoint.size()});
  }
  std::string bytes;
  if (sites.empty()) return false;
  if (!read_ranges(process, sites, bytes)) return std::nullopt;
  for (std::size_t at = 0; at < bytes.size(); at += kBreakpoint.size()) {
    if (bytes.compare(at, kBreakpoint.size(), kBreakpoint) == 0) return true;
  }
  return false;
}

}  // namespace nopspan::collector
