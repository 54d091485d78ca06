// SPDX-License-Identifier: Apache-2.0
#include "host/thread_list.h"

#include "host/process_memory.h"

namespace nopspan::collector {

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

}  // namespace nopspan::collector
