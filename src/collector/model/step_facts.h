// SPDX-License-Identifier: Apache-2.0
// The names of a step's facts, and the facts as attributes.
#pragma once

#include <nopspan/probes.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string_view>
#include <utility>

namespace nopspan::collector {

inline constexpr std::pair<std::string_view, unsigned long nopspan_step::*> kStepFacts[] = {
    {"nopspan.prefill_tokens", &nopspan_step::prefill_tokens},
    {"nopspan.decode_tokens", &nopspan_step::decode_tokens},
    {"nopspan.drafted_tokens", &nopspan_step::drafted_tokens},
    {"nopspan.accepted_tokens", &nopspan_step::accepted_tokens},
    {"nopspan.budget_tokens", &nopspan_step::budget_tokens},
    {"nopspan.host_ns", &nopspan_step::host_ns},
    {"nopspan.device_ns", &nopspan_step::device_ns},
};

// The name of nopspan_step::kind.
inline std::string_view step_kind_name(unsigned kind) {
  constexpr std::string_view kNames[] = {"unknown", "prefill", "decode", "mixed"};
  return kNames[kind < std::size(kNames) ? kind : NOPSPAN_STEP_UNKNOWN];
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
