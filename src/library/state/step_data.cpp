// SPDX-License-Identifier: Apache-2.0
#include "state/step_data.h"

#include "base/counters.h"
#include "memory/slabs.h"
#include "state/context_access.h"

#include <nopspan/engine.h>

#include <algorithm>
#include <cstring>
#include <new>

namespace nopspan::detail {
namespace {

static_assert(sizeof(nopspan_step) == 128 && sizeof(nopspan_member) == 24 && sizeof(StepData) % 8 == 0);
static_assert(sizeof(engine::Member) == sizeof(nopspan_member));
static_assert(alignof(engine::Member) == alignof(nopspan_member));
static_assert(offsetof(engine::Member, request) == offsetof(nopspan_member, request) &&
              offsetof(engine::Member, prefill_tokens) == offsetof(nopspan_member, prefill_tokens) &&
              offsetof(engine::Member, context_tokens) == offsetof(nopspan_member, context_tokens) &&
              offsetof(engine::Member, decode_tokens) == offsetof(nopspan_member, decode_tokens) &&
              offsetof(engine::Member, drafted_tokens) == offsetof(nopspan_member, drafted_tokens) &&
              offsetof(engine::Member, accepted_tokens) == offsetof(nopspan_member, accepted_tokens) &&
              offsetof(engine::Member, flags) == offsetof(nopspan_member, flags));
static_assert(engine::Member::kOwnKey == NOPSPAN_MEMBER_OWN_KEY &&
              engine::Member::kTraceKey == NOPSPAN_MEMBER_TRACE_KEY);
static_assert(static_cast<unsigned>(engine::StepKind::prefill) == NOPSPAN_STEP_PREFILL &&
              static_cast<unsigned>(engine::StepKind::decode) == NOPSPAN_STEP_DECODE &&
              static_cast<unsigned>(engine::StepKind::mixed) == NOPSPAN_STEP_MIXED);

// Makes room for `capacity` members. False if there is no memory.
bool make_room(FieldSink& span, std::size_t capacity) noexcept {
  const Block block = take_block(sizeof(StepData) + capacity * sizeof(nopspan_member));
  if (block.bytes == nullptr) return false;
  StepData* const before = span.step;
  if (before == nullptr) {
    span.step = new (block.bytes) StepData{};
  } else {
    std::memcpy(block.bytes, before, sizeof(StepData) + before->facts.members * sizeof(nopspan_member));
    span.step = reinterpret_cast<StepData*>(block.bytes);
    give_back_block(reinterpret_cast<unsigned char*>(before));
  }
  const std::size_t room = (block.size - sizeof(StepData)) / sizeof(nopspan_member);
  span.step->capacity = static_cast<std::uint32_t>(std::min(room, kMaxMembers));
  return true;
}

StepData* data_of(FieldSink& span) noexcept { return span.step != nullptr || make_room(span, 0) ? span.step : nullptr; }

// Moves the members with prefill to the front, and changes no order otherwise. Returns how many there are. It needs no
// memory, and about count * log(count) moves.
std::size_t move_prefill_first(nopspan_member* members, std::size_t count) noexcept {
  if (count <= 1) return count == 1 && members->prefill_tokens != 0 ? 1 : 0;
  const std::size_t half = count / 2;
  const std::size_t low = move_prefill_first(members, half);
  const std::size_t high = move_prefill_first(members + half, count - half);
  std::rotate(members + low, members + half, members + half + high);
  return low + high;
}

unsigned kind_of(bool has_prefill, bool has_decode) noexcept {
  return (has_prefill ? NOPSPAN_STEP_PREFILL : NOPSPAN_STEP_UNKNOWN) |
         (has_decode ? NOPSPAN_STEP_DECODE : NOPSPAN_STEP_UNKNOWN);
}
static_assert((NOPSPAN_STEP_PREFILL | NOPSPAN_STEP_DECODE) == NOPSPAN_STEP_MIXED && NOPSPAN_STEP_UNKNOWN == 0);

}  // namespace

nopspan_member member_of(const Context& linked) noexcept {
  nopspan_member member{};
  const ContextHead& head = ContextAccess::head(linked);
  member.request = (head.bits & ContextAccess::kRemote) == 0 ? head.span_id : 0;
  if (member.request == 0) {
    std::memcpy(&member.request, head.trace_id, sizeof(member.request));
    member.flags = NOPSPAN_MEMBER_OWN_KEY | NOPSPAN_MEMBER_TRACE_KEY;
  }
  return member;
}

void add_members(FieldSink& span, const nopspan_member* members, std::size_t number) noexcept {
  const std::size_t before = span.step != nullptr ? span.step->facts.members : 0;
  const std::size_t capacity = span.step != nullptr ? span.step->capacity : 0;
  if (number > capacity - before && before < kMaxMembers) {
    const std::size_t wanted = std::min(std::max(before + std::min(number, kMaxMembers), 2 * before), kMaxMembers);
    make_room(span, wanted);
  }
  const std::size_t added = span.step != nullptr ? std::min<std::size_t>(number, span.step->capacity - before) : 0;
  if (added > 0) {
    std::memcpy(span.step->members() + before, members, added * sizeof(nopspan_member));
    span.step->facts.members = static_cast<std::uint32_t>(before + added);
  }
  if (added == number) return;
  count(counters.members_dropped, number - added);
  span.members_dropped +=
      static_cast<std::uint32_t>(std::min<std::size_t>(number - added, UINT32_MAX - span.members_dropped));
}

bool set_step_fact(FieldSink& span, StepFact fact, std::uint64_t value) noexcept {
  // In the order of StepFact, without the kind.
  constexpr unsigned long nopspan_step::*kFacts[] = {&nopspan_step::instance,       &nopspan_step::number,
                                                     &nopspan_step::drafted_tokens, &nopspan_step::accepted_tokens,
                                                     &nopspan_step::budget_tokens,  &nopspan_step::host_ns,
                                                     &nopspan_step::device_ns,      &nopspan_step::kv_used};
  StepData* const step = data_of(span);
  if (step == nullptr) return false;
  if (fact == StepFact::kind) {
    step->facts.kind = static_cast<unsigned>(value);
    return true;
  }
  step->facts.*kFacts[static_cast<std::size_t>(fact) - 1] = value;
  if (fact == StepFact::drafted) step->given |= StepData::kDrafted;
  if (fact == StepFact::accepted) step->given |= StepData::kAccepted;
  return true;
}

bool set_batch_size(FieldSink& span, std::uint64_t requests) noexcept {
  StepData* const step = data_of(span);
  if (step == nullptr) return false;
  step->facts.batch_size = static_cast<std::uint32_t>(std::min<std::uint64_t>(requests, UINT32_MAX));
  step->given |= StepData::kBatchSize;
  return true;
}

void complete_step(FieldSink& span) noexcept {
  StepData* const step = span.step;
  if (step == nullptr) return;
  nopspan_step& facts = step->facts;
  nopspan_member* const members = step->members();
  std::uint64_t prefill = 0, decode = 0, drafted = 0, accepted = 0;
  std::uint32_t with_prefill = 0;
  for (std::uint32_t i = 0; i < facts.members; ++i) {
    const nopspan_member& member = members[i];
    with_prefill += member.prefill_tokens != 0 ? 1 : 0;
    prefill += member.prefill_tokens;
    decode += member.decode_tokens;
    drafted += member.drafted_tokens;
    accepted += member.accepted_tokens;
  }
  const auto has_prefill = [](const nopspan_member& member) { return member.prefill_tokens != 0; };
  if (!std::all_of(members, members + with_prefill, has_prefill)) move_prefill_first(members, facts.members);
  facts.members_with_prefill = with_prefill;
  facts.dropped = span.members_dropped;
  const EngineTimes& given = span.engine;
  facts.prefill_tokens = is_known(given, given.prefill_tokens) ? given.prefill_tokens : prefill;
  facts.decode_tokens = is_known(given, given.decode_tokens) ? given.decode_tokens : decode;
  if ((step->given & StepData::kDrafted) == 0) facts.drafted_tokens = drafted;
  if ((step->given & StepData::kAccepted) == 0) facts.accepted_tokens = accepted;
  if ((step->given & StepData::kBatchSize) == 0) facts.batch_size = facts.members + facts.dropped;
  if (facts.kind != NOPSPAN_STEP_UNKNOWN) return;
  facts.kind = prefill + decode != 0 ? kind_of(with_prefill != 0, with_prefill != facts.members)
                                     : kind_of(facts.prefill_tokens != 0, facts.decode_tokens != 0);
}

nopspan_step facts_of(const FieldSink& span) noexcept {
  nopspan_step facts{};
  if (span.step != nullptr) {
    facts = span.step->facts;
  } else {
    facts.dropped = facts.batch_size = span.members_dropped;
    facts.prefill_tokens = span.engine.prefill_tokens;
    facts.decode_tokens = span.engine.decode_tokens;
    facts.kind = kind_of(facts.prefill_tokens != 0, facts.decode_tokens != 0);
  }
  facts.size = offsetof(nopspan_step, reserved);
  return facts;
}

}  // namespace nopspan::detail
