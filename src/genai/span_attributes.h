// SPDX-License-Identifier: Apache-2.0
// A span or event as OpenTelemetry attributes: one way for probes and handlers.
#pragma once

#include "fields/field_buffer.h"
#include "genai/attributes.h"

#include <cstdint>

namespace nopspan::detail {

struct SpanState;

// `at_end`: those of a span's stop or exception; what its start has is among them.
EncodedAttributes encode_attributes(const SpanState& span, bool at_end, unsigned field, bool with_content,
                                    unsigned char* out) noexcept;

// The same as fields, content included and marked.
void collect_attributes(const SpanState& span, bool at_end, FieldBuffer& out) noexcept;

// What an Event needs to make its attributes when somebody asks for them.
struct EventAttributes {
  const SpanState* span;
  bool at_end;
  FieldBuffer fields;
  bool made = false;  // `fields` are them
};

}  // namespace nopspan::detail
