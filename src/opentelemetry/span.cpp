// SPDX-License-Identifier: Apache-2.0
#include "span.h"

#include <nopspan/detail/gate.h>

#include <opentelemetry/trace/trace_state.h>

#include <cstring>
#include <mutex>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace nopspan::opentelemetry {
inline namespace NOPSPAN_OPENTELEMETRY_ABI {
namespace {

// The attributes that OpenTelemetry defines for formats without a status. nopspan's export makes OTLP's status of them.
constexpr Text kStatusCode{"otel.status_code"}, kStatusDescription{"otel.status_description"};

void put_link(detail::FieldSink* sink, const api::trace::SpanContext& target) noexcept {
  const std::string tracestate = target.trace_state()->ToHeader();
  const Context context = detail::context_at(place_of(target), target.IsRemote(), tracestate, {});
  detail::put_link(sink, context);
}

}  // namespace

detail::TracePlace place_of(const api::trace::SpanContext& context) noexcept {
  detail::TracePlace place;
  std::memcpy(place.trace_id, context.trace_id().Id().data(), sizeof(place.trace_id));
  std::memcpy(&place.span_id, context.span_id().Id().data(), sizeof(place.span_id));
  place.span_id = __builtin_bswap64(place.span_id);
  place.trace_flags = context.trace_flags().flags();
  return place;
}

void put_links(detail::FieldSink* sink, const api::trace::SpanContextKeyValueIterable& links) noexcept {
  detail::guarded([&] {
    links.ForEachKeyValue([sink](api::trace::SpanContext target, const api::common::KeyValueIterable& /*unused*/) {
      put_link(sink, target);
      return true;
    });
  });
}

Span::~Span() {
  if (state_ != nullptr) End({});
  if (kept_id_ != 0) LocalSpans::remove(*this, kept_id_);
}

void Span::SetAttribute(api::nostd::string_view key, const api::common::AttributeValue& value) noexcept {
  if (inner_ != nullptr) inner_->SetAttribute(key, value);
  const std::lock_guard lock(lock_);
  if (state_ != nullptr) put_attribute(detail::sink_of(state_), key, value);
}

void Span::add_event(api::nostd::string_view name, std::int64_t time_ns,
                     const api::common::KeyValueIterable* attributes) const noexcept {
  if (!detail::points_wanted()) return;
  std::unique_lock lock(lock_);
  if (state_ == nullptr) return;
  detail::FieldSink* sink = detail::point_begin_in(text_of(name), state_);
  if (sink == nullptr) return;
  lock.unlock();  // what the program passes, and handlers, may use the span
  if (time_ns != 0) detail::point_at(sink, static_cast<std::uint64_t>(time_ns));
  if (attributes != nullptr) put_attributes(sink, *attributes);
  lock.lock();
  if (state_ != nullptr) detail::point_note(sink);
  lock.unlock();
  detail::point_emit(sink);
}

void Span::AddEvent(api::nostd::string_view name) noexcept {
  if (inner_ != nullptr) inner_->AddEvent(name);
  add_event(name, 0, nullptr);
}

void Span::AddEvent(api::nostd::string_view name, api::common::SystemTimestamp time) noexcept {
  if (inner_ != nullptr) inner_->AddEvent(name, time);
  add_event(name, monotonic(time), nullptr);
}

void Span::AddEvent(api::nostd::string_view name, api::common::SystemTimestamp time,
                    const api::common::KeyValueIterable& attributes) noexcept {
  if (inner_ != nullptr) inner_->AddEvent(name, time, attributes);
  add_event(name, monotonic(time), &attributes);
}

void Span::AddEvent(api::nostd::string_view name, const api::common::KeyValueIterable& attributes) noexcept {
  if (inner_ != nullptr) inner_->AddEvent(name, attributes);
  add_event(name, 0, &attributes);
}

#if OPENTELEMETRY_ABI_VERSION_NO >= 2
void Span::AddLink(const api::trace::SpanContext& target, const api::common::KeyValueIterable& attributes) noexcept {
  if (inner_ != nullptr) inner_->AddLink(target, attributes);
  const std::lock_guard lock(lock_);
  if (state_ != nullptr) detail::guarded([&] { put_link(detail::sink_of(state_), target); });
}

void Span::AddLinks(const api::trace::SpanContextKeyValueIterable& links) noexcept {
  if (inner_ != nullptr) inner_->AddLinks(links);
  detail::guarded([&] {
    std::vector<api::trace::SpanContext> targets;
    // Without the lock, because this is a function of the program, which may use the span.
    links.ForEachKeyValue([&](api::trace::SpanContext target, const api::common::KeyValueIterable& /*unused*/) {
      targets.push_back(std::move(target));
      return true;
    });
    const std::lock_guard lock(lock_);
    if (state_ == nullptr) return;
    for (const api::trace::SpanContext& target : targets) put_link(detail::sink_of(state_), target);
  });
}
#endif

// The last call counts, as in the SDK.
void Span::SetStatus(api::trace::StatusCode code, api::nostd::string_view description) noexcept {
  if (inner_ != nullptr) inner_->SetStatus(code, description);
  const std::lock_guard lock(lock_);
  if (state_ == nullptr) return;
  status_ = code;
  detail::guarded([&] {
    description_.clear();
    if (code == api::trace::StatusCode::kError) description_ = text_of(description).view();
  });
}

void Span::UpdateName(api::nostd::string_view name) noexcept {
  if (inner_ != nullptr) inner_->UpdateName(name);
  const std::lock_guard lock(lock_);
  if (state_ != nullptr) detail::span_rename(state_, text_of(name));
}

void Span::End(const api::trace::EndSpanOptions& options) noexcept {
  if (inner_ != nullptr) inner_->End(options);
  std::unique_lock lock(lock_);
  if (state_ == nullptr) return;
  const std::int64_t given = ns_of(options.end_steady_time.time_since_epoch());
  if (given != 0 || offset_ns_ != 0) {
    const std::int64_t end = (given != 0 ? given : steady_now()) + offset_ns_;
    detail::span_end_at(state_, end > 0 ? static_cast<std::uint64_t>(end) : 0);
  }
  if (status_ != api::trace::StatusCode::kUnset) {
    const bool is_error = status_ == api::trace::StatusCode::kError;
    detail::put_text(detail::sink_of(state_), kStatusCode, is_error ? "ERROR" : "OK", false);
    if (!description_.empty()) detail::put_text(detail::sink_of(state_), kStatusDescription, description_, true);
    if (is_error) detail::span_fail(state_, {}, {});
  }
  new (&last_) Context(detail::last_context(state_));
  static_assert(std::is_trivially_destructible_v<Context>);
  detail::SpanState* const ended = std::exchange(state_, nullptr);
  lock.unlock();  // handlers may use the span
  detail::async_end(ended);
}

detail::SpanState* Span::begin_inside(api::nostd::string_view name, SpanOptions options) const noexcept {
  const std::lock_guard lock(lock_);
  return state_ != nullptr ? detail::async_begin_inside(text_of(name), state_, options)
                           : detail::async_begin(text_of(name), last_, options);
}

Context Span::context() const noexcept {
  const std::lock_guard lock(lock_);
  return state_ != nullptr ? detail::async_context(state_) : last_;
}

api::trace::SpanContext Span::GetContext() const noexcept {
  api::trace::SpanContext context = api_context();
  const std::uint64_t id = place_of(context).span_id;
  std::uint64_t none = 0;
  if (kept_id_.load(std::memory_order_relaxed) == 0 && kept_id_.compare_exchange_strong(none, id))
    LocalSpans::add(*this, id);
  return context;
}

api::trace::SpanContext Span::api_context() const noexcept {
  if (inner_ != nullptr) {
    if (api::trace::SpanContext context = inner_->GetContext(); context.IsValid()) return context;
  }
  const Context context = [this] {
    const std::lock_guard lock(lock_);
    return state_ != nullptr ? detail::last_context(state_) : last_;
  }();
  const detail::TracePlace place = detail::place_of(context);
  const std::uint64_t id = __builtin_bswap64(place.span_id);
  std::uint8_t span_id[sizeof(id)];
  std::memcpy(span_id, &id, sizeof(id));
  const auto tracestate = context.tracestate();
  return {api::trace::TraceId(place.trace_id), api::trace::SpanId(span_id), api::trace::TraceFlags(place.trace_flags),
          false,
          tracestate.empty() ? api::trace::TraceState::GetDefault()
                             : api::trace::TraceState::FromHeader({tracestate.data(), tracestate.size()})};
}

bool Span::IsRecording() const noexcept {
  const std::lock_guard lock(lock_);
  return state_ != nullptr || (inner_ != nullptr && inner_->IsRecording());
}

}  // namespace NOPSPAN_OPENTELEMETRY_ABI
}  // namespace nopspan::opentelemetry
