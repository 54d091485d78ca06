// SPDX-License-Identifier: Apache-2.0
// Encodes fields as OTLP attributes, for the records of the probes and the entries of a batch.
#pragma once

#include "base/counters.h"
#include "fields/field_buffer.h"
#include "fields/metadata.h"
#include "fields/otlp_wire.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nopspan::detail {

inline constexpr std::size_t kMaxAttributesBytes = 8192;

struct EncodedAttributes {
  std::size_t size = 0;
  std::uint32_t dropped = 0;  // attributes that did not fit; none is truncated
};

// Writes each attribute to `out` (kMaxAttributesBytes) as one element of the `repeated KeyValue` with number `field`.
// So the bytes are a fragment of a protobuf message and can be spliced into one. Content is written only if
// `with_content`. Bytes that are not UTF-8 become "?" (counted).
class AttributeEncoder {
 public:
  AttributeEncoder(unsigned field, bool with_content, unsigned char* out) noexcept
      : field_(field), with_content_(with_content), out_(out) {}

  // An output of the GenAI mapping; see genai_mapping.h.
  void text(std::string_view key, std::string_view value) noexcept;
  void texts(std::string_view key, const std::string_view* values, std::size_t count) noexcept;
  void node(std::string_view key, const Node& value) noexcept;
  // Writes a field under another key.
  void entry(std::string_view key, const FieldEntry& value) noexcept;

  // Copies the fields from `at` on that are in wire form. Stops at the first that is not, or that may not fit, and
  // returns it. Returns `end` if it copied all.
  const unsigned char* wire_entries(const unsigned char* at, const unsigned char* end) noexcept;

  // Returns the result, and counts the dropped attributes. Call it once.
  [[nodiscard]] EncodedAttributes finish() noexcept {
    if (encoded_.dropped > 0) count(counters.attributes_dropped, encoded_.dropped);
    return encoded_;
  }

 private:
  template <class Write>
  void write(std::string_view key, std::size_t value_bytes, const Write& write_value) noexcept;

  unsigned field_;
  bool with_content_;
  unsigned char* out_;
  EncodedAttributes encoded_;
};

}  // namespace nopspan::detail
