// SPDX-License-Identifier: Apache-2.0
#include "host/capabilities.h"

#include "host/process_facts.h"

#include <unistd.h>

#include <cstdlib>

namespace nopspan::collector {

std::string to_string(Capability capability) {
  switch (capability) {
    case Capability::dac_override:
      return "CAP_DAC_OVERRIDE";
    case Capability::dac_read_search:
      return "CAP_DAC_READ_SEARCH";
    case Capability::net_admin:
      return "CAP_NET_ADMIN";
    case Capability::sys_ptrace:
      return "CAP_SYS_PTRACE";
    case Capability::sys_admin:
      return "CAP_SYS_ADMIN";
    case Capability::sys_resource:
      return "CAP_SYS_RESOURCE";
    case Capability::syslog:
      return "CAP_SYSLOG";
    case Capability::perfmon:
      return "CAP_PERFMON";
    case Capability::bpf:
      return "CAP_BPF";
    case Capability::checkpoint_restore:
      return "CAP_CHECKPOINT_RESTORE";
  }
  return "";
}

bool has_capability(Capability capability) {
  return has_capability(process_status(static_cast<std::uint32_t>(getpid()), "CapEff"), capability);
}

bool has_capability(const std::string& hexadecimal_set, Capability capability) {
  return ((std::strtoull(hexadecimal_set.c_str(), nullptr, 16) >> static_cast<unsigned>(capability)) & 1U) != 0;
}

}  // namespace nopspan::collector
