// SPDX-License-Identifier: Apache-2.0
// Events that are not a span's. An event borrows a SpanState: the place that its record speaks of.
#include <nopspan/events.h>

#include "clean_text.h"
#include "counters.h"
#include "event_access.h"
#include "probe.h"
#include "registry.h"
#include "span_state.h"
#include "thread_state.h"

#include <cstring>

namespace nopspan::detail {
namespace {

bool point_handlers_up() noexcept { return (gate() & kGatePointHandlers) != 0; }

// The event is where `context` is: in its span, under the same parent where that is a scope of this thread.
void place(SpanState& event, const Context& context) noexcept {
  event.frame.context = context;
  if (context.empty()) return;
  event.flags |= context_flags(context);
  encode_request_id(ContextAccess::trace_id(context), event.request_id);
  if (const Frame* frame = find_scope(context.span_id()); frame != nullptr) {
    const SpanState* enclosing = frame->span;
    event.parent_id = enclosing->parent_id;
    event.start_ns = enclosing->start_ns;
    event.flags |= enclosing->flags & (NOPSPAN_FLAG_ORPHAN | NOPSPAN_FLAG_REMOTE_PARENT);
    event.enclosing = enclosing->name;
  }
}

// The event to its handlers, if it has any; `add` adds what only they see.
template <class Add>
void dispatch_point(std::string_view name, SpanState& place, FieldBuffer& fields, const Add& add) {
  Dispatch dispatch{EventName(name)};
  if (!dispatch) return;
  {
    const Busy busy;
    add(fields);
  }
  Event event;
  EventAccess::set_name(event, name);
  EventAccess::set_request_id(event, visible_id(place));
  EventAccess::set_context(event, place.frame.context);
  EventAccess::set_parent_id(event, place.parent_id);
  EventAccess::set_flags(event, place.flags);
  EventAccess::set_fields(event, fields);
  dispatch.run(event);
}

// A gauge that was set, and can be.
bool find_gauge(const FieldBuffer& fields, std::string_view key, std::int64_t& value) noexcept {
  const FieldEntry* entry = fields.find(key, true);
  if (entry == nullptr || entry->type != Value::Type::integer) return false;
  value = entry->as_int();
  if (value < 0) count(counters.values_clamped);
  return value >= 0;
}

void fire_engine_stats(ThreadState* thread, SpanState& event) noexcept {
  const Interned engine = label(ContextAccess::label(event.frame.context, ContextAccess::engine));
  std::int64_t total = 0;
  const bool has_total = find_gauge(event.fields, "kv_cache_total", total);
  for (const char* name : {"running", "waiting", "kv_cache_used"}) {
    std::int64_t value = 0;
    if (!find_gauge(event.fields, name, value)) continue;
    fire_gauge(thread, event, engine.text, name, value, std::string_view(name) == "kv_cache_used" ? total : 0);
  }
  if (has_total) fire_gauge(thread, event, engine.text, "kv_cache_total", total, 0);
}

void fire_point(ThreadState* thread, SpanState& event) noexcept {
  switch (event.point) {
    case Point::handlers_only:
      break;
    case Point::engine_stats:
      fire_engine_stats(thread, event);
      break;
    case Point::retry:
      fire_retry(thread, event, monotonic_ns());
      break;
    default:
      fire_event(thread, event, monotonic_ns());
  }
}

SpanState* begin_point(Name name, const Context* target) noexcept {
  const Entry entry;
  if (!entry) return nullptr;
  SpanState* event = allocate(entry.thread());
  if (event == nullptr) return nullptr;
  event->is_span = false;
  event->name = clean_name(name);
  event->enclosing = event->name;
  event->keeps_content = point_handlers_up() || capturing_content.load(std::memory_order_relaxed);
  const Frame* top = top_frame();
  if (target != nullptr) {
    place(*event, *target);
  } else if (top != nullptr) {
    place(*event, top->context);
  }
  return event;
}

}  // namespace

FieldSink* point_begin(Point point, Name name, const Context* target) noexcept {
  SpanState* event = begin_point(name, target);
  if (event != nullptr) event->point = point;
  return event;
}

void point_discard(FieldSink* sink) noexcept { release(static_cast<SpanState*>(sink)); }

void point_emit(FieldSink* sink) noexcept {
  auto* event = static_cast<SpanState*>(sink);
  {
    const Entry entry;
    if (entry && point_probes_up()) fire_point(entry.thread(), *event);
  }
  if (point_handlers_up()) {
    dispatch_point({event->name.text, event->name.size}, *event, event->fields, [&](FieldBuffer& fields) {
      if (event->point != Point::retry && event->point != Point::timed) return;
      if (event->point == Point::retry && fields.find("request_id", false) == nullptr) {
        const char* id = visible_id(*event);
        if (*id == '\0') {
          fields.add_null("request_id");
        } else {
          fields.add_string("request_id", id);
        }
      }
      fields.put_word("system_time", Value::Type::integer, system_ns(), FieldEntry::kMeasurement | FieldEntry::kAdded);
    });
  }
  release(event);
}

void emit_gauge(Text engine, Text name, std::int64_t value, std::int64_t maximum) noexcept {
  SpanState* event = begin_point("engine.stats", nullptr);
  if (event == nullptr) return;
  char engine_text[kMaxNameBytes + 1];
  char name_text[kMaxNameBytes + 1];
  clean(engine.view(), engine_text);
  clean(name.view(), name_text);
  {
    const Entry entry;
    if (entry && point_probes_up()) fire_gauge(entry.thread(), *event, engine_text, name_text, value, maximum);
  }
  if (point_handlers_up()) {
    dispatch_point("engine.stats", *event, event->fields, [&](FieldBuffer& fields) {
      fields.put_string("engine", engine_text, 0);
      fields.put_string("gauge", name_text, 0);
      if (maximum != 0) fields.put_word("maximum", Value::Type::integer, static_cast<std::uint64_t>(maximum), 0);
      fields.put_word(name_text, Value::Type::integer, static_cast<std::uint64_t>(value), FieldEntry::kMeasurement);
    });
  }
  release(event);
}

void emit_first_token(SpanState& span, std::uint64_t tokens_so_far) noexcept {
  if (!point_handlers_up()) return;
  FieldBuffer own;
  dispatch_point("gen_ai.stream.first_token", span, own, [&](FieldBuffer& fields) {
    fields.put_word("time_to_first_token", Value::Type::integer, span.first_token_ns, FieldEntry::kMeasurement);
    fields.put_word("gen_ai.stream.tokens_so_far", Value::Type::integer, tokens_so_far, 0);
  });
}

}  // namespace nopspan::detail
