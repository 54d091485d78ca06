// SPDX-License-Identifier: Apache-2.0
// Counts entries by their kind.
#pragma once

#include "base/text.h"
#include "model/entry.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>

namespace nopspan::collector {

struct EntryCounts {
  static constexpr std::array<const char*, 5> kOne = {"span", "event", "retry", "gauge", "part"};
  static constexpr std::array<const char*, 5> kMany = {"spans", "events", "retries", "gauges", "parts"};

  std::array<std::uint64_t, kOne.size()> by_kind{};

  std::uint64_t& operator[](Kind kind) { return by_kind[static_cast<std::size_t>(kind)]; }
  EntryCounts& operator+=(const EntryCounts& other) {
    for (std::size_t i = 0; i < by_kind.size(); ++i) by_kind[i] += other.by_kind[i];
    return *this;
  }
  [[nodiscard]] std::uint64_t all() const { return std::accumulate(by_kind.begin(), by_kind.end(), std::uint64_t{0}); }
  // "5 spans, 1 event". Spans are included even if there are none.
  [[nodiscard]] std::string text() const {
    std::string text;
    for (std::size_t i = 0; i < by_kind.size(); ++i) {
      if (by_kind[i] == 0 && i != 0) continue;
      text += (text.empty() ? "" : ", ") + counted(by_kind[i], kOne[i], kMany[i]);
    }
    return text;
  }
};

}  // namespace nopspan::collector
