// SPDX-License-Identifier: Apache-2.0
// Fields as OTLP attributes: the bytes that a probe's record points at.
#pragma once

#include "field_buffer.h"

#include <cstddef>
#include <cstdint>

namespace nopspan::detail {

inline constexpr std::size_t kMaxAttributesBytes = 8192;

// Field numbers of `attributes` in opentelemetry.proto.trace.v1.Span and in its Event.
inline constexpr unsigned kSpanAttributesField = 9;
inline constexpr unsigned kEventAttributesField = 3;

struct EncodedAttributes {
  std::size_t size = 0;
  std::uint32_t dropped = 0;  // attributes that did not fit, and were left out whole
};

// Writes each field as one `repeated KeyValue` of number `field` to `out` (kMaxAttributesBytes), so that the bytes are
// a fragment of the protobuf message and can be spliced into one. Content only where `with_content`. Bytes that are not
// UTF-8 become "?" (counted).
EncodedAttributes encode_attributes(const FieldBuffer& fields, unsigned field, bool with_content,
                                    unsigned char* out) noexcept;

}  // namespace nopspan::detail
