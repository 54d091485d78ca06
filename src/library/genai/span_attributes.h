// SPDX-License-Identifier: Apache-2.0
// Makes the OpenTelemetry attributes of a span or event. Probes get them encoded, handlers as fields.
#pragma once

#include "fields/field_buffer.h"
#include "genai/attributes.h"
#include "genai/genai_mapping.h"
#include "state/labels.h"
#include "state/span_state.h"

#include <cstddef>
#include <string_view>

namespace nopspan::detail {

// False if encode_attributes() would certainly write nothing.
inline bool may_have_attributes(const SpanState& span) noexcept {
  return span.fields.size() != 0 || span.catalogue != nullptr || has_extra_labels(span.context);
}

// Encodes the attributes to `out` (kMaxAttributesBytes). If `at_end`, those of a span's stop or exception, which
// include those of its start.
EncodedAttributes encode_attributes(const SpanState& span, bool at_end, bool with_content, unsigned char* out) noexcept;

// A label that the name of a gauge has: "waiting{reason=capacity}". The key is "" if it has none.
struct GaugeLabel {
  std::string_view key, value;
};
// Encodes the labels of a gauge: its metadata except what the entry and the record have in fields of their own,
// `label`, and the labels of the span that it is in. Content is not a label.
EncodedAttributes encode_gauge_labels(const SpanState& gauge, const GaugeLabel& label, unsigned char* out) noexcept;

// Writes the name of a gauge with its labels that are texts or integers, "waiting{reason=capacity,tier=host}", for
// tracers that cannot decode attributes. Returns its size, at most `room`.
std::size_t write_labelled_name(const SpanState& gauge, std::string_view name, const GaugeLabel& label, char* out,
                                std::size_t room) noexcept;

// The error.type of a span of a catalogue whose metadata says that it failed: its HTTP status (from 500 on if it serves
// a request, otherwise from 400 on), or "_OTHER" if it has an error or the finish reason "error". data() is null if it
// did not fail.
std::string_view failure_in_metadata(const SpanState& span, Scratch& scratch) noexcept;

// Makes the same attributes as fields. Content is included and marked.
void collect_attributes(const SpanState& span, bool at_end, FieldBuffer& out) noexcept;

// An Event makes its attributes from this when a handler first reads them.
struct EventAttributes {
  EventAttributes(const SpanState& of, bool is_at_end) noexcept : span(&of), at_end(is_at_end) {}

  const SpanState* span;
  bool at_end;
  bool made = false;  // `fields` contains them
  FieldBuffer fields;
};

}  // namespace nopspan::detail
