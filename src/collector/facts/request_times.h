// SPDX-License-Identifier: Apache-2.0
// Times of an engine's requests that follow from others.
#pragma once

#include "model/entry.h"

#include <cstdint>
#include <optional>

namespace nopspan::collector {

// The decode time divided by the output tokens, without the first one, which the prefill makes. Nothing if it is
// unknown or impossible.
inline std::optional<std::uint64_t> time_per_output_token_ns(const Entry& entry) {
  if (!entry.has_engine_times || !entry.has_usage || entry.usage.output < 2) return {};
  if (entry.engine_times.decode_ns == 0) return {};
  return entry.engine_times.decode_ns / (entry.usage.output - 1);
}

}  // namespace nopspan::collector
