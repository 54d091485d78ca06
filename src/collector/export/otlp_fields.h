// SPDX-License-Identifier: Apache-2.0
// Parts of OTLP messages.
#pragma once

#include "base/byte_buffer.h"
#include "model/entry.h"
#include "model/otlp_wire.h"

#include <nopspan/probes.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace nopspan::collector {

// opentelemetry.proto.trace.v1.Status with the code STATUS_CODE_ERROR, and without a message.
inline constexpr std::string_view kStatusError = "\x18\x02";

inline std::string_view view_of(const TraceId& id) {
  return {reinterpret_cast<const char*>(id.bytes), sizeof(id.bytes)};
}

// OTLP writes span ids as bytes, the most significant one first. nopspan has them as numbers.
inline std::array<char, 8> bytes_of(std::uint64_t id) {
  std::array<char, 8> bytes{};
  for (char& byte : bytes) {
    byte = static_cast<char>(id >> 56U);
    id <<= 8U;
  }
  return bytes;
}

template <class Out>
void append_span_id(Out& out, unsigned field, std::uint64_t id) {
  if (id == 0) return;
  const auto bytes = bytes_of(id);
  append_bytes(out, field, {bytes.data(), bytes.size()});
}

template <class Out>
void append_trace_id(Out& out, unsigned field, const TraceId& id) {
  if (!id.empty()) append_bytes(out, field, view_of(id));
}

// Appends a link of a span.
template <class Out>
void append_link(Out& out, std::string_view trace_id, std::uint64_t span_id) {
  const auto id = bytes_of(span_id);
  const std::size_t bytes = 2 + trace_id.size() + 2 + id.size();
  append_part(out, kMostHead + bytes, [&](char* at) {
    return put_bytes(put_bytes(put_length(at, 13, bytes), 1, trace_id), 2, {id.data(), id.size()});
  });
}

// The flags of a span: it is known whether the parent is remote.
inline std::uint32_t span_flags(bool is_sampled, bool is_remote) {
  constexpr std::uint32_t kHasIsRemote = 0x100, kIsRemote = 0x200;  // opentelemetry.proto.trace.v1.SpanFlags
  return (is_sampled ? 1U : 0U) | kHasIsRemote | (is_remote ? kIsRemote : 0U);
}

inline unsigned span_kind(const Entry& entry) {
  return (entry.flags & NOPSPAN_FLAG_KIND_MASK) >> NOPSPAN_FLAG_KIND_SHIFT;
}

// Writes messages whose lengths, which precede them, are known only afterwards. Most messages of one kind have lengths
// of the same size, so the size of the last one is reserved.
class MessageFrame {
 public:
  explicit MessageFrame(unsigned field) : tag_(static_cast<char>(field << 3U | 2U)) {}  // `field` is at most 15

  // Returns where the message begins, for end().
  std::size_t begin(ByteBuffer& out) const {
    const std::size_t begin = out.size();
    out.extend(1 + length_bytes_);
    return begin;
  }
  void end(ByteBuffer& out, std::size_t begin) {
    const std::size_t bytes = out.size() - begin - 1 - length_bytes_;
    if (const std::size_t needed = varint_bytes(bytes); needed != length_bytes_) {
      if (needed > length_bytes_) out.extend(needed - length_bytes_);
      std::memmove(out.at(begin + 1 + needed), out.at(begin + 1 + length_bytes_), bytes);
      length_bytes_ = needed;
      out.shrink(begin + 1 + needed + bytes);
    }
    *out.at(begin) = tag_;
    put_varint(out.at(begin + 1), bytes);
  }

 private:
  char tag_;
  std::size_t length_bytes_ = 1;
};

}  // namespace nopspan::collector
