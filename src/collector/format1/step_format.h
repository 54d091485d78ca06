// SPDX-License-Identifier: Apache-2.0
// The order of the numbers and texts of steps.
#pragma once

#include "model/entry.h"

#include <nopspan/probes.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string_view>

namespace nopspan::collector {

// The numbers of an entry, in the order in which the format has them.
inline constexpr std::size_t kStepNumbers = 39, kStepTexts = 10;
using StepNumbers = std::array<std::uint64_t, kStepNumbers>;

// Fields of the message, and of a thread.
inline constexpr unsigned kThreadField = 1, kEntryField = 2;
inline constexpr unsigned kResourceField = 1, kThreadIdField = 2, kSequenceIdField = 3;

// Indices of numbers that are treated specially.
enum StepNumber : std::size_t {
  kSequence = 0,
  kTraceId = 1,  // two numbers
  kSpanId = 3,
  kParentId = 4,
  kRootId = 5,  // less the id that follows from the others
  kStart = 6,
  kDuration = 7,
  kStatus = 8,
  kFlagWord = 9,
  kUsage = 10,  // four numbers
  kFirstToken = 14,
  kEngineTimes = 15,  // seven numbers
  kValue = 22,
  kNumber = 23,
  kFacts = 24,  // of the step: 15 numbers
  kStepNumber = kFacts + 3,
};

inline constexpr std::string_view Entry::*kStepTextFields[] = {
    &Entry::name,       &Entry::engine,     &Entry::model,      &Entry::tenant, &Entry::exception_kind,
    &Entry::error_type, &Entry::foreign_id, &Entry::tracestate, &Entry::text,   &Entry::attributes};
static_assert(std::size(kStepTextFields) == kStepTexts);

// Calls on_fact(number, field) for each number of a step, in the order of the format.
template <class Step, class OnFact>
void walk_facts(Step& step, const OnFact& on_fact) {
  std::size_t i = kFacts;
  on_fact(i++, step.size);
  on_fact(i++, step.kind);
  on_fact(i++, step.instance);
  on_fact(i++, step.number);
  on_fact(i++, step.members);
  on_fact(i++, step.members_with_prefill);
  on_fact(i++, step.dropped);
  on_fact(i++, step.prefill_tokens);
  on_fact(i++, step.decode_tokens);
  on_fact(i++, step.drafted_tokens);
  on_fact(i++, step.accepted_tokens);
  on_fact(i++, step.budget_tokens);
  on_fact(i++, step.host_ns);
  on_fact(i++, step.device_ns);
  on_fact(i++, step.batch_size);
}
static_assert(kFacts + 15 == kStepNumbers);

// Calls on_field(field) for each number of a member.
template <class Member, class OnField>
void walk_member(Member& member, const OnField& on_field) {
  on_field(member.prefill_tokens);
  on_field(member.context_tokens);
  on_field(member.decode_tokens);
  on_field(member.drafted_tokens);
  on_field(member.accepted_tokens);
  on_field(member.flags);
}

// The member as it is if the step did the same for it as the step before.
inline nopspan_member expected_after(nopspan_member member) {
  member.context_tokens += member.prefill_tokens + member.decode_tokens;
  return member;
}

}  // namespace nopspan::collector
