// SPDX-License-Identifier: Apache-2.0
// An engine's steps: spans of work for several requests at once. A step names these requests as its members. If there
// are many, parts follow it (Kind::part). A step is never a request.
#pragma once

#include "model/entry.h"

#include <nopspan/probes.h>

#include <cstddef>
#include <cstring>
#include <string_view>

namespace nopspan::collector {

// Calls on_member(nopspan_member) for each member.
template <class OnMember>
void for_each_member(std::string_view members, const OnMember& on_member) {
  for (; members.size() >= sizeof(nopspan_member); members.remove_prefix(sizeof(nopspan_member))) {
    nopspan_member member;
    std::memcpy(&member, members.data(), sizeof(member));
    on_member(member);
  }
}

// Whether the member's request is named by the engine's own key, because it has no recorded span.
inline bool has_own_key(const nopspan_member& member) {
  return (member.flags & (NOPSPAN_MEMBER_OWN_KEY | NOPSPAN_MEMBER_TRACE_KEY)) == NOPSPAN_MEMBER_OWN_KEY;
}

inline std::size_t members_of(const Entry& entry) { return entry.members.size() / sizeof(nopspan_member); }

// Whether this is a step. Libraries before 0.2 wrote steps as spans with links, without the facts of a step.
inline bool is_step(const Entry& entry) {
  return entry.kind == Kind::span &&
         (entry.step != nullptr || (entry.flags & NOPSPAN_FLAG_STEP) != 0 || entry.name == "engine.step");
}

}  // namespace nopspan::collector
