// SPDX-License-Identifier: Apache-2.0
// The spans whose context was given away. Spans below such a span may run on other threads or be async. They find it
// here by its id, to report that they have fired a probe that fires once (emit/once_probes.h).
#pragma once

#include "state/span_state.h"

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace nopspan::detail {

// An entry is a span's id, whose last three bits give way to what is known of the span. It stands in one of the places
// that follow from the id, and is looked up there alone, so an empty place disturbs no other entry. The entry of an
// ended span stays until its place is needed, because a span that began inside it may end later and need its parent.
class GivenContexts {
 public:
  // What a span below has reported.
  static constexpr std::uint64_t kUsage = 1, kTool = 2, kFacts = kUsage | kTool;

  // False if all places are taken.
  bool add(std::uint64_t id, std::uint64_t parent_id) noexcept;

  // Adds facts to a span and sets `parent_id` to its parent. False if the span has no entry.
  bool mark(std::uint64_t id, std::uint64_t facts, std::uint64_t& parent_id) noexcept;

  // The span has ended. Returns the facts that were reported to it.
  std::uint64_t end(std::uint64_t id) noexcept;

 private:
  static constexpr std::size_t kEntries = 8192;
  static constexpr std::size_t kPlaces = 32;
  static constexpr std::uint64_t kEnded = 4;
  static constexpr std::uint64_t kBits = kFacts | kEnded;
  static constexpr std::uint64_t kTaken = kFacts;  // no span's: an id without its last bits is not 0

  struct Place {
    std::atomic<std::uint64_t> word{0};
    std::atomic<std::uint64_t> parent_id{0};
  };
  Place& at(std::uint64_t id, std::size_t i) noexcept { return places_[((id >> 3U) + i) & (kEntries - 1)]; }

  Place places_[kEntries];
};
extern GivenContexts given_contexts;

// The application has asked for the span's context.
void note_given(SpanState& span) noexcept;

// For a span that ends without fire_once_probes().
void forget_given(SpanState& span) noexcept;

}  // namespace nopspan::detail
