// SPDX-License-Identifier: Apache-2.0
// Counts a probe's hits by its sequence number. The library increments that number per probe and thread while a tracer
// has raised the probe's counter in the gate.
#pragma once

#include "thread/thread_state.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>

using nopspan::detail::Probe;
using Hits = std::map<Probe, std::uint64_t>;

// How often this thread has fired a probe since the instance was constructed.
class Fired {
 public:
  Fired() {
    for (std::size_t i = 0; i < before_.size(); ++i) before_[i] = sequence(i);
  }
  [[nodiscard]] std::uint64_t operator[](Probe probe) const {
    const auto i = static_cast<std::size_t>(probe);
    return sequence(i) - before_[i];
  }
  // All probes that were fired.
  [[nodiscard]] Hits all() const {
    Hits hits;
    for (std::size_t i = 0; i < before_.size(); ++i) {
      if (sequence(i) != before_[i]) hits[static_cast<Probe>(i)] = sequence(i) - before_[i];
    }
    return hits;
  }

 private:
  static std::uint64_t sequence(std::size_t probe) { return nopspan::detail::thread_state()->sequence[probe]; }
  std::array<std::uint64_t, nopspan::detail::kProbes> before_{};
};
