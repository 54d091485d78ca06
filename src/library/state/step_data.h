// SPDX-License-Identifier: Apache-2.0
// What a step of an engine has and other spans have not: its facts and its members. They are in one block of memory,
// which a step gets when the first of them is set.
//
// Limits: 1,048,576 members. Those beyond it, and those for which there is no memory, are dropped and counted.
#pragma once

#include "state/field_sink.h"

#include <nopspan/detail/field_calls.h>
#include <nopspan/probes.h>

#include <cstddef>
#include <cstdint>

namespace nopspan::detail {

inline constexpr std::size_t kMaxMembers = std::size_t{1} << 20U;

struct StepData {
  nopspan_step facts;      // as the application gave them, until complete_step()
  std::uint32_t capacity;  // members for which there is room
  std::uint32_t given;     // bits of the facts that complete_step() must not compute
  static constexpr std::uint32_t kBatchSize = 1, kDrafted = 2, kAccepted = 4;

  [[nodiscard]] nopspan_member* members() noexcept { return reinterpret_cast<nopspan_member*>(this + 1); }
  [[nodiscard]] const nopspan_member* members() const noexcept {
    return reinterpret_cast<const nopspan_member*>(this + 1);
  }
};

inline bool is_step(const FieldSink& span) noexcept { return (span.flags & NOPSPAN_FLAG_STEP) != 0; }

// All functions below are for steps only.

// The member that a link to this context stands for.
nopspan_member member_of(const Context& linked) noexcept;
// Appends members, as many as there is memory for, and counts the others.
void add_members(FieldSink& span, const nopspan_member* members, std::size_t number) noexcept;
// Both return false if there is no memory.
bool set_step_fact(FieldSink& span, StepFact fact, std::uint64_t value) noexcept;
bool set_batch_size(FieldSink& span, std::uint64_t requests) noexcept;

// Called once, at the end of the step: moves the members with prefill to the front, and computes the facts that the
// application did not give.
void complete_step(FieldSink& span) noexcept;
// The facts of a complete step.
nopspan_step facts_of(const FieldSink& span) noexcept;
// Null if the step has none.
inline const nopspan_member* members_of(const FieldSink& step) noexcept {
  return step.step != nullptr ? step.step->members() : nullptr;
}

}  // namespace nopspan::detail
