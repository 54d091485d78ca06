// SPDX-License-Identifier: Apache-2.0
#include "host/library_view.h"

#include "base/saturating.h"
#include "host/process_memory.h"

#include <collector_events.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <unordered_set>

namespace nopspan::collector {

// The beginning of an answer. All addresses follow, and then the headers in the same order. Known headers come first.
struct FoundThreads {
  nopspan_gate_page page{};
  std::uint64_t mark = 0;
  std::uint64_t mark_error = 0;  // why the mark cannot be read; then there are no threads
  std::uint64_t threads = 0;
  std::uint64_t too_many = 0;
  std::array<std::uint64_t, 256> counts{};  // by index in kCounts; a newer library may have more
};

namespace {

constexpr std::size_t kMaximumWarnings = 16;
constexpr std::size_t kMostThreadsToView = 65536;

// In the order of include/nopspan/stats.h. A test compares the two.
constexpr std::array kCounts = {"spans_dropped",      "reentrant",       "inherited",         "abandoned",
                                "wrong_thread",       "names_invalid",   "names_overflow",    "names_unknown",
                                "truncated",          "labels_overflow", "invalid_ids",       "invalid_tracestate",
                                "tracestate_evicted", "invalid_utf8",    "values_clamped",    "fields_dropped",
                                "attributes_dropped", "links_dropped",   "metadata_failures", "handler_failures",
                                "recursion_dropped",  "facts_untracked", "trace_ids_differ",  "thread_allocations",
                                "scopes_left",        "baggage_dropped", "members_dropped",   "contexts_dropped",
                                "spans_over_limit",   "warnings",        "calls_invalid"};
using LibraryCounts = decltype(FoundThreads::counts);

constexpr std::size_t index_of(std::string_view name) {
  return static_cast<std::size_t>(std::find(kCounts.begin(), kCounts.end(), name) - kCounts.begin());
}

bool is_whole(const nopspan_gate_page& page) { return page.size >= offsetof(nopspan_gate_page, magic); }

// Zero where the library has fewer, and where they cannot be read.
LibraryCounts read_counts(std::uint32_t pid, const nopspan_gate_page& page) {
  LibraryCounts counts{};
  if (!is_whole(page)) return counts;
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

// Adds the addresses of threads' headers that are not known yet. Ends at one that is known or cannot be read, so a list
// that contains itself ends. Returns false if there are more than `most`.
bool add_threads(std::uint32_t pid, std::uint64_t first, std::size_t most, std::vector<std::uint64_t>& addresses) {
  std::unordered_set<std::uint64_t> known(addresses.begin(), addresses.end());
  nopspan_thread header{};
  for (std::uint64_t at = first; at != 0 && known.insert(at).second; at = header.next_thread) {
    if (addresses.size() == most) return false;
    if (!read_value_here(pid, at, header) || header.magic != NOPSPAN_THREAD_MAGIC) return true;
    addresses.push_back(at);
  }
  return true;
}

// As "1.2.3"; "" if the page has none.
std::string version_of(const nopspan_gate_page& page) {
  const std::uint64_t version = page.size >= offsetof(nopspan_gate_page, threads) ? page.library_version : 0;
  if (version == 0) return "";
  return std::to_string(version >> 32) + "." + std::to_string((version >> 16) & 0xffff) + "." +
         std::to_string(version & 0xffff);
}

// Larger than the buffer of any version of the library.
constexpr std::uint64_t kMostBatchBytes = 512U << 10U;

// The known headers' addresses follow.
struct HeadersRequest {
  std::uint64_t gate_address, most_threads;
};

bool is_plausible(const nopspan_thread& header) {
  return header.magic == NOPSPAN_THREAD_MAGIC && header.mark != 0 && header.bytes <= kMostBatchBytes &&
         header.next - header.first <= NOPSPAN_MOST_ENTRIES;  // also false if `next` is below `first`
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
  HeadersRequest wanted{};
  std::memcpy(&wanted, request.data(), sizeof(wanted));
  request.remove_prefix(sizeof(wanted));
  std::vector<std::uint64_t> addresses(request.size() / sizeof(std::uint64_t));
  if (!addresses.empty()) std::memcpy(addresses.data(), request.data(), request.size());
  FoundThreads found;
  const nopspan_gate_page& page = found.page;
  if (!read_value_here(pid, wanted.gate_address, found.page)) return {errno, "", OpenFile()};
  found.counts = read_counts(pid, page);
  const bool has_threads = page.size >= offsetof(nopspan_gate_page, process_mark) + sizeof(page.process_mark);
  if (has_threads && !read_value_here(pid, page.process_mark, found.mark))
    found.mark_error = static_cast<std::uint64_t>(errno);
  if (!has_threads || page.threads == 0 || found.mark_error != 0) {
    addresses.clear();
  } else if (std::find(addresses.begin(), addresses.end(), page.threads) == addresses.end()) {
    // New headers are inserted at the front of the list.
    found.too_many = !add_threads(pid, page.threads, wanted.most_threads, addresses);
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
  ThreadHeaders headers(process, gate_address, kMostThreadsToView);
  FoundThreads found;
  if (!headers.read(found)) return std::nullopt;
  const nopspan_gate_page& page = found.page;
  LibraryView view;
  view.gate = GateCounters::of(page.gate);
  view.version = version_of(page);
  view.is_whole = is_whole(page);
  if (!view.is_whole) return view;
  view.calls_sites = headers.calls_sites();
  view.is_prepared = found.mark != 0;
  view.memory_bytes = page.memory_bytes;
  view.threads = headers.threads().size();
  for (const auto& [address, header] : headers.threads()) view.held_entries += header.next - header.first;
  for (std::size_t i = 0; i < found.counts.size(); ++i) {
    if (found.counts[i] != 0)
      view.counts.emplace_back(i < kCounts.size() ? kCounts[i] : "count_" + std::to_string(i), found.counts[i]);
  }
  if (page.size <= offsetof(nopspan_gate_page, warning_bytes)) return view;
  std::vector<MemoryRange> ranges;
  for (std::size_t i = 0; i < std::min<std::size_t>(page.warnings_count, kMaximumWarnings); ++i)
    ranges.push_back({page.warnings + i * page.warning_bytes, sizeof(nopspan_warning)});
  std::string bytes;
  if (ranges.empty() || !read_ranges(process, ranges, bytes)) return view;
  for (std::size_t at = 0; at < bytes.size(); at += sizeof(nopspan_warning)) {
    nopspan_warning warning{};
    std::memcpy(&warning, bytes.data() + at, sizeof(warning));
    if (warning.size != 0)
      view.warnings.emplace_back(warning.text, std::min<std::size_t>(warning.size, sizeof(warning.text)));
  }
  return view;
}

std::string library_version(const Target& process, std::uint64_t gate_address) {
  nopspan_gate_page page{};
  return read_value(process, gate_address, page) ? version_of(page) : "";
}

bool ThreadHeaders::read() {
  FoundThreads found;
  if (!read(found)) return false;
  errno = static_cast<int>(found.mark_error);
  return found.mark_error == 0 || found.page.threads == 0;
}

bool ThreadHeaders::read(FoundThreads& found) {
  threads_.clear();
  std::string request;
  const HeadersRequest wanted{gate_address_, most_};
  append_bytes(request, &wanted, 1);
  append_bytes(request, addresses_.data(), addresses_.size());
  const Answer answer = read_process(process_, headers_work, request);
  errno = answer.error;
  if (answer.error != 0 || answer.bytes.size() < sizeof(found)) return false;
  std::memcpy(&found, answer.bytes.data(), sizeof(found));
  const std::size_t count = found.threads;
  if (count > most_ || answer.bytes.size() != sizeof(found) + count * (sizeof(std::uint64_t) + sizeof(nopspan_thread)))
    return false;
  addresses_.resize(count);
  const char* at = answer.bytes.data() + sizeof(found);
  if (count > 0) std::memcpy(addresses_.data(), at, count * sizeof(std::uint64_t));
  at += count * sizeof(std::uint64_t);
  dropped_ = drops_of(found.counts);
  gate_ = GateCounters::of(found.page.gate);
  calls_sites_ = found.page.size < sizeof(found.page) || (found.page.flags & NOPSPAN_GATE_NO_SITES) == 0;
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
