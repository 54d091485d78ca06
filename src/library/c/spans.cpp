// SPDX-License-Identifier: Apache-2.0
// The C API of spans and events. A handle is the address of a SpanState, and the number that this state has as long as
// the handle is valid. Memory of states stays mapped, so an old handle can be recognized at any time: its state has
// another number, or none. Everything else is what the headers of the C++ API call too.
#include "c/arguments.h"

#include "base/clean_text.h"
#include "base/counters.h"
#include "base/exceptions.h"
#include "span/span.h"
#include "state/catalogue.h"
#include "state/context_access.h"
#include "state/intern.h"
#include "state/span_state.h"
#include "thread/thread_state.h"

#include <nopspan/agent.h>
#include <nopspan/engine.h>
#include <nopspan/event.h>
#include <nopspan/execute.h>
#include <nopspan/fields.h>
#include <nopspan/llm.h>
#include <nopspan/span.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string_view>
#include <type_traits>

namespace nopspan::c {
namespace {

using detail::ContextAccess;
using detail::count;
using detail::counters;
using detail::FieldSink;
using detail::Point;
using detail::SpanState;

static_assert(NOPSPAN_C_SPANS == detail::kFeedingSpanMask && NOPSPAN_C_EVENTS == detail::kPointMask);
static_assert(sizeof(nopspan_member) == sizeof(engine::Member));

constexpr nopspan_handle kNone{nullptr, 0};
constexpr std::string_view kStatsEvent = "engine.stats";

// The numbers of events. Those of spans are their ids, which are random.
constexpr std::uint64_t kOfEvents = 0x4e53504e00000000U;

nopspan_handle handle_of(SpanState* state, std::uint64_t check) noexcept {
  if (state == nullptr) return kNone;
  state->handle.store(check, std::memory_order_relaxed);
  return {reinterpret_cast<nopspan_state*>(state), check};
}

SpanState* invalid() noexcept {
  count(counters.calls_invalid);
  return nullptr;
}

// Null for nopspan_none(), and (counted) after the end. Another thread may be using the state for its next span.
__attribute__((no_sanitize("thread"))) SpanState* state_of(nopspan_handle handle) noexcept {
  auto* const state = reinterpret_cast<SpanState*>(handle.state);
  if (state == nullptr) return nullptr;
  const bool is_valid = handle.check != 0 && state->handle.load(std::memory_order_relaxed) == handle.check;
  return __builtin_expect(is_valid, 1) ? state : invalid();
}

// The same for a span. An event is counted.
SpanState* span_of(nopspan_handle handle) noexcept {
  SpanState* const state = state_of(handle);
  return state == nullptr || state->is_span ? state : invalid();
}

// The same, and no handle is valid afterwards: the caller ends the span or event.
__attribute__((no_sanitize("thread"))) SpanState* take(nopspan_handle handle) noexcept {
  SpanState* const state = state_of(handle);
  std::uint64_t check = handle.check;
  if (state == nullptr || state->handle.compare_exchange_strong(check, 0, std::memory_order_acq_rel)) return state;
  return invalid();
}

// A handle as the parent of a span, or as the span of an event.
ContextRef parent_of(nopspan_handle handle) noexcept { return ContextAccess::of_async(span_of(handle)); }
// The same for a context; null: the thread's current one.
ContextRef parent_in(const nopspan_context* context) noexcept {
  return context != nullptr ? context_of(context) : ContextRef::current();
}

Name name_of(const char* text, std::size_t size, unsigned flags) noexcept {
  const Text name = text_of(text, size);
  if ((flags & NOPSPAN_NAME_LITERAL) != 0 && name.data() != nullptr && name.size() < UINT32_MAX) {
    return detail::NameAccess::constant(name.data(), name.size() + 1);
  }
  return name;
}

// Whether a span of this name is recorded: those of catalogues also for probes that they feed, as with a SpanName.
bool is_wanted(const Name& name) noexcept {
  if (__builtin_expect(detail::spans_wanted(), 1)) return true;
  return detail::spans_wanted<detail::kFeedingSpanMask>() && detail::may_be_in_catalogue(name.view()) &&
         detail::find_catalogue_span(name.view()) != nullptr;
}

nopspan_handle begin_span(const Name& name, ContextRef parent, SpanOptions options, unsigned flags) noexcept {
  SpanState* const span = detail::async_begin(name, parent, options);
  if (span == nullptr) return kNone;
  const nopspan_handle handle = handle_of(span, span->context.span_id);
  if ((flags & NOPSPAN_START_LATER) == 0) detail::span_started(span);
  return handle;
}

// The point of an event, as the headers of the catalogues declare it for this name.
Point point_of(std::string_view name) noexcept {
  if (!detail::may_be_in_catalogue(name)) return Point::event;
  if (name == llm::adapter_retry.view()) return Point::retry;
  if (name == kStatsEvent) return Point::engine_stats;
  const EventNames of_agents = agent::event_names();
  return std::find(of_agents.begin(), of_agents.end(), name) != of_agents.end() ? Point::timed : Point::event;
}

nopspan_handle begin_event(Point point, const Name& name, ContextRef span) noexcept {
  auto* const event = static_cast<SpanState*>(detail::point_begin(point, name, span));
  if (event == nullptr) return kNone;
  event->process_mark = detail::process_mark();
  return handle_of(event, kOfEvents | event->generation);
}

// Whether the span or event began before fork(). An inherited span is counted where it ends.
bool is_inherited(const SpanState& state) noexcept { return detail::mark_of(state) != detail::process_mark(); }

bool is_gauge(const SpanState& state) noexcept {
  return !state.is_span && state.point == Point::event && state.name.view() == kStatsEvent;
}

void end_event(SpanState* event) noexcept {
  if (is_inherited(*event)) {
    count(counters.inherited);
    detail::point_discard(event);
  } else if (is_gauge(*event)) {
    count(counters.calls_invalid);  // it has no value
    detail::point_discard(event);
  } else {
    detail::point_emit(event);
  }
}

void start(SpanState* span) noexcept {
  if (!span->started && !is_inherited(*span)) detail::span_started(span);
}

// Ends a span. `finish(SpanState&)` sets its status. An event is emitted, and counted.
template <class Finish>
void end_span(nopspan_handle handle, const Finish& finish) noexcept {
  SpanState* const state = take(handle);
  if (state == nullptr) return;
  if (!state->is_span) {
    count(counters.calls_invalid);
    end_event(state);
    return;
  }
  start(state);
  finish(*state);
  detail::async_end(state);
}

// Sets a field. It is counted if its type does not have this use.
template <class T>
void set(nopspan_handle handle, const char* key, std::size_t key_size, const T& value, unsigned use) noexcept {
  FieldSink* const sink = state_of(handle);
  if (sink == nullptr) return;
  const Text known = text_of(key, key_size);
  if (use <= NOPSPAN_CONTENT) return detail::put(sink, known, value, use == NOPSPAN_CONTENT);
  if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) {
    if (use == NOPSPAN_MEASUREMENT) return detail::put_measurement(sink, known, value);
  }
  if constexpr (std::is_same_v<T, std::int64_t>) {
    if (use == NOPSPAN_COUNTER) return detail::measure_counter(sink, known, value);
  }
  if constexpr (std::is_same_v<T, Text>) {
    if (use == NOPSPAN_LABEL) return detail::put_label(sink, known, value);
  }
  count(counters.fields_dropped);
}

template <class T>
void set_list(nopspan_handle handle, const char* key, std::size_t key_size, const T* values, std::size_t size,
              unsigned use) noexcept {
  FieldSink* const sink = state_of(handle);
  if (sink == nullptr) return;
  if (use > NOPSPAN_CONTENT) return count(counters.fields_dropped);
  detail::put(sink, text_of(key, key_size), detail::Row<T>{values, count_of(size)}, use == NOPSPAN_CONTENT);
}

nopspan_member member_to_c(const engine::Member& member) noexcept {
  nopspan_member copy;
  std::memcpy(&copy, &member, sizeof(copy));
  return copy;
}

// Null for an empty list.
Value frames_of(const char* const* frames, std::size_t size) {
  Value::List list;
  const std::size_t count = frames != nullptr ? count_of(size) : 0;
  for (std::size_t i = 0; i < count; ++i) list.emplace_back(Text(frames[i]));
  return list.empty() ? Value() : Value(std::move(list));
}

void report(Text engine, Text name, std::int64_t value, std::int64_t maximum, bool is_counter) noexcept {
  const auto fields = [&](GaugeFields& gauge) {
    if (!engine.empty()) gauge.engine(engine);
    if (maximum != 0) gauge.maximum(maximum);
  };
  is_counter ? counter(name, value, fields) : gauge(name, value, fields);
}

}  // namespace
}  // namespace nopspan::c

