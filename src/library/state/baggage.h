// SPDX-License-Identifier: Apache-2.0
// W3C Baggage (https://www.w3.org/TR/baggage/): the header that carries labels, and items of other services, from
// process to process.
//
// A received item becomes a label if its key is that of a label. Other items are stored as they came, and sent on.
// So is an item that is more than its label: with properties, or with a value that cannot be a label unchanged. The
// stored text begins with the numbers of the labels that its items have become. A stored item whose label has
// another value by now is not sent, because the label is sent instead.
#pragma once

#include "state/context_access.h"

#include <nopspan/propagation.h>

#include <cstddef>
#include <cstdint>

namespace nopspan::detail {

inline constexpr std::size_t kTravellingLabels = ContextHead::kLabels - ContextAccess::tenant;

// The stored form: `received`, then the items, joined by commas.
struct StoredBaggage {
  std::uint16_t received[kTravellingLabels] = {};
  char items[kMaxBaggageBytes];
  std::size_t size = 0;  // of `items`

  [[nodiscard]] std::string_view view() const noexcept {
    return {reinterpret_cast<const char*>(received), size == 0 ? 0 : sizeof(received) + size};
  }
};

// Reads a header, which may have several lines: sets labels of the context, and adds other items to `stored`. Counts
// items that are dropped.
void read_baggage(const Text* lines, std::size_t count_of_lines, ContextHead& context, StoredBaggage& stored) noexcept;

}  // namespace nopspan::detail
