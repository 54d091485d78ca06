// SPDX-License-Identifier: Apache-2.0
#include "host/hidden_processes.h"

#include "host/capabilities.h"

#include <iostream>

namespace nopspan::collector {

void warn_of_hidden_processes() {
  if (has_capability(Capability::sys_ptrace)) return;
  std::cerr << "nopspan: without " << to_string(Capability::sys_ptrace)
            << " it sees the processes of its own user only; see nopspan doctor\n";
}

}  // namespace nopspan::collector
