// SPDX-License-Identifier: Apache-2.0
// An engine's steps: spans of work for several requests at once. A step names these requests as its members. If there
// are many, parts follow it (Kind::part). A step is never a request.
#pragma once

#include "model/entry.h"

#include <nopspan/probes.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <string_view>
#include <utility>

namespace nopspan::collector {

// Reads the links of a span, and recognises linked spans.
struct SpanLink {
  TraceId trace_id;
  std::uint64_t span_id = 0;
};

// Calls on_link(SpanLink) for each link.
template <class OnLink>
void for_each_link(std::string_view links, const OnLink& on_link) {
  for (; links.size() >= sizeof(nopspan_link); links.remove_prefix(sizeof(nopspan_link))) {
    nopspan_link link;
    std::memcpy(&link, links.data(), sizeof(link));
    SpanLink one;
    static_assert(sizeof(one.trace_id.bytes) == sizeof(link.trace_id));
    std::memcpy(one.trace_id.bytes, link.trace_id, sizeof(link.trace_id));
    one.span_id = link.span_id;
    on_link(one);
  }
}

// Whether this is a linked span: one with links and no parent. It was done for several requests at once, like an
// engine's step.
inline bool is_linked(const Entry& entry) {
  return entry.kind == Kind::span && entry.parent_id == 0 && entry.links.size() >= sizeof(nopspan_link);
}

// Calls on_member(nopspan_member) for each member.
template <class OnMember>
void for_each_member(std::string_view members, const OnMember& on_member) {
  for (; members.size() >= sizeof(nopspan_member); members.remove_prefix(sizeof(nopspan_member))) {
    nopspan_member member;
    std::memcpy(&member, members.data(), sizeof(member));
    on_member(member);
  }
}

// How a member names its request: by a span, by the engine's own key because it has no recorded span, or by the first
// bytes of its trace id because its span is in another process.
enum class NamedBy : std::uint8_t { span, own_key, trace };
inline NamedBy named_by(const nopspan_member& member) {
  if ((member.flags & NOPSPAN_MEMBER_TRACE_KEY) != 0) return NamedBy::trace;
  return (member.flags & NOPSPAN_MEMBER_OWN_KEY) != 0 ? NamedBy::own_key : NamedBy::span;
}
// These bytes, as members have them.
inline std::uint64_t member_key_of(const TraceId& id) {
  std::uint64_t key = 0;
  std::memcpy(&key, id.bytes, sizeof(key));
  return key;
}

// The span of a request in an engine.
inline constexpr std::string_view kRequestName = "engine.request";
// Whether steps may name a request by the trace id of this span: it is one, or the root of its trace.
inline bool is_whole_request(const Entry& span) { return span.parent_id == 0 || span.name == kRequestName; }
// Whether steps may name a request by this span.
inline bool may_be_named(const Entry& span) { return span.parent_id == 0 || span.name.starts_with("engine."); }

// Whether this may be the first member of a request: it does not decode without a prompt.
inline bool begins_with(const nopspan_member& member) { return member.prefill_tokens > 0 || member.decode_tokens == 0; }

inline std::size_t members_of(const Entry& entry) { return entry.members.size() / sizeof(nopspan_member); }

// Whether this is a step. Libraries before 0.2 wrote steps as spans with links, without the facts of a step.
inline bool is_step(const Entry& entry) {
  return entry.kind == Kind::span &&
         (entry.step != nullptr || (entry.flags & NOPSPAN_FLAG_STEP) != 0 || entry.name == "engine.step");
}

// The names of a step's facts as attributes.
inline constexpr std::pair<std::string_view, unsigned long nopspan_step::*> kStepFacts[] = {
    {"nopspan.prefill_tokens", &nopspan_step::prefill_tokens},
    {"nopspan.decode_tokens", &nopspan_step::decode_tokens},
    {"nopspan.drafted_tokens", &nopspan_step::drafted_tokens},
    {"nopspan.accepted_tokens", &nopspan_step::accepted_tokens},
    {"nopspan.budget_tokens", &nopspan_step::budget_tokens},
    {"nopspan.host_ns", &nopspan_step::host_ns},
    {"nopspan.device_ns", &nopspan_step::device_ns},
    {"nopspan.kv_used", &nopspan_step::kv_used},
};

// The name of nopspan_step::kind.
inline std::string_view step_kind_name(unsigned kind) {
  constexpr std::string_view kKinds[] = {"unknown", "prefill", "decode", "mixed"};
  return kKinds[kind < std::size(kKinds) ? kind : NOPSPAN_STEP_UNKNOWN];
}

// Whether a step has this fact itself, so that an attribute of the same name is not needed.
inline bool is_step_fact(std::string_view key) {
  return key == "nopspan.batch_size" ||
         std::any_of(std::begin(kStepFacts), std::end(kStepFacts), [&](const auto& fact) { return fact.first == key; });
}

// Calls `each(key, value)` for the facts that are not 0, which may mean that they are unknown. If a step verified
// drafts, it is known that it accepted none.
template <class Each>
void for_each_step_fact(const nopspan_step& step, const Each& each) {
  if (step.batch_size != 0) each(std::string_view("nopspan.batch_size"), std::uint64_t{step.batch_size});
  for (const auto& [key, field] : kStepFacts) {
    const bool is_known = step.*field != 0 || (field == &nopspan_step::accepted_tokens && step.drafted_tokens != 0);
    if (is_known) each(key, std::uint64_t{step.*field});
  }
}

}  // namespace nopspan::collector
