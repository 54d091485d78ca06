// SPDX-License-Identifier: Apache-2.0
// Translates thread ids between pid namespaces.
#pragma once

#include "model/entry.h"

#include <cstdint>
#include <unordered_map>

namespace nopspan::collector {

// The threads of a process. Key: the id in the process's own pid namespace. Value: the id in the collector's.
std::unordered_map<std::uint32_t, std::uint32_t> thread_ids(const Process& process);

}  // namespace nopspan::collector
