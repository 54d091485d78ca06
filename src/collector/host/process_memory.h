// SPDX-License-Identifier: Apache-2.0
// Reads another process's memory. This needs the right to trace the process: CAP_SYS_PTRACE, unless it belongs to the
// same user.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace nopspan::collector {

// Reads up to `size` bytes into `to`. Returns how many bytes could be read from the start. If it returns 0, errno has
// the reason (ESRCH: the process is gone, EPERM, EFAULT).
std::size_t read_memory(std::uint32_t pid, std::uint64_t address, void* to, std::size_t size);

// Returns whether the whole value could be read.
template <typename T>
bool read_value(std::uint32_t pid, std::uint64_t address, T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  return read_memory(pid, address, &value, sizeof(T)) == sizeof(T);
}

}  // namespace nopspan::collector
