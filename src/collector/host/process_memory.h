// SPDX-License-Identifier: Apache-2.0
// Reads another process's memory. This needs the right to trace the process: CAP_SYS_PTRACE, unless it belongs to the
// same user.
#pragma once

#include "host/process_reader.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace nopspan::collector {

struct MemoryRange {
  std::uint64_t address, size;
};
// Reads at most 512 ranges, in this order, into `bytes`. Returns whether all of them could be read. If not, errno has
// the reason (ESRCH: the process is gone, EPERM, EFAULT, ETIMEDOUT, EAGAIN: process_reader.h).
bool read_ranges(const Target& process, std::span<const MemoryRange> ranges, std::string& bytes);
// Takes the bytes from an answer to read_ranges(). EBADMSG: their number is wrong, because the reader was taken over.
bool take_ranges(Answer answer, std::span<const MemoryRange> ranges, std::string& bytes);

// Reads one value. Returns whether the whole of it could be read.
template <typename T>
bool read_value(const Target& process, std::uint64_t address, T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  const MemoryRange range{address, sizeof(T)};
  std::string bytes;
  if (!read_ranges(process, {&range, 1}, bytes)) return false;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return true;
}

// The values of these variables in the environment with which the process began; "" for those that are not set. The
// environment is in the memory of the process, so it says what the process wants it to say. Only its first 8 MiB are
// read, in the child that reads, and only 4096 bytes of a value are kept.
std::vector<std::string> environment_of(const Target& process, std::initializer_list<std::string_view> names);

// read_ranges() and read_value() without the child that reads, for functions that run in it. read_ranges_here() returns
// how many bytes could be read. If a range cannot be read completely, none of its bytes are read.
std::size_t read_ranges_here(std::uint32_t pid, std::span<const MemoryRange> ranges, void* to, std::size_t size);
bool read_memory_here(std::uint32_t pid, std::uint64_t address, void* to, std::size_t size);

template <typename T>
bool read_value_here(std::uint32_t pid, std::uint64_t address, T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  return read_memory_here(pid, address, &value, sizeof(T));
}

}  // namespace nopspan::collector
