// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace nopspan::collector {

// Calls `on_number` for each entry of a folder that is a number: of /proc the pids, of /proc/PID/fd the descriptors.
// Returns 0, or the error number.
int for_each_numeric_entry(const std::string& folder, const std::function<void(std::uint32_t)>& on_number);

}  // namespace nopspan::collector
