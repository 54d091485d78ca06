// SPDX-License-Identifier: Apache-2.0
#include "live/thread_headers.h"

#include "host/process_memory.h"

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstddef>

namespace nopspan::collector {
namespace {

// Larger than the buffer of any version of the library.
constexpr std::uint64_t kMostBytes = 512U << 10U;

bool is_plausible(const nopspan_thread& header) {
  return header.magic == NOPSPAN_THREAD_MAGIC && header.mark != 0 && header.bytes <= kMostBytes;
}

// The address is in another process.
iovec at(std::uint64_t address, std::size_t size) {
  return {reinterpret_cast<void*>(address), size};  // NOLINT(performance-no-int-to-ptr): it came as a number
}

}  // namespace

bool ThreadHeaders::read() {
  threads_.clear();
  nopspan_gate_page page{};
  if (!read_value(pid_, gate_address_, page)) return false;
  if (page.size < offsetof(nopspan_gate_page, process_mark) + sizeof(page.process_mark) || page.threads == 0)
    return true;
  if (!read_value(pid_, page.process_mark, mark_)) return false;
  if (!find_new(page.threads)) return false;
  read_known();
  for (std::size_t i = 0; i < addresses_.size(); ++i) {
    if (is_plausible(headers_[i]) && headers_[i].mark == mark_) threads_.push_back({addresses_[i], headers_[i]});
  }
  return true;
}

// New headers are inserted at the front of the list.
bool ThreadHeaders::find_new(std::uint64_t first) {
  std::uint64_t address = first;
  while (address != 0 && address != newest_) {
    if (addresses_.size() == kMostThreads) {
      too_many_ = true;
      break;
    }
    nopspan_thread header{};
    if (!read_value(pid_, address, header) || header.magic != NOPSPAN_THREAD_MAGIC) break;
    addresses_.push_back(address);
    address = header.next_thread;
  }
  newest_ = first;
  return true;
}

// Reads many headers with one system call, because a process may have thousands.
void ThreadHeaders::read_known() {
  constexpr std::size_t kAtOnce = 512;
  headers_.resize(addresses_.size());
  std::array<iovec, kAtOnce> remote{};
  for (std::size_t done = 0; done < addresses_.size();) {
    const std::size_t count = std::min(kAtOnce, addresses_.size() - done);
    for (std::size_t i = 0; i < count; ++i) remote[i] = at(addresses_[done + i], sizeof(nopspan_thread));
    iovec local{&headers_[done], count * sizeof(nopspan_thread)};
    const ssize_t got = process_vm_readv(static_cast<pid_t>(pid_), &local, 1, remote.data(), count, 0);
    const std::size_t whole = got <= 0 ? 0 : static_cast<std::size_t>(got) / sizeof(nopspan_thread);
    // Skip the header that could not be read.
    if (whole < count) headers_[done + whole] = nopspan_thread{};
    done += whole < count ? whole + 1 : count;
  }
}

// The header is read after the bytes. If `first` has not changed, no byte was overwritten before it was read.
bool ThreadHeaders::fetch(const Thread& thread, std::string& bytes) const {
  bytes.resize(thread.header.bytes);
  nopspan_thread after{};
  std::array<iovec, 2> local{iovec{bytes.data(), bytes.size()}, iovec{&after, sizeof(after)}};
  std::array<iovec, 2> remote{at(thread.header.buffer, bytes.size()), at(thread.address, sizeof(after))};
  const ssize_t got =
      process_vm_readv(static_cast<pid_t>(pid_), local.data(), local.size(), remote.data(), remote.size(), 0);
  if (got < 0 || static_cast<std::size_t>(got) != bytes.size() + sizeof(after)) return false;
  return after.first == thread.header.first && after.mark == thread.header.mark &&
         after.sequence_id == thread.header.sequence_id && after.buffer == thread.header.buffer;
}

bool ThreadHeaders::still_holds(const Thread& thread) const {
  nopspan_thread now{};
  return read_value(pid_, thread.address, now) && now.first == thread.header.first && now.mark == thread.header.mark &&
         now.sequence_id == thread.header.sequence_id;
}

}  // namespace nopspan::collector
