// SPDX-License-Identifier: Apache-2.0
// The gaps between the tokens of a stream, which a StreamMeter writes as an attribute of the stream's span.
#pragma once

#include "model/entry.h"

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace nopspan::collector {

// Values in nanoseconds, and how many gaps each value stands for.
using Gaps = std::vector<std::pair<std::uint64_t, std::uint64_t>>;
inline constexpr std::size_t kMostGaps = 128;  // pairs in a list

// What counts once: each gap, or each token that a gap brought.
enum class GapsOf : std::uint8_t { chunks, tokens };

// Reads the gaps of a span. There are none if it has no StreamMeter. False if the list is not as a StreamMeter makes
// it: pairs with ascending values and counts between 1 and 2^32 - 1, at most kMostGaps of them.
bool read_gaps(const Entry& entry, GapsOf of, Gaps& gaps);

}  // namespace nopspan::collector
