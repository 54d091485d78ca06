// SPDX-License-Identifier: Apache-2.0
#include "host/library_view.h"

#include "base/saturating.h"
#include "host/process_memory.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <functional>
#include <unordered_set>

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
constexpr std::size_t kMaximumWarnings = 16;

// The result of view_work(), as bytes.
struct RawView {
  nopspan_gate_page page{};
  std::uint64_t mark = 0, threads = 0, held_entries = 0;
  std::array<std::uint64_t, kMaximumCounts> counts{};
  std::array<nopspan_warning, kMaximumWarnings> warnings{};
};

// In the order of include/nopspan/stats.h. A test compares the two.
constexpr std::array kCounts = {
    "spans_dropped",     "reentrant",          "inherited",          "abandoned",          "wrong_thread",
    "names_invalid",     "names_overflow",     "names_unknown",      "truncated",          "labels_overflow",
    "invalid_ids",       "invalid_tracestate", "tracestate_evicted", "invalid_utf8",       "values_clamped",
    "fields_dropped",    "attributes_dropped", "links_dropped",      "metadata_failures",  "handler_failures",
    "recursion_dropped", "facts_untracked",    "trace_ids_differ",   "thread_allocations", "scopes_left",
    "baggage_dropped",   "members_dropped",    "contexts_dropped",   "spans_over_limit",   "warnings"};
using LibraryCounts = std::array<std::uint64_t, kCounts.size()>;

constexpr std::size_t index_of(std::string_view name) {
  return static_cast<std::size_t>(std::find(kCounts.begin(), kCounts.end(), name) - kCounts.begin());
}

// Zero where the library has fewer, and where they cannot be read.
LibraryCounts read_counts(std::uint32_t pid, const nopspan_gate_page& page) {
  LibraryCounts counts{};
  if (page.size < offsetof(nopspan_gate_page, magic)) return counts;
  const auto count = std::min<std::size_t>(page.stats_count, counts.size());
  if (!read_memory_here(pid, page.stats, counts.data(), count * sizeof(std::uint64_t))) return {};
  return counts;
}

// What the library has dropped, as a ledger counts it.
Counts drops_of(const LibraryCounts& counts) {
  const auto count = [&counts](const char* name) { return counts[index_of(name)]; };
  Counts drops;
  drops.over_limit = std::min(count("spans_dropped"), count("spans_over_limit"));
  drops.no_memory = count("spans_dropped") - drops.over_limit;
  drops.reentrant = count("reentrant");
  drops.attributes_dropped = saturating_sum(count("fields_dropped"), count("attributes_dropped"));
  drops.links_dropped = count("links_dropped");
  drops.members_dropped = count("members_dropped");
  return drops;
}

// See NOPSPAN_GATE_NO_SITES.
bool calls_sites(const nopspan_gate_page& page) {
  return page.size < sizeof(page) || (page.flags & NOPSPAN_GATE_NO_SITES) == 0;
}

// Reads the list of threads' headers. Calls `on_header` for each header from `first` on, and adds its address to
// `seen`. Ends at an address that is in `seen` or cannot be read, so a list that contains itself ends. Also ends when
// `seen` has `most` addresses. Returns false then.
bool for_each_thread(std::uint32_t pid, std::uint64_t first, std::size_t most, std::unordered_set<std::uint64_t>& seen,
                     const std::function<void(std::uint64_t address, const nopspan_thread& header)>& on_header) {
  nopspan_thread header{};
  for (std::uint64_t at = first; at != 0 && !seen.contains(at); at = header.next_thread) {
    if (seen.size() == most) return false;
    if (!read_value_here(pid, at, header) || header.magic != NOPSPAN_THREAD_MAGIC) return true;
    seen.insert(at);
    on_header(at, header);
  }
  return true;
}

void view_threads(std::uint32_t pid, RawView& view) {
  if (!read_value_here(pid, view.page.process_mark, view.mark)) return;
  std::unordered_set<std::uint64_t> seen;
  for_each_thread(pid, view.page.threads, kMaximumThreads, seen, [&](std::uint64_t, const nopspan_thread& thread) {
    // After a fork the list still has the headers of the parent's threads. They have another mark.
    if (thread.mark != view.mark || view.mark == 0) return;
    ++view.threads;
    view.held_entries += thread.next - thread.first;
  });
}

void view_warnings(std::uint32_t pid, RawView& view) {
  const auto count = std::min<std::size_t>(view.page.warnings_count, kMaximumWarnings);
  for (std::size_t i = 0; i < count; ++i) {
    nopspan_warning& warning = view.warnings[i];
    if (!read_value_here(pid, view.page.warnings + i * view.page.warning_bytes, warning)) warning.size = 0;
  }
}

