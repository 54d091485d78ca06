// SPDX-License-Identifier: Apache-2.0
// Lists the numeric entries of a folder of /proc.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace nopspan::collector {

// Calls `on_number` for each entry whose name is a number: pids in /proc, descriptors in /proc/PID/fd. Returns 0 or an
// errno value.
int for_each_numeric_entry(const std::string& folder, const std::function<void(std::uint32_t)>& on_number);

}  // namespace nopspan::collector
