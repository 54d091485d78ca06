// SPDX-License-Identifier: Apache-2.0
// Events of the agent catalogue that are known at run time only.
#include <nopspan/agent.h>

#include "clean_text.h"
#include "counters.h"
#include "probe.h"
#include "span_state.h"
#include "thread_state.h"

#include <nopspan/value.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <string_view>
#include <utility>

namespace nopspan::agent {
namespace {

using nopspan::detail::gate;
using nopspan::detail::SpanState;

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

// In this event, or in any where this one has no such key.
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

// A span that is over.
struct Whole {
  std::uint64_t start_ns;
  std::uint64_t duration_ns;
  const Value* kind;    // of an exception; null where it is not known
  const Value* reason;  // the same
};

bool ends_with(std::string_view name, std::string_view end) noexcept {
  return name.size() >= end.size() && name.substr(name.size() - end.size()) == end;
}

// The span that an event ends; null for other events.
const Name* span_ended_by(std::string_view event) noexcept {
  if (!ends_with(event, ".stop") && !ends_with(event, ".exception")) return nullptr;
  static constexpr Name kSpans[] = {llm, tool, compaction};
  for (const Name& span : kSpans) {
    if (event.substr(0, event.rfind('.')) == span.view()) return &span;
  }
  return nullptr;
}

void set_exception(SpanState& span, const Whole& whole) noexcept {
  const std::string_view kind = whole.kind != nullptr ? whole.kind->as_string() : std::string_view();
  const Value* type = whole.reason != nullptr ? whole.reason->find("type") : nullptr;
  const std::string_view known = type != nullptr ? type->as_string() : std::string_view();
  span.status = NOPSPAN_STATUS_EXCEPTION;
  span.exception_kind = kind == "throw" ? "throw" : kind == "exit" ? "exit" : "error";
  nopspan::detail::clean(known.empty() ? "_OTHER" : known, span.error_type);
}

// For probes alone. `set(Fields&, bool of_span)` sets what the event has.
template <class Set>
void complete_for_probes(Name name, bool exception, const Whole& whole, const Set& set) noexcept {
  SpanState* span = nopspan::detail::async_begin(name, Context::current(), {SpanKind::unspecified, whole.start_ns});
  if (span == nullptr) return;
  span->silent = true;
  Fields fields(span);
  set(fields, true);
  if (exception) set_exception(*span, whole);
  nopspan::detail::span_complete(span, whole.duration_ns);
}

// `whole` null: it is an event for probes too.
template <class Set>
void emit_event(const EventDescription& event, const Whole* whole, const Set& set) noexcept {
  using nopspan::detail::Point;
  const Name* span = whole != nullptr ? span_ended_by(event.name.view()) : nullptr;
  const bool exception = span != nullptr && ends_with(event.name.view(), ".exception");
  if (span != nullptr && (nopspan::detail::span_probes_up() || nopspan::detail::point_probes_up())) {
    complete_for_probes(*span, exception, *whole, set);
  }
  const std::uint64_t mask = span != nullptr ? nopspan::detail::kGatePointHandlers : nopspan::detail::kPointMask;
  if ((gate() & mask) == 0) return;
  nopspan::detail::FieldSink* sink =
      nopspan::detail::point_begin(span != nullptr ? Point::handlers_only : Point::event, event.name, nullptr);
  if (sink == nullptr) return;
  if (exception) static_cast<SpanState*>(sink)->status = NOPSPAN_STATUS_EXCEPTION;
  Fields fields(sink);
  set(fields, false);
  nopspan::detail::point_emit(sink);
}

bool is_number(const Value& value) noexcept {
  return value.type() == Value::Type::integer || value.type() == Value::Type::real;
}

// ns; what is less than 0 or no number is 0.
std::uint64_t duration_of(const Value& value) noexcept {
  if (value.type() == Value::Type::integer) return value.as_int() > 0 ? static_cast<std::uint64_t>(value.as_int()) : 0;
  const double duration = value.as_double();
  if (!(duration > 0)) return 0;
  return duration < 9e18 ? static_cast<std::uint64_t>(duration) : INT64_MAX;
}

// A span's own are its times.
void put_measurements(Fields& fields, const Value& map, bool of_span) noexcept {
  for (const auto& [key, value] : map.as_map()) {
    if (of_span && (key == "duration" || key == "monotonic_time" || key == "system_time")) continue;
    if (value.type() == Value::Type::integer) {
      fields.measure(key, value.as_int());
    } else {
      fields.measure(key, value.as_double());
    }
  }
}

bool anybody_listens() noexcept { return (gate() & (nopspan::detail::kSpanMask | nopspan::detail::kPointMask)) != 0; }

// The end of a tool's run that began then; `add(Fields&)` sets what wins over `metadata`.
template <class Add>
Errc emit_tool_end(Text name, const Value& metadata, std::uint64_t start_ns, const Value* kind, const Value* reason,
                   const Add& add) noexcept {
  if (metadata.type() != Value::Type::map) return Errc::invalid_argument;
  if (!anybody_listens()) return Errc::ok;
  const EventDescription& event = *find_event(name.view());
  const std::uint64_t now = nopspan::detail::monotonic_ns();
  const bool began = start_ns != 0 && start_ns <= now;
  const Whole whole{began ? start_ns : now, began ? now - start_ns : 0, kind, reason};
  emit_event(event, &whole, [&](Fields& fields, bool of_span) {
    if (!of_span) fields.measure("duration", whole.duration_ns);
    put_metadata(fields, &event, metadata);
    add(fields);
  });
  return Errc::ok;
}

}  // namespace

namespace detail {

void put_texts(Fields& fields, Text key, const Text* texts, std::size_t count) noexcept {
  try {
    const nopspan::detail::Busy busy;
    Value::List list;
    for (std::size_t i = 0; texts != nullptr && i < count; ++i) list.emplace_back(texts[i]);
    fields.set(key, Value(std::move(list)));
  } catch (const std::bad_alloc&) {
    nopspan::detail::count(nopspan::detail::counters.fields_dropped);
  }
}

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
  if (!anybody_listens()) return Errc::ok;
  Whole whole{};
  const Value* duration = measurements.find("duration");
  if (duration != nullptr) {
    const std::uint64_t now = nopspan::detail::monotonic_ns();
    whole.duration_ns = duration_of(*duration);
    whole.start_ns = now > whole.duration_ns ? now - whole.duration_ns : 1;
    whole.kind = metadata.find("kind");
    whole.reason = metadata.find("reason");
  }
  emit_event(*event, duration != nullptr ? &whole : nullptr, [&](Fields& fields, bool of_span) {
    put_measurements(fields, measurements, of_span);
    put_metadata(fields, event, metadata);
  });
  return Errc::ok;
}

Errc emit_tool_start(const Value& metadata) noexcept {
  if (metadata.type() != Value::Type::map) return Errc::invalid_argument;
  if (!anybody_listens()) return Errc::ok;
  const EventDescription& event = *find_event("agent.tool.start");
  emit_event(event, nullptr, [&](Fields& fields, bool) {
    fields.measure("system_time", nopspan::detail::system_ns());
    put_metadata(fields, &event, metadata);
  });
  return Errc::ok;
}

Errc emit_tool_stop(const Value& metadata, const Value& result, std::uint64_t start_ns) noexcept {
  return emit_tool_end("agent.tool.stop", metadata, start_ns, nullptr, nullptr,
                       [&](Fields& fields) { fields.content("result", result); });
}

Errc emit_tool_exception(const Value& metadata, const Value& error, std::uint64_t start_ns, Text kind) noexcept {
  return emit_tool_exception(metadata, error, start_ns, kind, Value::list());
}

Errc emit_tool_exception(const Value& metadata, const Value& error, std::uint64_t start_ns, Text kind,
                         const Value& stacktrace) noexcept {
  try {
    const Value kind_value(kind);
    return emit_tool_end("agent.tool.exception", metadata, start_ns, &kind_value, &error, [&](Fields& fields) {
      fields.set("kind", kind_value).content("reason", error).content("stacktrace", stacktrace);
    });
  } catch (const std::bad_alloc&) {
    return Errc::out_of_memory;
  }
}

FixedString<32> generate_trace_id() noexcept { return Context::make().trace_id(); }

}  // namespace nopspan::agent
