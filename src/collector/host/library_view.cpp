// SPDX-License-Identifier: Apache-2.0
#include "host/library_view.h"

#include "host/process_memory.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace nopspan::collector {
namespace {

// Formats the version of struct nopspan_gate_page (major << 32 | minor << 16 | patch) as "1.2.3"; "" for 0.
std::string version_text(std::uint64_t version) {
  if (version == 0) return "";
  return std::to_string(version >> 32) + "." + std::to_string((version >> 16) & 0xffff) + "." +
         std::to_string(version & 0xffff);
}

constexpr std::size_t kMaximumThreads = 65536;
constexpr std::size_t kMaximumCounts = 256;

// In the order of include/nopspan/stats.h. A test compares the two.
constexpr std::array kCounts = {"spans_dropped",      "reentrant",       "inherited",         "abandoned",
                                "wrong_thread",       "names_invalid",   "names_overflow",    "names_unknown",
                                "truncated",          "labels_overflow", "invalid_ids",       "invalid_tracestate",
                                "tracestate_evicted", "invalid_utf8",    "values_clamped",    "fields_dropped",
                                "attributes_dropped", "links_dropped",   "metadata_failures", "handler_failures",
                                "recursion_dropped",  "facts_untracked", "trace_ids_differ",  "thread_allocations",
                                "scopes_left",        "baggage_dropped"};

void view_threads(std::uint32_t pid, const nopspan_gate_page& page, LibraryView& view) {
  std::uint64_t mark = 0;
  if (!read_value(pid, page.process_mark, mark)) return;
  std::uint64_t at = page.threads;
  for (std::size_t seen = 0; at != 0 && seen < kMaximumThreads; ++seen) {
    nopspan_thread thread{};
    if (!read_value(pid, at, thread) || thread.magic != NOPSPAN_THREAD_MAGIC) return;
    // After a fork the list still has the headers of the parent's threads. They have another mark.
    if (thread.mark == mark && mark != 0) {
      ++view.threads;
      view.held_entries += thread.next - thread.first;
    }
    at = thread.next_thread;
  }
}

void view_counts(std::uint32_t pid, const nopspan_gate_page& page, LibraryView& view) {
  std::vector<std::uint64_t> counts(std::min<std::size_t>(page.stats_count, kMaximumCounts));
  const std::size_t got = read_memory(pid, page.stats, counts.data(), counts.size() * sizeof(std::uint64_t));
  for (std::size_t i = 0; i < got / sizeof(std::uint64_t); ++i) {
    if (counts[i] == 0) continue;
    // A newer library may have counters that this version has no name for.
    view.counts.emplace_back(i < kCounts.size() ? kCounts[i] : "count_" + std::to_string(i), counts[i]);
  }
}

}  // namespace

GateCounters GateCounters::of(std::uint64_t word) {
  return {static_cast<std::uint16_t>(word), static_cast<std::uint16_t>(word >> 16),
          static_cast<std::uint8_t>(word >> 32), static_cast<std::uint8_t>(word >> 40),
          static_cast<std::uint16_t>(word >> 48)};
}

std::vector<std::pair<const char*, unsigned>> GateCounters::by_name() const {
  return {{"spans", spans},
          {"batch", batch},
          {"span_handlers", span_handlers},
          {"point_handlers", point_handlers},
          {"points", points}};
}

std::optional<LibraryView> view_library(std::uint32_t pid, std::uint64_t gate_address) {
  nopspan_gate_page page{};
  if (!read_value(pid, gate_address, page)) return std::nullopt;
  LibraryView view;
  view.gate = GateCounters::of(page.gate);
  view.abi_version = page.abi_version;
  if (page.size >= offsetof(nopspan_gate_page, threads)) view.version = version_text(page.library_version);
  view.is_whole = page.size >= offsetof(nopspan_gate_page, magic);
  if (!view.is_whole) return view;
  view.memory_bytes = page.memory_bytes;
  view_threads(pid, page, view);
  view_counts(pid, page, view);
  return view;
}

}  // namespace nopspan::collector
