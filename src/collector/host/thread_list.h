// SPDX-License-Identifier: Apache-2.0
// The list of thread headers in a process's memory (struct nopspan_thread).
#pragma once

#include <nopspan/probes.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <unordered_set>

namespace nopspan::collector {

// Reads the list in the child that reads (process_reader.h). Calls `on_header` for each header from `first` on, and
// adds its address to `seen`. Ends at an address that is in `seen` or cannot be read, so a list that contains itself
// ends. Also ends when `seen` has `most` addresses. Returns false then.
bool for_each_thread(std::uint32_t pid, std::uint64_t first, std::size_t most, std::unordered_set<std::uint64_t>& seen,
                     const std::function<void(std::uint64_t address, const nopspan_thread& header)>& on_header);

}  // namespace nopspan::collector
