// SPDX-License-Identifier: Apache-2.0
// The capabilities of this thread.
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

}  // namespace nopspan::collector
