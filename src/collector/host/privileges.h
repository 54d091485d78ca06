// SPDX-License-Identifier: Apache-2.0
// Gives up what a command does not need, so that a defect in nopspan that a traced process exploits gives it little.
// docs/security.md has the lists. Nothing here is an error: a process without privileges works as it can.
#pragma once

#include "host/capabilities.h"

#include <string>
#include <vector>

namespace nopspan::collector {

// What tracing needs. CAP_SYS_ADMIN is needed to list other tracers, and to attach where the kernel has no
// uprobe_multi.
std::vector<Capability> tracing_capabilities(bool with_sys_admin);

struct Needs {
  std::vector<Capability> capabilities;
  // Files. If root may read or replace one of them only because of a capability, it is kept too. Empty paths and "-"
  // are ignored.
  std::vector<std::string> reads, writes;
  bool network = false;  // sockets of the Internet may be made
};

// Keeps the capabilities that are needed, and forbids system calls that nopspan does not use. Later calls have no
// effect. Must be called before the program makes a thread other than those of stdout and stderr. Children inherit the
// result.
void confine(const Needs& needs);
// For the children that read other processes (process_reader.h). The first limits the capabilities of all of them, the
// second permits a reader the few system calls that it uses.
void confine_children();
void confine_reader();

// For people, and empty if all went well: "system calls cannot be forbidden: Invalid argument".
const std::string& confinement_problem();
// The lines Seccomp and NoNewPrivs of /proc/self/status, as they were before confine().
struct Inherited {
  std::string seccomp, no_new_privileges;
};
const Inherited& inherited_limits();

}  // namespace nopspan::collector
