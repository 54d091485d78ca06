// SPDX-License-Identifier: Apache-2.0
#include "host/process_memory.h"

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace nopspan::collector {
namespace {

constexpr std::size_t kMostRanges = 512;

Answer memory_work(std::uint32_t pid, std::string_view request, OpenFile /*file*/) {
  MemoryRange range{};
  std::memcpy(&range, request.data(), sizeof(range));
  Answer answer;
  answer.bytes.resize(range.size);
  answer.bytes.resize(read_memory_here(pid, range.address, answer.bytes.data(), range.size));
  if (answer.bytes.empty()) answer.error = errno;
  return answer;
}

Answer ranges_work(std::uint32_t pid, std::string_view request, OpenFile /*file*/) {
  std::array<MemoryRange, kMostRanges> ranges{};
  const std::size_t count = request.size() / sizeof(MemoryRange);
  std::memcpy(ranges.data(), request.data(), request.size());
  std::size_t size = 0;
  for (std::size_t i = 0; i < count; ++i) size += ranges[i].size;
  Answer answer;
  answer.bytes.resize(size);
  answer.bytes.resize(read_ranges_here(pid, {ranges.data(), count}, answer.bytes.data(), size));
  if (answer.bytes.size() != size) answer.error = errno;
  return answer;
}

template <typename T>
std::string_view bytes_of(std::span<const T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

}  // namespace

std::size_t read_memory_here(std::uint32_t pid, std::uint64_t address, void* to, std::size_t size) {
  // process_vm_readv(2) stops at the first piece that it cannot read completely, so the pieces end at page boundaries.
  constexpr std::uint64_t kPage = 4096;
  constexpr std::size_t kPieces = 64;
  auto* bytes = static_cast<char*>(to);
  std::size_t done = 0;
  while (done < size) {
    std::array<MemoryRange, kPieces> pieces{};
    std::size_t count = 0;
    std::size_t wanted = 0;
    for (; count < kPieces && done + wanted < size; ++count) {
      const std::uint64_t at = address + done + wanted;
      pieces[count] = {at, std::min<std::uint64_t>(kPage - at % kPage, size - done - wanted)};
      wanted += pieces[count].size;
    }
    const std::size_t got = read_ranges_here(pid, {pieces.data(), count}, bytes + done, wanted);
    done += got;
    if (got < wanted) return done;
  }
  return done;
}

std::size_t read_ranges_here(std::uint32_t pid, std::span<const MemoryRange> ranges, void* to, std::size_t size) {
  std::array<iovec, kMostRanges> remote{};
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): it came as a number
    remote[i] = {reinterpret_cast<void*>(ranges[i].address), ranges[i].size};
  }
  iovec local{to, size};
  const ssize_t got = process_vm_readv(static_cast<pid_t>(pid), &local, 1, remote.data(), ranges.size(), 0);
  if (got >= 0 && static_cast<std::size_t>(got) < size) errno = EFAULT;
  return got < 0 ? 0 : static_cast<std::size_t>(got);
}

std::size_t read_memory(const Target& process, std::uint64_t address, void* to, std::size_t size) {
  const MemoryRange range{address, size};
  const Answer answer = read_process(process, memory_work, bytes_of(std::span(&range, 1)));
  errno = answer.error;
  const std::size_t got = std::min(size, answer.bytes.size());
  std::memcpy(to, answer.bytes.data(), got);
  return got;
}

bool read_ranges(const Target& process, std::span<const MemoryRange> ranges, std::string& bytes) {
  return take_ranges(read_process(process, ranges_work, bytes_of(ranges)), ranges, bytes);
}

bool take_ranges(Answer answer, std::span<const MemoryRange> ranges, std::string& bytes) {
  std::size_t size = 0;
  for (const MemoryRange& range : ranges) size += range.size;
  errno = answer.error == 0 && answer.bytes.size() != size ? EBADMSG : answer.error;
  bytes = std::move(answer.bytes);
  return errno == 0;
}

}  // namespace nopspan::collector
