// SPDX-License-Identifier: Apache-2.0
// Point events, retries and gauges. An event uses a SpanState, which holds its fields and describes the span that it is
// in.
#include "base/clean_text.h"
#include "base/counters.h"
#include "emit/batch.h"
#include "emit/probe.h"
#include "fields/attribute_keys.h"
#include "gate/gate.h"
#include "handlers/registry.h"
#include "span/span.h"
#include "state/context_stack.h"
#include "state/span_pool.h"
#include "thread/thread_state.h"

#include <nopspan/detail/bridge.h>
#include <nopspan/execute.h>
#include <nopspan/genai_spans.h>
#include <nopspan/llm.h>

namespace nopspan::detail {
namespace {

// The two names of a retry: that of ALLM and that of autotel. An event with one of these names is a retry, whichever
// function emits it. Handlers receive both, and tracers that of autotel, as its attributes are.
constexpr Name kAdapterRetry = llm::adapter_retry;
constexpr Name kRetry{"gen_ai.retry"};
constexpr std::string_view kFirstToken = "gen_ai.stream.first_token";

bool is_retry(const SpanState& event) noexcept { return (event.keys & AttributeKey::retry) != 0; }

// Places the event in the span of `context`. If that span is a scope of this thread, the event gets its start.
void place(SpanState& event, const ContextHead& context, const char* foreign_id) noexcept {
  copy_context(event.context, event.foreign_id, context, foreign_id);
  if (is_empty(context)) return;
  event.begins_request = false;
  event.flags |= context_flags(context);
  if (const Frame* frame = find_scope(context.span_id); frame != nullptr) event.start_ns = frame->span->start_ns;
}

// Keeps what an event needs of the span that it was given, because that may end before the event is emitted.
void keep_given(SpanState& event, SpanState& span) noexcept {
  if (event.start_ns != 0) return;  // it is a scope of this thread
  event.start_ns = span.start_ns;
  event.given_span = &span;
  std::memcpy(event.given_name_text, span.name.text, span.name.size + 1);
  event.given_name = {event.given_name_text, span.name.size, span.name.hash};
}

// Dispatches the event, if it has handlers. `add` adds the fields that only handlers see.
template <class Add>
void dispatch_point(SpanState& state, const Add& add) {
  Dispatch dispatch{EventName(state.name.view())};
  if (!dispatch) return;
  {
    const InsideLibrary inside;
    add(state.fields);
  }
  EventAccess::run(dispatch, state, false);
}

// A gauge or a counter, as tracers receive it.
struct Reading {
  const char* engine;  // clean
  const char* name;    // clean
  std::int64_t value;
  std::int64_t maximum;
  bool is_counter;
  GaugeLabel label;
};

void report_reading(ThreadState* thread, SpanState& event, const Reading& reading) noexcept {
  if (reading.is_counter && reading.value < 0) {
    count(counters.values_clamped);
    return;
  }
  const std::uint32_t flags = event.flags;
  if (reading.is_counter) event.flags |= NOPSPAN_FLAG_COUNTER;
  if (point_probes_up()) {
    char bytes[256];
    char name[kMaxNameBytes + 1];
    clean({bytes, write_labelled_name(event, reading.name, reading.label, bytes, sizeof(bytes))}, name);
    fire_gauge(thread, event, reading.engine, name, reading.value, reading.maximum, reading.label);
  }
  if (batch_up()) {
    const PointEntry gauge{NOPSPAN_ENTRY_GAUGE,
                           thread->clock.now(),
                           static_cast<std::uint64_t>(reading.value),
                           static_cast<std::uint64_t>(reading.maximum),
                           reading.name,
                           reading.engine,
                           reading.label};
    batch_point(thread, event, gauge);
  }
  event.flags = flags;
}

// Splits "waiting{reason=capacity}" into the name and its label. Content does not become a label.
GaugeLabel split_label(std::string_view& name) noexcept {
  const std::size_t open = name.find('{');
  if (open == std::string_view::npos || name.back() != '}') return {};
  const std::string_view label = name.substr(open + 1, name.size() - open - 2);
  const std::size_t equals = label.find('=');
  if (equals == std::string_view::npos || equals == 0) return {};
  name = name.substr(0, open);
  if (is_content_name(label.substr(0, equals))) {
    count(counters.labels_overflow);
    return {};
  }
  return {label.substr(0, equals), label.substr(equals + 1)};
}

// The number of blocks that the KV cache has. `label` is the part of the key behind the name. 0 if it is unknown.
std::int64_t find_total(const FieldBuffer& fields, std::string_view label) noexcept {
  constexpr std::string_view kTotal = "kv_cache_total";
  char key[FieldBuffer::kMaxKeyBytes];
  const std::size_t size = kTotal.copy(key, sizeof(key));
  const std::string_view whole(key, size + label.copy(key + size, sizeof(key) - size));
  const FieldEntry* const total = fields.find(whole, true);
  return total != nullptr && total->type == Value::Type::integer && total->as_int() > 0 ? total->as_int() : 0;
}

// Each integer among the measurements is a gauge or a counter.
void report_engine_stats(ThreadState* thread, SpanState& event) noexcept {
  constexpr std::string_view kUsed = "kv_cache_used";
  const Interned engine = label(event.context.labels[ContextAccess::engine]);
  for (const unsigned char* at = event.fields.begin(); at < event.fields.end(); at = FieldEntry::at(at)->end()) {
    const FieldEntry& entry = *FieldEntry::at(at);
    if ((entry.flags & FieldEntry::kMeasurement) == 0 || entry.type != Value::Type::integer) continue;
    if (entry.as_int() < 0) {
      count(counters.values_clamped);
      continue;
    }
    std::string_view name = entry.key();
    const GaugeLabel label_in_name = split_label(name);
    const std::int64_t maximum = name == kUsed ? find_total(event.fields, entry.key().substr(kUsed.size())) : 0;
    char text[kMaxNameBytes + 1];
    clean(name, text);
    report_reading(
        thread, event,
        {engine.text, text, entry.as_int(), maximum, (entry.flags & FieldEntry::kCounter) != 0, label_in_name});
  }
}

SpanState* begin_point(Name name, const Context* target) noexcept {
  const LibraryGuard guard;
  if (!guard) return nullptr;
  SpanState* event = take_state(guard.thread());
  if (event == nullptr) return nullptr;
  event->begin();
  event->begin_numbers();
  event->given_span = nullptr;
  event->is_span = false;
  event->begins_request = true;
  event->name = copy_name(name, event->name_text);
  event->keys = attribute_keys_of(event->name.view());
  if (event->name.view() == kAdapterRetry.view() || event->name.view() == kRetry.view())
    event->keys |= AttributeKey::retry;
  event->keeps_content = point_handlers_up() || captures_content(false);
  const Frame* top = guarded_top();
  if (target == nullptr && top != nullptr) {
    place(*event, *top->context, top->foreign_id);
  } else {
    const Context& context = target != nullptr ? *target : no_context;
    place(*event, ContextAccess::head(context), ContextAccess::foreign(context));
  }
  return event;
}

// Adds the fields that only handlers see.
void add_for_handlers(SpanState& event) noexcept {
  FieldBuffer& fields = event.fields;
  if (event.point != Point::retry && event.point != Point::timed) return;
  fields.reserve(added_bytes(event));
  if (event.point == Point::timed) add_trace_id(event);
  if (event.point == Point::retry && fields.find("request_id", false) == nullptr) {
    const char* id = visible_id(event);
    if (*id == '\0') {
      fields.add_null("request_id");
    } else {
      fields.add_string("request_id", id);
    }
  }
  count_unless(
      fields.put_word("system_time", Value::Type::integer, system_ns(), FieldEntry::kMeasurement | FieldEntry::kAdded));
}

// Dispatches the same retry under its other name, with the keys that belong to that name, to handlers.
void dispatch_other_retry(const SpanState& retry) noexcept {
  const bool is_adapters = retry.name.view() == kAdapterRetry.view();
  const Context context = make_context(retry.context, retry.foreign_id);
  SpanState* event = begin_point(is_adapters ? kRetry : kAdapterRetry, &context);
  if (event == nullptr) return;
  if (!is_adapters) event->point = Point::retry;
  dispatch_point(*event, [&](FieldBuffer& fields) {
    constexpr std::string_view kKeys[][2] = {{"retry.attempt", "attempt"},
                                             {"retry.reason", "reason"},
                                             {"retry.delay_ms", "delay_ms"},
                                             {"http.response.status_code", "status_code"}};
    for (const auto& keys : kKeys) {
      const FieldEntry* entry = retry.fields.find(keys[is_adapters ? 1 : 0], false);
      if (entry == nullptr || (entry->type == Value::Type::string && entry->as_string().empty())) continue;
      count_unless(fields.put_entry(keys[is_adapters ? 0 : 1], *entry, entry->flags & FieldEntry::kContent));
    }
    add_for_handlers(*event);
  });
  release(event);
}

// The span that the event is in, if that is a scope of this thread, or was given and has not ended. Otherwise null.
SpanState* span_of(const SpanState& event) noexcept {
  const Frame* const frame = find_scope(event.context.span_id);
  SpanState* const span = frame != nullptr ? frame->span : event.given_span;
  if (span == nullptr || mark_of(*span) != process_mark()) return nullptr;  // or inherited through fork()
  const bool is_open = span->state.load(std::memory_order_acquire) == OpenSpan::kOpen;
  return is_open && span->context.span_id == event.context.span_id ? span : nullptr;
}

// Marks the first token of the span that the event is in, unless the span has had one. False if that span is unknown.
bool note_first_token(ThreadState* thread, SpanState& event) noexcept {
  SpanState* const span = span_of(event);
  if (span == nullptr) return false;
  const FieldEntry* tokens = event.fields.find("gen_ai.stream.tokens_so_far", false);
  const std::int64_t count = tokens != nullptr && tokens->type == Value::Type::integer ? tokens->as_int() : 1;
  const std::uint64_t now = event.end_ns != 0 ? event.end_ns : thread->clock.now();
  mark_first_token(thread, *span, now, static_cast<std::uint64_t>(count < 0 ? 0 : count));
  count_unless(event.fields.put_derived("time_to_first_token", Value::Type::integer, span->first_token_ns,
                                        FieldEntry::kMeasurement));
  return true;
}

// Reports an event to tracers.
void report_point(ThreadState* thread, SpanState& event) noexcept {
  if (event.point == Point::handlers_only) return;
  if (event.point == Point::first_token && note_first_token(thread, event)) return;
  if (!point_probes_up() && !batch_up()) return;
  if (event.point == Point::engine_stats) {
    report_engine_stats(thread, event);
    return;
  }
  const std::uint64_t now = event.end_ns != 0 ? event.end_ns : thread->clock.now();
  if (point_probes_up()) {
    if (is_retry(event)) {
      fire_retry(thread, event, now);
    } else {
      fire_event(thread, event, now);
    }
  }
  if (!batch_up()) return;
  PointEntry entry{NOPSPAN_ENTRY_EVENT, now, 0, 0, nullptr, nullptr};
  if (is_retry(event)) entry = {NOPSPAN_ENTRY_RETRY, now, event.retry_delay_ns, event.retry_attempt, nullptr, nullptr};
  batch_point(thread, event, entry);
}

}  // namespace

FieldSink* point_begin(Point point, Name name, ContextRef span) noexcept {
  SpanState* event =
      ContextAccess::is_current(span)
          ? begin_point(name, nullptr)
          : ContextAccess::use(span, [&](const Context& context) { return begin_point(name, &context); });
  if (event == nullptr) return nullptr;
  // An event of this name is the first token, whichever function emits it.
  event->point = point == Point::event && event->name.view() == kFirstToken ? Point::first_token : point;
  if (SpanState* const given = ContextAccess::span(span); given != nullptr) keep_given(*event, *given);
  return event;
}

FieldSink* point_begin_in(Name name, SpanState* span) noexcept {
  return point_begin(Point::event, name, ContextAccess::of_async(span));
}

void point_note(FieldSink* sink) noexcept {
  auto* event = static_cast<SpanState*>(sink);
  if (event->point != Point::first_token) return;
  const LibraryGuard guard;
  if (guard && note_first_token(guard.thread(), *event)) event->point = Point::handlers_only;
}

void point_at(FieldSink* sink, std::uint64_t time_ns) noexcept { static_cast<SpanState*>(sink)->end_ns = time_ns; }

void point_discard(FieldSink* sink) noexcept { release(static_cast<SpanState*>(sink)); }

void point_emit(FieldSink* sink) noexcept {
  auto* event = static_cast<SpanState*>(sink);
  apply_given_ids(*event);
  {
    const LibraryGuard guard;
    if (guard) {
      // For tracers a retry has one name, whichever function emits it.
      const bool is_adapters = event->name.view() == kAdapterRetry.view();
      if (is_adapters) event->name = copy_name(kRetry, event->name_text);
      report_point(guard.thread(), *event);
      if (is_adapters) event->name = copy_name(kAdapterRetry, event->name_text);
      discard_batch_if_down(guard.thread());
    }
  }
  if (point_handlers_up()) {
    dispatch_point(*event, [&](FieldBuffer&) { add_for_handlers(*event); });
    if (is_retry(*event)) dispatch_other_retry(*event);
  }
  release(event);
}

void gauge_emit(FieldSink* sink, Text name, std::int64_t value, bool is_counter) noexcept {
  auto* event = static_cast<SpanState*>(sink);
  apply_given_ids(*event);
  const FieldEntry* const given = event->fields.find("maximum", false);
  std::int64_t maximum = given != nullptr && given->type == Value::Type::integer ? given->as_int() : 0;
  if (maximum < 0) {
    count(counters.values_clamped);
    maximum = 0;
  }
  std::string_view bare = name.view();
  const GaugeLabel label_in_name = split_label(bare);
  char name_text[kMaxNameBytes + 1];
  clean(bare, name_text);
  {
    const LibraryGuard guard;
    if (guard) {
      const char* const engine = label(event->context.labels[ContextAccess::engine]).text;
      report_reading(guard.thread(), *event, {engine, name_text, value, maximum, is_counter, label_in_name});
      discard_batch_if_down(guard.thread());
    }
  }
  if (point_handlers_up()) {
    dispatch_point(*event, [&](FieldBuffer& fields) {
      count_unless(fields.put_string("gauge", name_text, 0));
      if (!label_in_name.key.empty()) count_unless(fields.put_string(label_in_name.key, label_in_name.value, 0));
      if (is_counter) count_unless(fields.put_word("counter", Value::Type::boolean, 1, 0));
      if (maximum != 0)
        count_unless(fields.put_word("maximum", Value::Type::integer, static_cast<std::uint64_t>(maximum), 0));
      count_unless(fields.put_word(name_text, Value::Type::integer, static_cast<std::uint64_t>(value),
                                   FieldEntry::kMeasurement));
    });
  }
  release(event);
}

void emit_first_token(const SpanState& span, std::uint64_t tokens_so_far) noexcept {
  if (!point_handlers_up()) return;
  const Context context = make_context(span.context, span.foreign_id);
  SpanState* event = begin_point(kFirstToken, &context);
  if (event == nullptr) return;
  event->flags = span.flags;
  dispatch_point(*event, [&](FieldBuffer& fields) {
    count_unless(
        fields.put_word("time_to_first_token", Value::Type::integer, span.first_token_ns, FieldEntry::kMeasurement));
    count_unless(fields.put_word("gen_ai.stream.tokens_so_far", Value::Type::integer, tokens_so_far, 0));
  });
  release(event);
}

}  // namespace nopspan::detail

namespace nopspan::genai::detail {

void put_finish_reasons(nopspan::detail::FieldSink* sink, const Text* reasons, std::size_t count) noexcept {
  using nopspan::detail::FieldEntry;
  const nopspan::detail::InsideLibrary inside;
  if (count == 0) return;
  constexpr std::string_view kKey = "gen_ai.response.finish_reasons";
  nopspan::detail::count_unless(sink->fields.put_texts(kKey, reasons, count, FieldEntry::kProbesOnly) &&
                                sink->fields.put_joined(kKey, reasons, count, FieldEntry::kAdded));
}

}  // namespace nopspan::genai::detail
