// SPDX-License-Identifier: Apache-2.0
// Links that outlive this program. When the last link to a process is closed, the kernel changes all its mappings back
// in one call. For tens of thousands of mappings that takes many seconds, in which no process on the host can fork.
// When the process has ended, there is nothing to change.
#pragma once

#include "base/open_file.h"

#include <vector>

namespace nopspan::collector {

struct LeftLink {
  OpenFile link;     // probe_link.h
  OpenFile process;  // a pidfd
};

// Starts a process, nopspan-keeper, that keeps the links open until their processes have ended. Does nothing if there
// are none. Returns false if it cannot be started.
bool leave_until_ended(const std::vector<LeftLink>& links);

}  // namespace nopspan::collector
