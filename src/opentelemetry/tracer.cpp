// SPDX-License-Identifier: Apache-2.0
#include "tracer.h"

#include <nopspan/detail/gate.h>
#include <nopspan/span.h>

#include <opentelemetry/baggage/baggage_context.h>
#include <opentelemetry/trace/context.h>
#include <opentelemetry/trace/span_metadata.h>
#include <opentelemetry/trace/trace_state.h>

#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

namespace nopspan::opentelemetry {
inline namespace NOPSPAN_OPENTELEMETRY_ABI {

using ThreadStorage = api::context::ThreadLocalContextStorage;

#if OPENTELEMETRY_VERSION_MAJOR == 1 && OPENTELEMETRY_VERSION_MINOR >= 19 && OPENTELEMETRY_VERSION_MINOR <= 28
constexpr bool kKnowsThreadStorage = true;
// GetCurrent() copies the context, which costs more than the rest of a span that is off. Nothing in the API shows it
// without a copy. So this reads the private members of the default storage, in the versions that have been looked at:
// the names in an explicit instantiation may be private ones. In older versions, a plug-in can have another stack.
template <auto Stack, auto Size, auto Capacity, auto Contexts>
struct PrivateStack {
  template <class T>
  static const api::context::Context* last(const T& stack) noexcept {
    const std::size_t size = stack.*Size;
    return size != 0 && size <= stack.*Capacity ? &(stack.*Contexts)[size - 1] : nullptr;
  }
  friend const api::context::Context* last_context(ThreadStorage& storage) noexcept { return last((storage.*Stack)()); }
};
const api::context::Context* last_context(ThreadStorage& storage) noexcept;
template struct PrivateStack<&ThreadStorage::GetStack, &ThreadStorage::Stack::size_, &ThreadStorage::Stack::capacity_,
                             &ThreadStorage::Stack::base_>;
#else
constexpr bool kKnowsThreadStorage = false;
const api::context::Context* last_context(ThreadStorage& /*unused*/) noexcept { return nullptr; }
#endif

namespace {

// The span of a context. It does not make the copy and the new span that trace::GetSpan() makes. Not inlined, because
// most spans that are not recorded have no context.
__attribute__((noinline)) std::optional<ApiSpan> span_in(const api::context::Context& context) noexcept {
  api::context::ContextValue value = context.GetValue(api::trace::kSpanKey);
  if (auto* const span = api::nostd::get_if<ApiSpan>(&value); span != nullptr && *span != nullptr) {
    return std::move(*span);
  }
  return {};
}

// A span that is not recorded and has no parent.
api::trace::DefaultSpan& no_span() noexcept {
  static api::trace::DefaultSpan span(api::trace::SpanContext::GetInvalid());
  return span;
}
// A pointer to it without an owner, because counting the owners would cost more than the rest of the call.
ApiSpan invalid_span() noexcept {
  return ApiSpan(std::shared_ptr<api::trace::Span>(std::shared_ptr<api::trace::Span>(), &no_span()));
}

// The parent's SpanContext, if the options give it and it is valid; otherwise null.
const api::trace::SpanContext* given_parent(const api::trace::StartSpanOptions& options) noexcept {
  const auto* const given = api::nostd::get_if<api::trace::SpanContext>(&options.parent);
  return given != nullptr && __builtin_expect(given->IsValid(), 0) ? given : nullptr;
}

bool has_baggage(const api::context::Context* context) noexcept {
  return context != nullptr && context->HasKey(api::baggage::kBaggageHeader);
}

Context context_of(const api::trace::SpanContext& span, const api::context::Context* context) noexcept {
  Context found;
  detail::guarded([&] {
    std::string tracestate, baggage;
    if (span.IsValid()) tracestate = span.trace_state()->ToHeader();
    if (has_baggage(context)) baggage = api::baggage::GetBaggage(*context)->ToHeader();
    found = detail::context_at(place_of(span), span.IsRemote(), tracestate, baggage);
  });
  return found;
}

// Span::GetContext() is for the program.
api::trace::SpanContext api_context_of(const api::trace::Span& span) noexcept {
  const Span* const own = Span::from(span);
  return own != nullptr ? own->api_context() : span.GetContext();
}

// The context of a parent as nopspan has it.
Context context_of(const api::context::Context* context, const ApiSpan* span, bool is_root) noexcept {
  if (span != nullptr) {
    if (const Span* const own = Span::from(**span)) return own->context();
    const api::trace::SpanContext of_span = (*span)->GetContext();
    if (of_span.IsValid()) return context_of(of_span, context);
    return detail::async_parent(nullptr);  // it began before a tracer attached
  }
  if (is_root) return {};
  if (has_baggage(context)) return context_of(api::trace::SpanContext::GetInvalid(), context);
  return Context::current();  // a span of nopspan's own API
}

bool is_in_trace(const Context& context, const detail::TracePlace& place) noexcept {
  return std::memcmp(detail::place_of(context).trace_id, place.trace_id, sizeof(place.trace_id)) == 0;
}

}  // namespace

Tracer::Tracer(Scope scope, ApiTracer inner)
    : inner_(inner.get()),
      scope_(std::move(scope)),
      owned_inner_(std::move(inner)),
      owned_storage_(api::context::RuntimeContext::GetConstRuntimeContextStorage()) {
  // The API calls the storage through a copy of this pointer, which costs more than the rest of a span that is off.
  storage_ = const_cast<api::context::RuntimeContextStorage*>(owned_storage_.get());
  const ThreadStorage known;
  if (kKnowsThreadStorage && have_one_vtable(storage_, &known)) thread_storage_ = static_cast<ThreadStorage*>(storage_);
}

void Tracer::wrap(api::trace::TracerProvider& provider) {
  if (owned_inner_ != nullptr) return;
  owned_inner_ = provider.GetTracer(scope_.name, scope_.version, scope_.schema_url);
  inner_.store(owned_inner_.get(), std::memory_order_release);
}

bool Tracer::is_enabled() const noexcept {
  return inner_.load(std::memory_order_acquire) != nullptr || detail::spans_wanted();
}

template <class Use>
auto Tracer::in_parent(const api::trace::StartSpanOptions& options, const Use& use) const {
  if (const auto* const given = api::nostd::get_if<api::context::Context>(&options.parent)) {
    std::optional<ApiSpan> span = span_in(*given);
    if (span && api_context_of(**span).IsValid()) return use(given, &*span, false);
    if (api::trace::IsRootSpan(*given)) return use(given, nullptr, true);
  }
  const auto in_current = [&](const api::context::Context& current) {
    std::optional<ApiSpan> span = span_in(current);
    return use(current == api::context::Context() ? nullptr : &current, span ? &*span : nullptr, false);
  };
  if (__builtin_expect(thread_storage_ == nullptr, 0)) return in_current(storage_->GetCurrent());
  const api::context::Context* const current = last_context(*thread_storage_);
  return __builtin_expect(current == nullptr, 1) ? use(nullptr, nullptr, false) : in_current(*current);
}

// If a span is not recorded, the headers that its process sends must be those of its parent. So the parent's context is
// returned. Without a parent, that costs about one nanosecond.
ApiSpan Tracer::unrecorded(const api::trace::StartSpanOptions& options) const {
  const auto with = [](const api::trace::SpanContext& context) {
    ApiSpan made;
    detail::guarded(
        [&] { made = std::shared_ptr<api::trace::Span>(std::make_shared<api::trace::DefaultSpan>(context)); });
    if (made == nullptr) return invalid_span();
    return made;
  };
  if (const api::trace::SpanContext* const remote = given_parent(options)) return with(*remote);
  return in_parent(options, [&](const api::context::Context*, ApiSpan* span, bool) {
    if (span == nullptr) return invalid_span();
    if (have_one_type(span->get(), &no_span())) return std::move(*span);  // it does nothing
    const api::trace::SpanContext context = api_context_of(**span);
    return context.IsValid() ? with(context) : invalid_span();
  });
}

__attribute__((noinline)) ApiSpan Tracer::start(api::nostd::string_view name,
                                                const api::common::KeyValueIterable& attributes,
                                                const api::trace::SpanContextKeyValueIterable& links,
                                                const api::trace::StartSpanOptions& options,
                                                api::trace::Tracer* inner) const {
  ApiSpan other = inner != nullptr ? inner->StartSpan(name, attributes, links, options) : ApiSpan();
  if (!detail::spans_wanted()) return other != nullptr ? other : unrecorded(options);
  const std::int64_t system = ns_of(options.start_system_time.time_since_epoch());
  const std::int64_t steady = ns_of(options.start_steady_time.time_since_epoch());
  SpanOptions begin(static_cast<SpanKind>(static_cast<int>(options.kind) + 1));
  std::int64_t offset = 0;
  if (system != 0 || steady != 0) {
    const std::int64_t at = system != 0 ? monotonic(options.start_system_time) : steady_now();
    offset = at - (steady != 0 ? steady : steady_now());
    begin.start = at;
  }
  const auto begin_in = [&](Context parent) {
    const detail::TracePlace given = other != nullptr ? place_of(other->GetContext()) : detail::TracePlace();
    if (given.span_id == 0) return detail::async_begin(text_of(name), parent, begin);
    if (!parent.empty() && !is_in_trace(parent, given)) parent = {};
    return detail::async_begin_at(text_of(name), parent, begin, given);
  };
  const auto begin_inside = [&](const api::context::Context* context, const ApiSpan* span, bool is_root) {
    if (other == nullptr) {
      if (const Span* const own = span != nullptr ? Span::from(**span) : nullptr) return own->begin_inside(name, begin);
      if (context == nullptr) return detail::async_begin_inside(text_of(name), nullptr, begin);
    }
    return begin_in(context_of(context, span, is_root));
  };
  const auto begin_at = [&](const api::trace::SpanContext& parent) {
    if (!parent.IsRemote()) {
      const detail::TracePlace place = place_of(parent);
      const LocalSpans::Lookup found(place.span_id);
      const Span* const own = found.span();
      if (own != nullptr && is_in_trace(own->context(), place)) {
        return other == nullptr ? own->begin_inside(name, begin) : begin_in(own->context());
      }
    }
    const api::context::Context current = storage_->GetCurrent();
    return begin_in(context_of(parent, &current));
  };
  detail::SpanState* state = nullptr;
  if (const api::trace::SpanContext* const given = given_parent(options)) {
    state = begin_at(*given);
  } else {
    state = in_parent(options, begin_inside);
  }
  if (state == nullptr) return other != nullptr ? other : unrecorded(options);
  std::shared_ptr<Span> span;
  detail::guarded([&] { span = std::make_shared<Span>(state, offset, other); });
  if (span == nullptr) {
    detail::async_abandon(state);
    return other != nullptr ? other : invalid_span();
  }
  detail::FieldSink* const sink = detail::sink_of(state);
  detail::put_scope(sink, scope_.name, scope_.version, scope_.schema_url);
  put_attributes(sink, attributes);
  put_links(sink, links);
  detail::span_started(state);
  return ApiSpan(std::shared_ptr<api::trace::Span>(std::move(span)));
}

ApiSpan Tracer::StartSpan(api::nostd::string_view name, const api::common::KeyValueIterable& attributes,
                          const api::trace::SpanContextKeyValueIterable& links,
                          const api::trace::StartSpanOptions& options) noexcept {
  api::trace::Tracer* const inner = inner_.load(std::memory_order_acquire);
  if (inner == nullptr && !detail::spans_wanted()) return unrecorded(options);
  return start(name, attributes, links, options, inner);
}

#if OPENTELEMETRY_ABI_VERSION_NO == 1
void Tracer::ForceFlushWithMicroseconds(std::uint64_t timeout) noexcept {
  if (auto* const inner = inner_.load(std::memory_order_acquire)) inner->ForceFlushWithMicroseconds(timeout);
}
void Tracer::CloseWithMicroseconds(std::uint64_t timeout) noexcept {
  if (auto* const inner = inner_.load(std::memory_order_acquire)) inner->CloseWithMicroseconds(timeout);
}
#endif

}  // namespace NOPSPAN_OPENTELEMETRY_ABI
}  // namespace nopspan::opentelemetry
