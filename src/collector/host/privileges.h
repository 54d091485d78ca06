// SPDX-License-Identifier: Apache-2.0
// Gives up what a command does not need, so that a defect in nopspan that a traced process exploits gives it little.
// docs/security.md has the lists. Nothing here is an error: a process without privileges works as it can.
#pragma once

#include <linux/capability.h>

#include <cstdint>
#include <string>
#include <vector>

namespace nopspan::collector {

enum class Capability : std::uint8_t {
  dac_override = CAP_DAC_OVERRIDE,
  dac_read_search = CAP_DAC_READ_SEARCH,
  fowner = CAP_FOWNER,
  sys_ptrace = CAP_SYS_PTRACE,
  sys_admin = CAP_SYS_ADMIN,
  lease = CAP_LEASE,
  perfmon = CAP_PERFMON,
  bpf = CAP_BPF,
  checkpoint_restore = CAP_CHECKPOINT_RESTORE,
};
std::string to_string(Capability capability);  // "CAP_SYS_PTRACE"

// Whether this thread has the capability in its effective set now.
bool has_capability(Capability capability);
// Gives up all permitted capabilities but `permitted`, forever, and makes those of them effective that are in
// `effective`. The other sets become empty; the bounding set only if this thread may change it. Returns false on
// failure.
bool limit_capabilities(const std::vector<Capability>& effective, const std::vector<Capability>& permitted);

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