Answer view_work(std::uint32_t pid, std::string_view request, OpenFile /*file*/) {
  std::uint64_t gate_address = 0;
  std::memcpy(&gate_address, request.data(), sizeof(gate_address));
  RawView view;
  if (!read_value_here(pid, gate_address, view.page)) return {errno, "", OpenFile()};
  if (view.page.size >= offsetof(nopspan_gate_page, magic)) {
    view_threads(pid, view);
    const auto count = std::min<std::size_t>(view.page.stats_count, kMaximumCounts);
    read_memory_here(pid, view.page.stats, view.counts.data(), count * sizeof(std::uint64_t));
    if (view.page.size > offsetof(nopspan_gate_page, warning_bytes)) view_warnings(pid, view);
  }
  return {0, {reinterpret_cast<const char*>(&view), sizeof(view)}, OpenFile()};
}

std::string version_of(const nopspan_gate_page& page) {
  return page.size >= offsetof(nopspan_gate_page, threads) ? version_text(page.library_version) : "";
}

// Larger than the buffer of any version of the library.
constexpr std::uint64_t kMostBatchBytes = 512U << 10U;
constexpr std::size_t kMostThreads = 16384;

// The request is the gate's address and those of the known headers. The answer is a FoundThreads, all addresses, and
// the headers in the same order. Known headers come first.
struct FoundThreads {
  std::uint64_t mark = 0;
  std::uint64_t threads = 0;
  std::uint64_t too_many = 0;
  std::uint64_t calls_sites = 1;
  LibraryCounts counts{};
};

bool is_plausible(const nopspan_thread& header) {
  return header.magic == NOPSPAN_THREAD_MAGIC && header.mark != 0 && header.bytes <= kMostBatchBytes;
}

template <typename T>
void append_bytes(std::string& to, const T* values, std::size_t count) {
  to.append(reinterpret_cast<const char*>(values), count * sizeof(T));
}

// Reads many headers with one system call, because a process may have thousands. A header that cannot be read is zero.
void read_headers_here(std::uint32_t pid, const std::vector<std::uint64_t>& addresses,
                       std::vector<nopspan_thread>& headers) {
  constexpr std::size_t kAtOnce = 512;
  std::array<MemoryRange, kAtOnce> ranges{};
  for (std::size_t done = 0; done < addresses.size();) {
    const std::size_t count = std::min(kAtOnce, addresses.size() - done);
    for (std::size_t i = 0; i < count; ++i) ranges[i] = {addresses[done + i], sizeof(nopspan_thread)};
    const std::size_t size = count * sizeof(nopspan_thread);
    const std::size_t whole =
        read_ranges_here(pid, {ranges.data(), count}, &headers[done], size) / sizeof(nopspan_thread);
    if (whole < count) headers[done + whole] = nopspan_thread{};
    done += whole < count ? whole + 1 : count;
  }
}

