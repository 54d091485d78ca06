// SPDX-License-Identifier: Apache-2.0
// What `nopspan hist` makes histograms of, and by which texts.
#pragma once

#include "model/span.h"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

// A time that a probe tells, and where a recording has the same.
struct Quantity {
  enum class In : std::uint8_t { span, first_token, tool, engine, queue, prefill, decode, retry };

  const char* name;            // as --of has it
  const char* of;              // for people: "duration of spans"
  const char* probe;           // of provider nopspan
  In in;                       // a recording
  std::uint32_t value_offset;  // in the probe's record; 0: it is arg2
  std::uint32_t status_from;   // NOPSPAN_HIST_STATUS_*
};
const std::vector<Quantity>& quantities();
const Quantity* find_quantity(std::string_view name);

// What a row is keyed by: NOPSPAN_HIST_NAME …
struct KeyPart {
  const char* name;
  std::uint32_t number;
};
const std::vector<KeyPart>& key_parts();
const KeyPart* find_key_part(std::string_view name);

// One time, as a recorded span tells it.
struct Measured {
  std::uint64_t value = 0;
  std::uint8_t status = kOk;
  std::string_view name;
};
// False if the span tells nothing of the quantity.
bool measure(const Span& span, const Quantity& quantity, Measured& measured);
std::string_view text_of(const Span& span, const Measured& measured, const KeyPart& part);

}  // namespace nopspan::collector
