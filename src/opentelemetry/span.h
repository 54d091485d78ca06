// SPDX-License-Identifier: Apache-2.0
// A span of the API that nopspan records.
#pragma once

#include "attributes.h"
#include "local_spans.h"

#include <nopspan/context.h>
#include <nopspan/detail/bridge.h>
#include <nopspan/span.h>

#include <opentelemetry/trace/span.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <typeinfo>
#include <utility>

#include <sched.h>

namespace nopspan::opentelemetry {
inline namespace NOPSPAN_OPENTELEMETRY_ABI {

using ApiSpan = api::nostd::shared_ptr<api::trace::Span>;

detail::TracePlace place_of(const api::trace::SpanContext& context) noexcept;

// What typeid() reads of an object: null if its class was compiled with -fno-rtti, and then typeid() must not be used.
inline const std::type_info* type_of(const void* polymorphic) noexcept {
  const std::type_info* const* vtable = nullptr;
  std::memcpy(&vtable, polymorphic, sizeof(vtable));
  return vtable[-1];
}
inline bool have_one_vtable(const void* a, const void* b) noexcept { return std::memcmp(a, b, sizeof(void*)) == 0; }
inline bool have_one_type(const void* a, const void* b) noexcept {
  if (have_one_vtable(a, b)) return true;
  const std::type_info *const type = type_of(a), *const other = type_of(b);
  return type != nullptr && other != nullptr && *type == *other;
}

// Calls are short, and rarely meet.
class SpinLock {
 public:
  void lock() noexcept {
    while (is_locked_.exchange(true, std::memory_order_acquire)) sched_yield();
  }
  void unlock() noexcept { is_locked_.store(false, std::memory_order_release); }

 private:
  std::atomic<bool> is_locked_{false};
};

// The API allows several threads to use a span at the same time. nopspan's span belongs to one thread at a time, so
// each call takes the lock.
class Span final : public api::trace::Span {
 public:
  // `offset_ns` is what the start is after the time of the steady clock at which it was given. `inner` is null without
  // an SDK.
  Span(detail::SpanState* state, std::int64_t offset_ns, ApiSpan inner) noexcept
      : state_(state), offset_ns_(offset_ns), inner_(std::move(inner)) {}
  ~Span() override;
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

  void SetAttribute(api::nostd::string_view key, const api::common::AttributeValue& value) noexcept override;
  void AddEvent(api::nostd::string_view name) noexcept override;
  void AddEvent(api::nostd::string_view name, api::common::SystemTimestamp time) noexcept override;
  void AddEvent(api::nostd::string_view name, api::common::SystemTimestamp time,
                const api::common::KeyValueIterable& attributes) noexcept override;
  void AddEvent(api::nostd::string_view name, const api::common::KeyValueIterable& attributes) noexcept override;
#if OPENTELEMETRY_ABI_VERSION_NO >= 2
  void AddLink(const api::trace::SpanContext& target,
               const api::common::KeyValueIterable& attributes) noexcept override;
  void AddLinks(const api::trace::SpanContextKeyValueIterable& links) noexcept override;
#endif
  void SetStatus(api::trace::StatusCode code, api::nostd::string_view description) noexcept override;
  void UpdateName(api::nostd::string_view name) noexcept override;
  void End(const api::trace::EndSpanOptions& options) noexcept override;
  // From then on, the span is found by its ids, too.
  [[nodiscard]] api::trace::SpanContext GetContext() const noexcept override;
  // The same, for the library.
  [[nodiscard]] api::trace::SpanContext api_context() const noexcept;
  [[nodiscard]] bool IsRecording() const noexcept override;

  // Begins a span inside this one, which may have ended.
  [[nodiscard]] detail::SpanState* begin_inside(api::nostd::string_view name, SpanOptions options) const noexcept;
  // The context that spans inside it inherit, also after its end.
  [[nodiscard]] Context context() const noexcept;

  // The span if it is one of this copy of the library, otherwise null.
  static const Span* from(const api::trace::Span& span) noexcept {
    return type_of(&span) == &typeid(Span) ? static_cast<const Span*>(&span) : nullptr;
  }

 private:
  void add_event(api::nostd::string_view name, std::int64_t time_ns,
                 const api::common::KeyValueIterable* attributes) const noexcept;

  mutable SpinLock lock_;
  detail::SpanState* state_;  // null: it has ended
  union {
    Context last_;  // after the end
  };
  std::int64_t offset_ns_;
  api::trace::StatusCode status_ = api::trace::StatusCode::kUnset;
  std::string description_;
  ApiSpan inner_;
  mutable std::atomic<std::uint64_t> kept_id_{0};  // in LocalSpans. 0: it is not there
};

void put_links(detail::FieldSink* sink, const api::trace::SpanContextKeyValueIterable& links) noexcept;

}  // namespace NOPSPAN_OPENTELEMETRY_ABI
}  // namespace nopspan::opentelemetry
