// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model/span.h"

#include <cstdint>
#include <unordered_map>

namespace nopspan::collector {

// A process's threads: by the numbers that they have in their own pid namespace, those that they have in the
// collector's.
std::unordered_map<std::uint32_t, std::uint32_t> thread_ids(const Process& process);

}  // namespace nopspan::collector
