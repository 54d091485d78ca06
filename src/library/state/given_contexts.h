// SPDX-License-Identifier: Apache-2.0
// A table of the spans whose context the application has copied. Spans inside such a span may run on other threads or
// be async. They find it here by its id, to report that they have fired a probe that fires once (emit/probe.h).
//
// How it works: a span's id selects 32 places of the table, and its entry is in one of them. A word of the entry holds
// the id, but its last three bits hold the facts that were reported and whether the span has ended. An ended span's
// entry stays until another span needs the place, because a span inside it may end later and need the parent id in it.
//
// Why it is safe: there are no locks. add() owns a place after its word was exchanged for kTaken, and publishes the id
// after the parent id. mark() reads the parent id, then exchanges the word. The exchange fails if the place was reused
// in between.
//
// Limits: 8192 entries. If all 32 places are taken by open spans, the span is counted (facts_untracked), and a probe
// may fire for it although a span inside it has fired that probe.
#pragma once

#include "state/span_state.h"

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace nopspan::detail {

class GivenContexts {
 public:
  // The facts that a span inside may report.
  static constexpr std::uint64_t kUsage = 1, kTool = 2, kFacts = kUsage | kTool;

  // False if all places are taken.
  bool add(std::uint64_t id, std::uint64_t parent_id) noexcept;

  // Adds facts to a span and sets `parent_id` to its parent. False if the span has no entry, or had the facts already.
  bool mark(std::uint64_t id, std::uint64_t facts, std::uint64_t& parent_id) noexcept;

  // Marks the span as ended. Returns the facts that were reported to it.
  std::uint64_t end(std::uint64_t id) noexcept;

 private:
  static constexpr std::size_t kEntries = 8192;
  static constexpr std::size_t kPlaces = 32;
  static constexpr std::uint64_t kEnded = 4;
  static constexpr std::uint64_t kBits = kFacts | kEnded;
  static constexpr std::uint64_t kTaken = kFacts;  // a place that is being written; not the word of any span

  struct Place {
    std::atomic<std::uint64_t> word{0};
    std::atomic<std::uint64_t> parent_id{0};
  };
  Place& at(std::uint64_t id, std::size_t i) noexcept { return places_[((id >> 3U) + i) & (kEntries - 1)]; }

  Place places_[kEntries];
};
extern GivenContexts given_contexts;

// Called when the application takes the span's context. Adds the span to the table if a tracer wants these probes.
void note_given(SpanState& span) noexcept;

// Called for a span that ends without fire_once_probes().
void forget_given(SpanState& span) noexcept;

}  // namespace nopspan::detail
