// SPDX-License-Identifier: Apache-2.0
// The spans of this process by their ids. A program may give the parent of a span as a SpanContext, which has ids only.
// If the parent is a span of this process, the new span must be inside it, and inherit its model and tenant.
//
// Only spans whose context the program has asked for are kept, so that others cost nothing.
#pragma once

#include <cstdint>

namespace nopspan::opentelemetry {
inline namespace NOPSPAN_OPENTELEMETRY_ABI {

class Span;

class LocalSpans {
 public:
  // If there is no memory, the span is not kept. `span` must be removed before it is destroyed.
  static void add(const Span& span, std::uint64_t id) noexcept;
  static void remove(const Span& span, std::uint64_t id) noexcept;

  // While it exists, no span is removed.
  class Lookup {
   public:
    explicit Lookup(std::uint64_t id) noexcept;
    ~Lookup();
    Lookup(const Lookup&) = delete;
    Lookup& operator=(const Lookup&) = delete;
    // Null if there is none.
    [[nodiscard]] const Span* span() const noexcept { return span_; }

   private:
    const Span* span_ = nullptr;
  };
};

}  // namespace NOPSPAN_OPENTELEMETRY_ABI
}  // namespace nopspan::opentelemetry
