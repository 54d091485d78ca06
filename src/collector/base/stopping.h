// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>

namespace nopspan::collector {

// Set by SIGINT and SIGTERM, and by a command that has what it was asked for.
inline std::atomic<bool> stopping = false;

}  // namespace nopspan::collector
