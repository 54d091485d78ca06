// SPDX-License-Identifier: Apache-2.0
// The facts of an engine's spans and events: numbers that can be added up, and texts that can be counted.
#pragma once

#include "model/entry.h"
#include "model/otlp_wire.h"
#include "model/steps.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string_view>

namespace nopspan::collector {

inline bool has_engine_facts(const Entry& entry) {
  return (entry.kind == Kind::span || entry.kind == Kind::event) && entry.name.starts_with("engine.");
}

// Attributes with few texts. The finish reason is not one of them, because it is a list.
inline bool is_counted_text(std::string_view key) {
  constexpr std::string_view kKeys[] = {"nopspan.reason", "nopspan.mode", "nopspan.tier", "nopspan.direction",
                                        "nopspan.admission_reason"};
  return std::find(std::begin(kKeys), std::end(kKeys), key) != std::end(kKeys);
}

// Calls `on_number(key, value)` for each attribute that is an integer of at least 0, except times of day, and
// `on_text(key, text)` for each whose text is_counted_text().
template <class OnNumber, class OnText>
void for_each_engine_fact(const Entry& entry, const OnNumber& on_number, const OnText& on_text) {
  if (entry.step != nullptr) for_each_step_fact(*entry.step, on_number);
  for_each_key_value(
      entry.attributes, entry.kind == Kind::span ? kSpanAttributes : kEventAttributes, [&](std::string_view key_value) {
        Attribute attribute;
        if (!read_attribute(key_value, attribute)) return;
        if (attribute.type == Attribute::Type::text && is_counted_text(attribute.key)) {
          on_text(attribute.key, attribute.text);
          return;
        }
        const bool is_time_of_day = attribute.key == "nopspan.arrival_ns" || attribute.key == "nopspan.opened_ns";
        if (attribute.type != Attribute::Type::integer || attribute.integer < 0 || is_time_of_day ||
            (entry.step != nullptr && is_step_fact(attribute.key))) {
          return;
        }
        on_number(attribute.key, static_cast<std::uint64_t>(attribute.integer));
      });
}

}  // namespace nopspan::collector
