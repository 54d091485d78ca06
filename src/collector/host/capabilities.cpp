// SPDX-License-Identifier: Apache-2.0
#include "host/capabilities.h"

#include <cap-ng.h>

#include <algorithm>
#include <cctype>

namespace nopspan::collector {
std::string to_string(Capability capability) {
  std::string name = std::string("CAP_") + capng_capability_to_name(static_cast<unsigned>(capability));
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char letter) { return std::toupper(letter); });
  return name;
}

bool has_capability(Capability capability) {
  return capng_get_caps_process() == 0 &&
         capng_have_capability(CAPNG_EFFECTIVE, static_cast<unsigned>(capability)) != 0;
}

bool limit_capabilities(const std::vector<Capability>& effective, const std::vector<Capability>& permitted) {
  if (capng_get_caps_process() != 0) return false;
  const auto is_in = [](const std::vector<Capability>& set, unsigned number) {
    return std::find(set.begin(), set.end(), static_cast<Capability>(number)) != set.end();
  };
  std::vector<unsigned> kept;
  for (unsigned number = 0; number <= CAP_LAST_CAP; ++number)
    if (is_in(permitted, number) && capng_have_capability(CAPNG_PERMITTED, number) != 0) kept.push_back(number);
  const bool may_bound = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) != 0;
  capng_clear(CAPNG_SELECT_BOTH);
  for (const unsigned number : kept) {
    capng_update(CAPNG_ADD, CAPNG_PERMITTED, number);
    if (is_in(effective, number)) capng_update(CAPNG_ADD, CAPNG_EFFECTIVE, number);
  }
  return capng_apply(may_bound ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS) == 0;
}

}  // namespace nopspan::collector
