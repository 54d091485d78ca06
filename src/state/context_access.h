// SPDX-License-Identifier: Apache-2.0
// Access to the private parts of a Context, for the library.
#pragma once

#include "state/identity.h"

#include <nopspan/context.h>

#include <cstdint>

namespace nopspan::detail {

struct ContextAccess {
  static constexpr std::uint8_t kHasTrace = Context::kHasTrace;
  static constexpr std::uint8_t kRemote = Context::kRemote;
  static constexpr std::uint8_t kForeign = Context::kForeign;
  static constexpr std::uint8_t kUntraced = Context::kUntraced;
  static constexpr std::uint8_t kUnrecorded = Context::kUnrecorded;
  enum Label : std::uint8_t { engine, model, tenant, extra };  // `extra` is the first of three: labels.h

  static unsigned char (&trace_id(Context& c))[kTraceIdBytes] { return c.trace_id_; }
  static const unsigned char (&trace_id(const Context& c))[kTraceIdBytes] { return c.trace_id_; }
  static std::uint64_t& span_id(Context& c) { return c.span_id_; }
  static std::uint64_t& root_id(Context& c) { return c.root_id_; }
  static std::uint64_t& tracestate(Context& c) { return c.tracestate_; }
  static std::uint64_t tracestate(const Context& c) { return c.tracestate_; }
  static std::uint16_t& label(Context& c, Label which) { return c.labels_[which]; }
  static std::uint16_t label(const Context& c, Label which) { return c.labels_[which]; }
  static bool has_labels(const Context& c) {
    std::uint16_t any = 0;
    for (const std::uint16_t number : c.labels_) any |= number;
    return any != 0;
  }
  static std::uint8_t& trace_flags(Context& c) { return c.trace_flags_; }
  static std::uint8_t& bits(Context& c) { return c.bits_; }
  static std::uint8_t bits(const Context& c) { return c.bits_; }
  static char (&foreign(Context& c))[64] { return c.foreign_; }
  static const char (&foreign(const Context& c))[64] { return c.foreign_; }
};

}  // namespace nopspan::detail