namespace c = nopspan::c;
namespace detail = nopspan::detail;
using c::text_of;
using nopspan::ContextRef;
using nopspan::Fields;
using nopspan::Text;

extern "C" {

nopspan_handle nopspan_call_span_begin(const char* name, size_t name_size, nopspan_handle parent,
                                       unsigned flags) noexcept {
  const nopspan::Name known = c::name_of(name, name_size, flags);
  return c::is_wanted(known) ? c::begin_span(known, c::parent_of(parent), {}, flags) : c::kNone;
}

nopspan_handle nopspan_call_span_begin_in(const char* name, size_t name_size, const nopspan_context* parent,
                                          unsigned flags) noexcept {
  const nopspan::Name known = c::name_of(name, name_size, flags);
  return c::is_wanted(known) ? c::begin_span(known, c::parent_in(parent), {}, flags) : c::kNone;
}

nopspan_handle nopspan_call_span_begin_with(const char* name, size_t name_size,
                                            const struct nopspan_span_options* options, unsigned flags) noexcept {
  const nopspan::Name known = c::name_of(name, name_size, flags);
  if (!c::is_wanted(known)) return c::kNone;
  const nopspan_span_options given = c::copy_sized(options);
  const auto kind = static_cast<nopspan::SpanKind>(given.kind <= NOPSPAN_KIND_CONSUMER ? given.kind : 0);
  const nopspan::SpanOptions how(kind, given.start_ns);
  flags |= given.flags & NOPSPAN_START_LATER;
  const ContextRef parent = given.context != nullptr ? c::parent_in(given.context) : c::parent_of(given.parent);
  return c::begin_span(known, parent, how, flags);
}

nopspan_handle nopspan_call_event_begin(const char* name, size_t name_size, nopspan_handle span,
                                        unsigned flags) noexcept {
  if (!detail::points_wanted()) return c::kNone;
  const nopspan::Name known = c::name_of(name, name_size, flags);
  return c::begin_event(c::point_of(known.view()), known, c::parent_of(span));
}

nopspan_handle nopspan_call_event_begin_in(const char* name, size_t name_size, const nopspan_context* context,
                                           unsigned flags) noexcept {
  if (!detail::points_wanted()) return c::kNone;
  const nopspan::Name known = c::name_of(name, name_size, flags);
  return c::begin_event(c::point_of(known.view()), known, c::parent_in(context));
}

nopspan_handle nopspan_call_gauge_begin() noexcept {
  if (!detail::points_wanted()) return c::kNone;
  return c::begin_event(c::Point::event, nopspan::engine::stats_event, ContextRef::current());
}

void nopspan_call_start(nopspan_handle span) noexcept {
  if (c::SpanState* const state = c::span_of(span); state != nullptr) c::start(state);
}

void nopspan_call_set_null(nopspan_handle span, const char* key, size_t key_size, unsigned use) noexcept {
  c::set(span, key, key_size, nullptr, use);
}

void nopspan_call_set_bool(nopspan_handle span, const char* key, size_t key_size, bool value, unsigned use) noexcept {
  c::set(span, key, key_size, value, use);
}

void nopspan_call_set_int(nopspan_handle span, const char* key, size_t key_size, int64_t value, unsigned use) noexcept {
  c::set(span, key, key_size, value, use);
}

void nopspan_call_set_uint(nopspan_handle span, const char* key, size_t key_size, uint64_t value,
                           unsigned use) noexcept {
  c::set(span, key, key_size, value, use);
}

void nopspan_call_set_double(nopspan_handle span, const char* key, size_t key_size, double value,
                             unsigned use) noexcept {
  c::set(span, key, key_size, value, use);
}

void nopspan_call_set_text(nopspan_handle span, const char* key, size_t key_size, const char* text, size_t text_size,
                           unsigned use) noexcept {
  c::set(span, key, key_size, text_of(text, text_size), use);
}

void nopspan_call_set_ints(nopspan_handle span, const char* key, size_t key_size, const int64_t* values, size_t count,
                           unsigned use) noexcept {
  c::set_list(span, key, key_size, values, count, use);
}

void nopspan_call_set_doubles(nopspan_handle span, const char* key, size_t key_size, const double* values, size_t count,
                              unsigned use) noexcept {
  c::set_list(span, key, key_size, values, count, use);
}

void nopspan_call_set_texts(nopspan_handle span, const char* key, size_t key_size, const char* const* texts,
                            size_t count, unsigned use) noexcept {
  c::set_list(span, key, key_size, texts, count, use);
}

void nopspan_call_usage(nopspan_handle span, int64_t input, int64_t output, int64_t cached,
                        int64_t reasoning) noexcept {
  c::SpanState* const state = c::state_of(span);
  if (state == nullptr) return;
  Fields fields(state);
  if (input >= 0) fields.input_tokens(input);
  if (output >= 0) fields.output_tokens(output);
  if (cached >= 0) fields.cached_tokens(cached);
  if (reasoning >= 0) fields.reasoning_tokens(reasoning);
}

void nopspan_call_first_token(nopspan_handle span, uint64_t tokens_so_far) noexcept {
  if (c::SpanState* const state = c::span_of(span); state != nullptr) detail::span_first_token(state, tokens_so_far);
}

void nopspan_call_link(nopspan_handle span, const nopspan_context* context) noexcept {
  if (c::SpanState* const state = c::span_of(span); state != nullptr) {
    detail::put_link(state, c::context_of(context));
  }
}

void nopspan_call_step(nopspan_handle step, const struct nopspan_step_facts* facts,
                       const struct nopspan_member* members, size_t count) noexcept {
  c::SpanState* const state = c::span_of(step);
  if (state == nullptr) return;
  nopspan::engine::StepFields fields(state);
  if (facts != nullptr) {
    const nopspan_step_facts given = c::copy_sized(facts);
    if (given.instance != 0) fields.instance(given.instance);
    if (given.number != 0) fields.number(given.number);
    if (given.batch_size != 0) fields.batch_size(given.batch_size);
    if (given.prefill_tokens != 0) fields.prefill_tokens(given.prefill_tokens);
    if (given.decode_tokens != 0) fields.decode_tokens(given.decode_tokens);
    if (given.drafted_tokens != 0) fields.drafted_tokens(given.drafted_tokens);
    if (given.accepted_tokens != 0) fields.accepted_tokens(given.accepted_tokens);
    if (given.budget_tokens != 0) fields.budget_tokens(given.budget_tokens);
    if (given.host_ns != 0) fields.host_ns(given.host_ns);
    if (given.device_ns != 0) fields.device_ns(given.device_ns);
    if (given.kv_used != 0) fields.kv_used(given.kv_used);
    if (given.kind != 0) fields.kind(static_cast<nopspan::engine::StepKind>(given.kind & 3U));
  }
  if (members == nullptr) return;
  fields.members(reinterpret_cast<const nopspan::engine::Member*>(members), c::count_of(count));
}

void nopspan_call_end_at(nopspan_handle span, uint64_t end_ns) noexcept {
  if (c::SpanState* const state = c::span_of(span); state != nullptr) detail::span_end_at(state, end_ns);
}

void nopspan_call_end(nopspan_handle span) noexcept {
  c::SpanState* const state = c::take(span);
  if (state == nullptr) return;
  if (!state->is_span) return c::end_event(state);
  c::start(state);
  detail::async_end(state);
}

void nopspan_call_fail(nopspan_handle span, const char* type, size_t type_size, const char* message,
                       size_t message_size) noexcept {
  c::end_span(
      span, [&](auto& state) { detail::span_fail(&state, text_of(type, type_size), text_of(message, message_size)); });
}

void nopspan_call_cancel(nopspan_handle span, const char* reason, size_t reason_size) noexcept {
  c::end_span(span, [&](auto& state) { detail::span_cancel(&state, text_of(reason, reason_size)); });
}

void nopspan_call_exception(nopspan_handle span, const char* type, size_t type_size, const char* message,
                            size_t message_size, const char* const* frames, size_t count) noexcept {
  c::end_span(span, [&](auto& state) {
    try {
      Text kind = text_of(type, type_size);
      Text text = text_of(message, message_size);
      if (kind.empty()) {
        kind = "unknown";
      } else if (!detail::is_type_name(kind.view())) {  // it may be a message, which is content
        detail::count(detail::counters.names_invalid);
        if (text.empty()) text = kind;
        kind = "_OTHER";
      }
      detail::Caught caught;
      caught.kind = "error";
      caught.type.assign(kind.data(), kind.size());
      if (!text.empty()) caught.message.assign(text.data(), text.size());
      detail::span_exception_of(state, caught, state.keeps_content ? c::frames_of(frames, count) : nopspan::Value());
    } catch (const std::bad_alloc&) {
      detail::span_fail(&state, text_of(type, type_size), {});
    }
  });
}

void nopspan_call_complete(nopspan_handle span, int64_t duration_ns) noexcept {
  c::SpanState* const state = c::span_of(span);
  if (state == nullptr || c::take(span) == nullptr) return;
  if (!state->started && !c::is_inherited(*state)) {
    detail::span_complete(state, duration_ns);
    return;
  }
  detail::span_end_at(state, state->start_ns + (duration_ns > 0 ? static_cast<uint64_t>(duration_ns) : 0));
  detail::async_end(state);
}

void nopspan_call_gauge_end(nopspan_handle gauge, const char* name, size_t name_size, int64_t value,
                            bool is_counter) noexcept {
  c::SpanState* const state = c::state_of(gauge);
  if (state == nullptr) return;
  if (!c::is_gauge(*state)) {
    c::invalid();
  } else if (c::take(gauge) != nullptr) {
    if (c::is_inherited(*state)) return c::end_event(state);
    detail::gauge_emit(state, text_of(name, name_size), value, is_counter);
  }
}

void nopspan_call_gauge(const char* engine, size_t engine_size, const char* name, size_t name_size, int64_t value,
                        int64_t maximum) noexcept {
  c::report(text_of(engine, engine_size), text_of(name, name_size), value, maximum, false);
}

void nopspan_call_counter(const char* engine, size_t engine_size, const char* name, size_t name_size,
                          int64_t total) noexcept {
  c::report(text_of(engine, engine_size), text_of(name, name_size), total, 0, true);
}

void nopspan_call_retry(nopspan_handle span, int64_t attempt, int64_t delay_ms, const char* reason,
                        size_t reason_size) noexcept {
  nopspan::llm::retry(c::parent_of(span), [&](nopspan::llm::RetryFields& fields) {
    fields.attempt(attempt).delay_ms(delay_ms);
    if (const Text why = text_of(reason, reason_size); !why.is_null()) fields.reason(why);
  });
}

struct nopspan_member nopspan_member_of(nopspan_handle request, uint64_t own_key) noexcept {
  return c::member_to_c(nopspan::engine::Member::of(c::parent_of(request), own_key));
}

struct nopspan_member nopspan_member_in(const nopspan_context* request, uint64_t own_key) noexcept {
  return c::member_to_c(nopspan::engine::Member::of(c::context_of(request), own_key));
}

nopspan_context nopspan_span_context(nopspan_handle span) noexcept {
  return c::to_c(detail::async_context(c::span_of(span)));
}

nopspan_context nopspan_span_context_or(nopspan_handle span, const nopspan_context* other) noexcept {
  c::SpanState* const state = c::span_of(span);
  return c::to_c(state != nullptr ? detail::async_context(state) : c::context_of(other));
}

}  // extern "C"
