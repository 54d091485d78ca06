// SPDX-License-Identifier: Apache-2.0
#include "host/process_memory.h"

#include <sys/uio.h>

#include <algorithm>
#include <array>

namespace nopspan::collector {

std::size_t read_memory(std::uint32_t pid, std::uint64_t address, void* to, std::size_t size) {
  // process_vm_readv(2) stops at the first piece that it cannot read completely, so the pieces end at page boundaries.
  constexpr std::uint64_t kPage = 4096;
  constexpr std::size_t kPieces = 64;
  auto* bytes = static_cast<char*>(to);
  std::size_t done = 0;
  while (done < size) {
    std::array<iovec, kPieces> remote{};
    std::size_t pieces = 0;
    std::size_t wanted = 0;
    for (; pieces < kPieces && done + wanted < size; ++pieces) {
      const std::uint64_t at = address + done + wanted;
      const auto piece = static_cast<std::size_t>(std::min<std::uint64_t>(kPage - at % kPage, size - done - wanted));
      remote[pieces] = {reinterpret_cast<void*>(at), piece};  // NOLINT(performance-no-int-to-ptr): it came as a number
      wanted += piece;
    }
    iovec local{bytes + done, wanted};
    const ssize_t got = process_vm_readv(static_cast<pid_t>(pid), &local, 1, remote.data(), pieces, 0);
    if (got <= 0) return done;
    done += static_cast<std::size_t>(got);
    if (static_cast<std::size_t>(got) < wanted) return done;
  }
  return done;
}

}  // namespace nopspan::collector
