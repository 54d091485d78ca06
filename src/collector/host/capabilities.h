// SPDX-License-Identifier: Apache-2.0
// The capabilities of processes.
#pragma once

#include <cstdint>
#include <string>

namespace nopspan::collector {

// Numbered as in <linux/capability.h>. Written out here because an older header lacks the newer ones.
enum class Capability : std::uint8_t {
  dac_override = 1,
  dac_read_search = 2,
  net_admin = 12,
  sys_ptrace = 19,
  sys_admin = 21,
  sys_resource = 24,
  syslog = 34,
  perfmon = 38,
  bpf = 39,
  checkpoint_restore = 40,
};
std::string to_string(Capability capability);  // "CAP_SYS_PTRACE"

// Whether this process has the capability in its effective set now.
bool has_capability(Capability capability);
// Whether a set has the capability. The set is written as in /proc/PID/status ("000001ffffffffff").
bool has_capability(const std::string& hexadecimal_set, Capability capability);

}  // namespace nopspan::collector
