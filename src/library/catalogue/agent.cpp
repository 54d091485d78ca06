// SPDX-License-Identifier: Apache-2.0
// The functions of nopspan::agent that emit events whose name or fields are known only at run time.
#include <nopspan/agent.h>

#include "base/clean_text.h"
#include "base/counters.h"
#include "span/span.h"
#include "state/field_sink.h"
#include "thread/thread_state.h"

#include <nopspan/event.h>

#include <cstdint>
#include <string_view>

namespace nopspan::agent {
namespace {

using nopspan::detail::FieldEntry;
using nopspan::detail::FieldSink;
using nopspan::detail::gate;
using nopspan::detail::Point;

const EventDescription* find_event(std::string_view name) noexcept {
  for (const EventDescription& event : catalogue()) {
    if (event.name.view() == name) return &event;
  }
  return nullptr;
}

const FieldDescription* find_metadata(const EventDescription& event, std::string_view key) noexcept {
  for (const FieldDescription& field : event.metadata) {
    if (field.key == key) return &field;
  }
  return nullptr;
}

// True if the event marks the key as content. If the event does not have the key, true if any other event does so.
bool is_content(const EventDescription* event, std::string_view key) noexcept {
  const FieldDescription* own = event != nullptr ? find_metadata(*event, key) : nullptr;
  if (own != nullptr) return own->content;
  for (const EventDescription& other : catalogue()) {
    const FieldDescription* field = find_metadata(other, key);
    if (field != nullptr && field->content) return true;
  }
  return false;
}

void put_metadata(Fields& fields, const EventDescription* event, const Value& map) noexcept {
  for (const auto& [key, value] : map.as_map()) {
    if (is_content(event, key)) {
      fields.content(key, value);
    } else {
      fields.set(key, value);
    }
  }
}

bool is_number(const Value& value) noexcept {
  return value.type() == Value::Type::integer || value.type() == Value::Type::real;
}

// Times do not become attributes, because the probes have their own times.
bool is_time(std::string_view key) noexcept {
  return key == "duration" || key == "monotonic_time" || key == "system_time";
}

void put_time(FieldSink& sink, std::string_view key, const Value& time) noexcept {
  const nopspan::detail::InsideLibrary inside;
  const std::uint64_t word = time.type() == Value::Type::real ? nopspan::detail::real_word(time.as_double())
                                                              : static_cast<std::uint64_t>(time.as_int());
  nopspan::detail::count_unless(
      sink.fields.put_word(key, time.type(), word, FieldEntry::kMeasurement | FieldEntry::kAdded));
}

void put_measurements(FieldSink& sink, const Value& map) noexcept {
  Fields fields(&sink);
  for (const auto& [key, value] : map.as_map()) {
    if (is_time(key)) {
      put_time(sink, key, value);
    } else if (value.type() == Value::Type::integer) {
      fields.measure(key, value.as_int());
    } else {
      fields.measure(key, value.as_double());
    }
  }
}

// A finished span.
struct Whole {
  std::uint64_t start_ns;
  std::uint64_t duration_ns;
  std::string_view kind;  // the kind of its exception; empty if unknown
  const Value* reason;    // the reason of its exception; null if unknown
};

bool ends_with(std::string_view name, std::string_view end) noexcept {
  return name.size() >= end.size() && name.substr(name.size() - end.size()) == end;
}

// The span that this event ends. Null if the event does not end a span.
const Name* span_ended_by(std::string_view event) noexcept {
  if (!ends_with(event, ".stop") && !ends_with(event, ".exception")) return nullptr;
  static constexpr Name kSpans[] = {llm, tool, compaction};
  for (const Name& span : kSpans) {
    if (event.substr(0, event.rfind('.')) == span.view()) return &span;
  }
  return nullptr;
}

std::string_view error_type_of(const Value* reason) noexcept {
  const Value* type = reason != nullptr ? reason->find("type") : nullptr;
  const std::string_view known = type != nullptr ? type->as_string() : std::string_view();
  return nopspan::detail::is_type_name(known) ? known : "_OTHER";
}

// Emits the event that ends the span `name`. `set(FieldSink&)` sets its fields.
template <class Set>
void emit_end(const Name& name, const EventDescription& event, const Whole& whole, const Set& set) noexcept {
  nopspan::detail::SpanState* span =
      nopspan::detail::async_begin(name, ContextRef::current(), {SpanKind::unspecified, whole.start_ns});
  if (span == nullptr) return;
  set(*span);
  nopspan::detail::Outcome over{whole.duration_ns, nullptr, {}};
  if (ends_with(event.name.view(), ".exception")) {
    over.exception_kind = whole.kind == "throw" ? "throw" : whole.kind == "exit" ? "exit" : "error";
    over.error_type = error_type_of(whole.reason);
  }
  nopspan::detail::span_complete_stop_only(span, over);
}

// Emits an event that does not end a span. `set(FieldSink&)` sets its fields.
template <class Set>
void emit_point(Point point, const EventDescription& event, const Set& set) noexcept {
  FieldSink* sink = nopspan::detail::point_begin(point, event.name, ContextRef::current());
  if (sink == nullptr) return;
  set(*sink);
  nopspan::detail::point_emit(sink);
}

// A duration in ns. 0 if the value is negative or not a number.
std::uint64_t duration_of(const Value& value) noexcept {
  const bool is_integer = value.type() == Value::Type::integer;
  const std::int64_t duration = is_integer ? value.as_int() : nopspan::detail::ns_of(value.as_double());
  return duration > 0 ? static_cast<std::uint64_t>(duration) : 0;
}

bool has_receivers() noexcept { return (gate() & (nopspan::detail::kSpanMask | nopspan::detail::kPointMask)) != 0; }

// Emits the end of a tool call that began at `start_ns`. `add(Fields&)` sets fields that override `metadata`.
template <class Add>
Errc emit_tool_end(Text name, const Value& metadata, std::uint64_t start_ns, Text kind, const Value* reason,
                   const Add& add) noexcept {
  if (metadata.type() != Value::Type::map) return Errc::invalid_argument;
  if (!has_receivers()) return Errc::ok;
  const EventDescription& event = *find_event(name.view());
  const std::uint64_t now = nopspan::detail::thread_ns();
  const bool began = start_ns != 0 && start_ns <= now;
  const Whole whole{began ? start_ns : now, began ? now - start_ns : 0, kind.view(), reason};
  emit_end(tool, event, whole, [&](FieldSink& sink) {
    put_time(sink, "duration", whole.duration_ns);
    Fields fields(&sink);
    put_metadata(fields, &event, metadata);
    add(fields);
  });
  return Errc::ok;
}

}  // namespace

namespace detail {

void put_map(Fields& fields, Text event, const Value& map) noexcept {
  if (map.type() != Value::Type::map) nopspan::detail::count(nopspan::detail::counters.fields_dropped);
  put_metadata(fields, find_event(event.view()), map);
}

}  // namespace detail

Errc emit(Text name, const Value& measurements, const Value& metadata) noexcept {
  const EventDescription* event = find_event(name.view());
  if (event == nullptr || measurements.type() != Value::Type::map || metadata.type() != Value::Type::map) {
    return Errc::invalid_argument;
  }
  for (const auto& [key, value] : measurements.as_map()) {
    if (!is_number(value)) return Errc::invalid_argument;
  }
  if (!has_receivers()) return Errc::ok;
  const auto set = [&](FieldSink& sink) {
    put_measurements(sink, measurements);
    Fields fields(&sink);
    put_metadata(fields, event, metadata);
  };
  const Value* duration = measurements.find("duration");
  const Name* span = duration != nullptr ? span_ended_by(event->name.view()) : nullptr;
  if (span == nullptr) {
    emit_point(Point::event, *event, set);
    return Errc::ok;
  }
  const std::uint64_t now = nopspan::detail::thread_ns();
  const std::uint64_t duration_ns = duration_of(*duration);
  const Value* kind = metadata.find("kind");
  emit_end(*span, *event,
           {now > duration_ns ? now - duration_ns : 1, duration_ns,
            kind != nullptr ? kind->as_string() : std::string_view(), metadata.find("reason")},
           set);
  return Errc::ok;
}

Errc emit_tool_start(const Value& metadata) noexcept {
  if (metadata.type() != Value::Type::map) return Errc::invalid_argument;
  if (!has_receivers()) return Errc::ok;
  const EventDescription& event = *find_event("agent.tool.start");
  emit_point(Point::timed, event, [&](FieldSink& sink) {
    Fields fields(&sink);
    put_metadata(fields, &event, metadata);
  });
  return Errc::ok;
}

Errc emit_tool_stop(const Value& metadata, const Value& result, Time start) noexcept {
  return emit_tool_end("agent.tool.stop", metadata, start.ns(), {}, nullptr,
                       [&](Fields& fields) { fields.content("result", result); });
}

Errc emit_tool_exception(const Value& metadata, const Value& error, Time start, Text kind) noexcept {
  return emit_tool_exception(metadata, error, start, kind, Value::list());
}

Errc emit_tool_exception(const Value& metadata, const Value& error, Time start, Text kind,
                         const Value& stacktrace) noexcept {
  return emit_tool_end("agent.tool.exception", metadata, start.ns(), kind, &error, [&](Fields& fields) {
    fields.set("kind", kind).content("reason", error).content("stacktrace", stacktrace);
  });
}

FixedString<32> generate_trace_id() noexcept { return Context::make().trace_id(); }

}  // namespace nopspan::agent
