// SPDX-License-Identifier: Apache-2.0
// The times and numbers that `nopspan hist` can measure (--of).
#pragma once

#include "model/entry.h"

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace nopspan::collector {

struct Quantity {
  // What has it: spans, tool calls, retries, engine steps, a list of gaps (read_gaps() in stream_gaps.h), or an
  // attribute of spans and events.
  enum class In : std::uint8_t { span, tool, retry, step, gap, token_gap, attribute };
  // Nothing if the entry does not have it.
  using Read = std::optional<std::uint64_t> (*)(const Entry& entry);

  const char* name;  // the value of --of
  const char* of;    // for people: "duration of spans"
  In in;
  Read read = nullptr;  // null for lists and attributes
  const char* unit = "ns";
  bool has_status = true;  // the span's status also applies to the measured value, so that errors can be counted
  std::string_view attribute = {};  // the key, if `in` is attribute

  [[nodiscard]] bool is_time() const { return std::string_view(unit) == "ns"; }
  // Whether an entry has a list of them.
  [[nodiscard]] bool is_list() const { return in == In::gap || in == In::token_gap; }
  // Whether the entry is named by Entry::text: the name of the tool, or the name of the span that the retry is in.
  [[nodiscard]] bool is_named_by_text() const { return in == In::tool || in == In::retry; }
};
// Those with a name. Numbers of attributes are quantities too.
const std::vector<Quantity>& quantities();
// A quantity by its name, by the name of a fact (facts/engine_facts.h), or by the name of any attribute ("attr:rows").
// Null if it is none of these. The result lives as long as the program, and is the same for the same quantity. Not
// thread-safe.
const Quantity* find_quantity(std::string_view name);

struct Measured {
  std::uint64_t value = 0;
  std::uint8_t status = kOk;
  std::string_view name;
  std::uint64_t times = 1;
};
// False if the entry does not have the quantity. Negative numbers are not counted, and fractions are rounded.
bool measure(const Entry& entry, const Quantity& quantity, Measured& measured);

}  // namespace nopspan::collector
