// SPDX-License-Identifier: Apache-2.0
// Another process's memory. Needs the right to trace it: CAP_SYS_PTRACE, unless it is of the same user.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace nopspan::collector {

// Reads up to `size` bytes into `to`; returns how many from the first one on could be read. 0: none, and errno says why
// (ESRCH: the process is gone, EPERM, EFAULT).
std::size_t read_memory(std::uint32_t pid, std::uint64_t address, void* to, std::size_t size);

// Whether all of the value could be read.
template <typename T>
bool read_value(std::uint32_t pid, std::uint64_t address, T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  return read_memory(pid, address, &value, sizeof(T)) == sizeof(T);
}

}  // namespace nopspan::collector
