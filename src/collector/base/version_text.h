// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace nopspan::collector {

// "1.2.3" of a library's version as struct nopspan_gate_page has it (major << 32 | minor << 16 | patch); "" of 0.
inline std::string version_text(std::uint64_t version) {
  if (version == 0) return "";
  return std::to_string(version >> 32) + "." + std::to_string((version >> 16) & 0xffff) + "." +
         std::to_string(version & 0xffff);
}

}  // namespace nopspan::collector
