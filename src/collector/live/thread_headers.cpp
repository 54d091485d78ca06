// SPDX-License-Identifier: Apache-2.0
#include "live/thread_headers.h"

#include "host/library_view.h"
#include "host/process_memory.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <unordered_set>

namespace nopspan::collector {
namespace {

// Larger than the buffer of any version of the library.
constexpr std::uint64_t kMostBytes = 512U << 10U;
constexpr std::size_t kMostThreads = 16384;

// The request is the gate's address and those of the known headers. The answer is a Found, all addresses, and the
// headers in the same order. Known headers come first.
struct Found {
  std::uint64_t mark = 0;
  std::uint64_t threads = 0;
  std::uint64_t too_many = 0;
  std::uint64_t calls_sites = 1;
  LibraryCounts counts{};
};

bool is_plausible(const nopspan_thread& header) {
  return header.magic == NOPSPAN_THREAD_MAGIC && header.mark != 0 && header.bytes <= kMostBytes;
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
  Found found;
  nopspan_gate_page page{};
  if (!read_value_here(pid, gate_address, page)) return {errno, "", OpenFile()};
  found.counts = read_counts_here(pid, page);
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

bool ThreadHeaders::read() {
  threads_.clear();
  std::string request;
  append_bytes(request, &gate_address_, 1);
  append_bytes(request, addresses_.data(), addresses_.size());
  const Answer answer = read_process(process_, headers_work, request);
  errno = answer.error;
  Found found;
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
