// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace nopspan::collector {

// By the numbers of <linux/capability.h>, also where that is too old to know them.
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

// Whether this process has it now.
bool has_capability(Capability capability);
// The same of a set as /proc/PID/status has it ("000001ffffffffff").
bool has_capability(const std::string& hexadecimal_set, Capability capability);

}  // namespace nopspan::collector
