// SPDX-License-Identifier: Apache-2.0
// The environment with which a process began. It is in the memory of the process, so it says what the process wants
// it to say, and may be unreadable.
#pragma once

#include "host/process_reader.h"

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

// The values of these variables, at most 4096 bytes of each; "" for those that are not set. Only the first 8 MiB of
// the environment are read, in the child that reads other processes, and nothing else is kept.
std::vector<std::string> environment_of(const Target& process, std::initializer_list<std::string_view> names);

}  // namespace nopspan::collector
