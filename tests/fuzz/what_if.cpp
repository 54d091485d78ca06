// SPDX-License-Identifier: Apache-2.0
// What nopspan whatif makes of an engine of which processes may claim anything (claimed_entries.h). The first byte of
// an input is the setting that is asked for.
#include "claimed_entries.h"
#include "require.h"

#include "base/failure.h"
#include "blame/what_if.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

using namespace nopspan::collector;  // NOLINT: the whole file tests this namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  WhatIf what_if;
  ClaimedEntries({reinterpret_cast<const char*>(data) + 1, size - 1}).for_each([&](const Entry& entry) {
    what_if.on_entry(entry);
  });
  try {
    what_if.learn();
    EngineSettings settings = what_if.settings();
    const WhatIf::Waits repeated = what_if.simulate(settings);
    require(repeated.requests <= what_if.recorded().requests, "no request is invented");
    settings.prefill_chunk = data[0] % 16 + 1U;
    settings.slots = data[0] / 16;
    (void)what_if.simulate(settings);
  } catch (const Failure&) {  // it refuses
  }
  return 0;
}
