// SPDX-License-Identifier: Apache-2.0
// The times and numbers that `nopspan hist` can measure (--of).
#pragma once

#include "model/entry.h"

#include <cstdint>
#include <string_view>
#include <vector>

namespace nopspan::collector {

struct Quantity {
  enum class In : std::uint8_t {
    span,
    first_token,
    tool,
    engine,
    queue,
    prefill,
    decode,
    retry,
    step_tokens,
    step_prefill,
    step_decode,
    batch_size,
    per_token,
    input_tokens,
    output_tokens,
    cache_hits,
    acceptance,
    gap,
    token_gap,
    attribute
  };

  const char* name;  // the value of --of
  const char* of;    // for people: "duration of spans"
  In in;
  const char* unit = "ns";
  std::string_view attribute = {};  // the key, if `in` is attribute

  [[nodiscard]] bool is_time() const { return std::string_view(unit) == "ns"; }
  [[nodiscard]] bool is_of_step() const { return in >= In::step_tokens && in <= In::batch_size; }
  // Whether an entry has a list of them (read_gaps() in stream_gaps.h).
  [[nodiscard]] bool is_list() const { return in == In::gap || in == In::token_gap; }
  // Whether the span's status also applies to the measured time, so that errors can be counted.
  [[nodiscard]] bool has_status() const { return in != In::first_token && in != In::retry && !is_list(); }
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