// Runs in the child that reads.
Answer headers_work(std::uint32_t pid, std::string_view request, OpenFile /*file*/) {
  std::uint64_t gate_address = 0;
  std::memcpy(&gate_address, request.data(), sizeof(gate_address));
  request.remove_prefix(sizeof(gate_address));
  std::vector<std::uint64_t> addresses(request.size() / sizeof(std::uint64_t));
  std::memcpy(addresses.data(), request.data(), request.size());
  FoundThreads found;
  nopspan_gate_page page{};
  if (!read_value_here(pid, gate_address, page)) return {errno, "", OpenFile()};
  found.counts = read_counts(pid, page);
  found.calls_sites = calls_sites(page) ? 1 : 0;
  const bool has_threads = page.size >= offsetof(nopspan_gate_page, process_mark) + sizeof(page.process_mark);
  if (!has_threads || page.threads == 0) {
    addresses.clear();
  } else if (!read_value_here(pid, page.process_mark, found.mark)) {
    return {errno, "", OpenFile()};
  } else if (std::find(addresses.begin(), addresses.end(), page.threads) == addresses.end()) {
    // New headers are inserted at the front of the list.
    std::unordered_set<std::uint64_t> seen(addresses.begin(), addresses.end());
    found.too_many = !for_each_thread(pid, page.threads, kMostThreads, seen,
                                      [&](std::uint64_t at, const nopspan_thread&) { addresses.push_back(at); });
  }
  std::vector<nopspan_thread> headers(addresses.size());
  read_headers_here(pid, addresses, headers);
  found.threads = addresses.size();
  Answer answer;
  append_bytes(answer.bytes, &found, 1);
  append_bytes(answer.bytes, addresses.data(), addresses.size());
  append_bytes(answer.bytes, headers.data(), headers.size());
  return answer;
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

std::string GateCounters::negative() const {
  constexpr unsigned kNegative = 0x8000;
  std::string names;
  for (const auto& [name, value] : by_name()) {
    if (value >= kNegative) names += (names.empty() ? "" : ", ") + std::string(name);
  }
  return names;
}

std::optional<GateCounters> read_gate(const Target& process, std::uint64_t gate_address) {
  std::uint64_t word = 0;
  if (!read_value(process, gate_address, word)) return std::nullopt;
  return GateCounters::of(word);
}

std::optional<LibraryView> view_library(const Target& process, std::uint64_t gate_address) {
  const Answer answer =
      read_process(process, view_work, {reinterpret_cast<const char*>(&gate_address), sizeof(gate_address)});
  RawView raw;
  errno = answer.error;
  if (answer.bytes.size() != sizeof(raw)) return std::nullopt;
  std::memcpy(&raw, answer.bytes.data(), sizeof(raw));
  LibraryView view;
  view.gate = GateCounters::of(raw.page.gate);
  view.version = version_of(raw.page);
  view.is_whole = raw.page.size >= offsetof(nopspan_gate_page, magic);
  if (!view.is_whole) return view;
  view.calls_sites = calls_sites(raw.page);
  view.is_prepared = raw.mark != 0;
  view.memory_bytes = raw.page.memory_bytes;
  view.threads = raw.threads;
  view.held_entries = raw.held_entries;
  for (std::size_t i = 0; i < raw.counts.size(); ++i) {
    if (raw.counts[i] == 0) continue;
    // A newer library may have counters that this version has no name for.
    view.counts.emplace_back(i < kCounts.size() ? kCounts[i] : "count_" + std::to_string(i), raw.counts[i]);
  }
  for (const nopspan_warning& warning : raw.warnings) {
    if (warning.size == 0) continue;
    view.warnings.emplace_back(warning.text, std::min<std::size_t>(warning.size, sizeof(warning.text)));
  }
  return view;
}

std::string library_version(const Target& process, std::uint64_t gate_address) {
  nopspan_gate_page page{};
  return read_value(process, gate_address, page) ? version_of(page) : "";
}

bool ThreadHeaders::read() {
  threads_.clear();
  std::string request;
  append_bytes(request, &gate_address_, 1);
  append_bytes(request, addresses_.data(), addresses_.size());
  const Answer answer = read_process(process_, headers_work, request);
  errno = answer.error;
  FoundThreads found;
  if (answer.error != 0 || answer.bytes.size() < sizeof(found)) return false;
  std::memcpy(&found, answer.bytes.data(), sizeof(found));
  const std::size_t count = found.threads;
  if (count > kMostThreads ||
      answer.bytes.size() != sizeof(found) + count * (sizeof(std::uint64_t) + sizeof(nopspan_thread)))
    return false;
  addresses_.resize(count);
  const char* at = answer.bytes.data() + sizeof(found);
  std::memcpy(addresses_.data(), at, count * sizeof(std::uint64_t));
  at += count * sizeof(std::uint64_t);
  dropped_ = drops_of(found.counts);
  calls_sites_ = found.calls_sites != 0;
  too_many_ = too_many_ || found.too_many != 0;
  for (std::size_t i = 0; i < count; ++i, at += sizeof(nopspan_thread)) {
    nopspan_thread header{};
    std::memcpy(&header, at, sizeof(header));
    if (is_plausible(header) && header.mark == found.mark) threads_.push_back({addresses_[i], header});
  }
  return true;
}

// The header is read after the bytes. If `first` has not changed, no byte was overwritten before it was read.
bool ThreadHeaders::fetch(const Thread& thread, std::string& bytes) const {
  nopspan_thread after{};
  const std::array<MemoryRange, 2> ranges{MemoryRange{thread.header.buffer, thread.header.bytes},
                                          MemoryRange{thread.address, sizeof(after)}};
  if (!read_ranges(process_, ranges, bytes)) return false;
  std::memcpy(&after, bytes.data() + thread.header.bytes, sizeof(after));
  bytes.resize(thread.header.bytes);
  return after.first == thread.header.first && after.mark == thread.header.mark &&
         after.sequence_id == thread.header.sequence_id && after.buffer == thread.header.buffer;
}

bool ThreadHeaders::still_holds(const Thread& thread) const {
  nopspan_thread now{};
  return read_value(process_, thread.address, now) && now.first == thread.header.first &&
         now.mark == thread.header.mark && now.sequence_id == thread.header.sequence_id;
}

}  // namespace nopspan::collector
