// SPDX-License-Identifier: Apache-2.0
#include "handlers/registry.h"

#include "genai/span_attributes.h"
#include "state/step_data.h"

#include <nopspan/probes.h>

namespace nopspan::detail {
namespace {

// An iteration's start has an event name of its own: agent.operator.iteration_start.
EventName event_name_of(const SpanState& span, std::string_view suffix) noexcept {
  if (shape_of(span) != Shape::iteration) return {span.name, suffix};
  EventName name(span.name.view());
  name.suffix = ".iteration_start";
  name.suffix_hash = hash_bytes(name.suffix);
  return name;
}

engine::Step public_facts_of(const SpanState& state) noexcept {
  const nopspan_step facts = facts_of(state);
  engine::Step step;
  step.kind = static_cast<engine::StepKind>(facts.kind);
  step.instance = facts.instance;
  step.number = facts.number;
  step.members = facts.members;
  step.members_with_prefill = facts.members_with_prefill;
  step.dropped = facts.dropped;
  step.batch_size = facts.batch_size;
  step.prefill_tokens = facts.prefill_tokens;
  step.decode_tokens = facts.decode_tokens;
  step.drafted_tokens = facts.drafted_tokens;
  step.accepted_tokens = facts.accepted_tokens;
  step.budget_tokens = facts.budget_tokens;
  step.host_ns = facts.host_ns;
  step.device_ns = facts.device_ns;
  step.kv_used = facts.kv_used;
  return step;
}

// The value of CLOCK_REALTIME at a time of CLOCK_MONOTONIC.
std::uint64_t system_time_at(std::uint64_t time_ns) noexcept {
  const std::uint64_t now = monotonic_ns();
  return system_ns() - (now > time_ns ? now - time_ns : 0);
}

// Dispatches the event `<name><suffix>`, if it has handlers. `measure` adds its measurements.
template <class Measure>
void dispatch_span(SpanState& span, std::string_view suffix, bool at_end, const Measure& measure) {
  const EventName event_name = event_name_of(span, suffix);
  Dispatch dispatch(event_name);
  if (!dispatch) return;
  {
    const InsideLibrary inside;
    span.fields.reserve(added_bytes(span));
    measure(span.fields);
  }
  EventAccess::run(dispatch, span, at_end);
}

}  // namespace

void dispatch_start(SpanState& span) {
  if (!is_handled(kStart)) return;
  dispatch_span(span, ".start", false, [&](FieldBuffer& fields) {
    fields.add_measured("system_time", system_time_at(span.start_ns));
    if (shape_of(span) == Shape::standard) fields.add_measured("monotonic_time", span.start_ns);
  });
}

void dispatch_end(SpanState& span) {
  const Shape shape = shape_of(span);
  // A compaction has no exception event, so handlers get its stop event instead.
  const bool exception = span.status == NOPSPAN_STATUS_EXCEPTION && shape != Shape::compaction;
  if (shape == Shape::iteration || !is_handled(exception ? kException : kStop)) return;
  dispatch_span(span, exception ? ".exception" : ".stop", true, [&](FieldBuffer& fields) {
    if (span.stop_only) return;
    if (shape == Shape::compaction) {
      fields.add_measured("system_time", system_time_at(span.end_ns));
      return;
    }
    fields.add_measured("duration", span.duration_ns);
    if (shape == Shape::standard) fields.add_measured("monotonic_time", span.end_ns);
  });
}

}  // namespace nopspan::detail

namespace nopspan {

void EventAccess::run(detail::Dispatch& dispatch, detail::SpanState& state, bool at_end) {
  Event event;
  const Context context = detail::make_context(state.context, state.foreign_id);
  detail::EventAttributes attributes(state, at_end);
  engine::Step step;
  event.name_ = dispatch.name();
  event.context_ = &context;
  event.parent_id_ = state.context.parent_id;
  event.status_ = static_cast<Status>(state.status);
  event.flags_ = state.flags;
  event.begin_ = state.fields.begin();
  event.end_ = state.fields.end();
  event.attributes_ = &attributes;
  if (state.is_span) {
    if (!state.has_ids) event.ids_of_ = &state;
    static_assert(sizeof(Event::Link) == sizeof(nopspan_link));
    if (!detail::is_step(state)) {
      event.links_ = reinterpret_cast<const Event::Link*>(state.links);
      event.link_count_ = state.link_count;
    } else if (at_end) {
      step = detail::public_facts_of(state);
      event.step_ = &step;
      event.members_ = reinterpret_cast<const engine::Member*>(detail::members_of(state));
    }
  }
  dispatch.run(event);
}

}  // namespace nopspan
