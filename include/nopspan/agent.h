// SPDX-License-Identifier: Apache-2.0
/// @file
/// The agent catalogue: what an agent's operators and their coordinator do.
///
/// @code
/// namespace agent = nopspan::agent;
/// agent::operators::state_change([](auto& event) {
///   event.operator_name("ets").trace_id("run-7").from("healthy").to("alert").reason("disk is full");
/// });
/// int found = agent::tool_span([](auto& m) { m.tool_name("search"); }, [] { return 3; });
/// @endcode
///
/// The 44 events are those of Beamlens.Telemetry (https://hexdocs.pm/beamlens), with the prefix "agent". Handlers
/// receive the measurements of that catalogue and no others. Probes see model calls, tool calls, compactions and
/// iterations as ordinary spans. The end of a span has the metadata of its start, and the metadata that is set later.
///
/// If there is no request yet, the trace_id of a span's start or of an event becomes the request id. A trace_id that
/// differs from the request's id is kept as metadata, and counted (stats().trace_ids_differ). For handlers, a span or
/// event inside a request has the request id as its trace_id, unless it sets another one. A span that begins the
/// request has none, and emit(), emit_tool_stop() and emit_tool_exception() add none.
///
/// A builder has one setter for each key of its event. Any other setter does not compile. Text that was written by a
/// model or a person, and the results of tools, are content.
///
/// | setters | value |
/// | --- | --- |
/// | operator_name, operator_state, from, to | a symbol: a word that the program chooses |
/// | final_state, status, strategy, skill | a symbol |
/// | trace_id, snapshot_id, notification_id, operator_pid | an id |
/// | skills, notification_ids | a list: { "a", "b" }, a vector or another range, or a pointer and a count |
/// | tool_name, tool_selected | the name of a tool |
/// | iteration, count, unread_count, retry_count, notification_count | an integer |
/// | context_size | a number of messages |
/// | message_count | a measurement: at the start, the number of messages before the compaction; at the end, after it |
/// | ms | a time: a number of ms, or a std::chrono duration |
/// | running, has_unread, will_retry | a bool |
/// | config | a Value |
/// | code, intent, message, thought | a text; content |
/// | insight, notification, reason, response, result | a text or a Value; content |
/// | reason of coordinator::loop_stopped | a symbol, which is not content |
///
/// Thread safety: builders belong to the thread that runs the callable. The functions may be called from any thread at
/// any time.
#ifndef NOPSPAN_AGENT_H
#define NOPSPAN_AGENT_H

#include <nopspan/detail/agent_keys.h>
#include <nopspan/detail/config.h>
#include <nopspan/fields.h>
#include <nopspan/span.h>
#include <nopspan/types.h>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>
NOPSPAN_SHELL_HEADER

/// The agent catalogue.
namespace NOPSPAN_NAMESPACE::agent {

/// Metadata of agent.llm. Set tool_selected, intent and response at its end.
using LlmFields = detail::Builder<detail::TraceId, detail::Iteration, detail::ContextSize, detail::ToolSelected,
                                  detail::Intent, detail::Response>;
/// Metadata of agent.tool. The end of the span fires the probe `tool_call` with the tool's name.
using ToolFields =
    detail::Builder<detail::TraceId, detail::Iteration, detail::ToolName, detail::Intent, detail::Result>;
/// Metadata of agent.compaction, and the measurement message_count.
using CompactionFields =
    detail::Builder<detail::TraceId, detail::Iteration, detail::Strategy, detail::Config, detail::MessageCount>;
/// Metadata of agent.operator.iteration.
using OperatorIterationFields =
    detail::Builder<detail::Operator, detail::TraceId, detail::Iteration, detail::OperatorState>;
/// Metadata of agent.coordinator.iteration.
using CoordinatorIterationFields =
    detail::Builder<detail::Running, detail::NotificationCount, detail::TraceId, detail::Iteration>;

/// @{
/// The name of a span: `Span span{agent::llm, [&](auto& m) { m.iteration(n); }};`
NOPSPAN_CONSTANT SpanName<LlmFields> llm{"agent.llm"};
NOPSPAN_CONSTANT SpanName<ToolFields> tool{"agent.tool"};
/// @}
/// The name of a span. If an exception ends it, handlers receive agent.compaction.stop with status() 3, because
/// Beamlens.Telemetry has no exception event for it.
NOPSPAN_CONSTANT SpanName<CompactionFields> compaction{"agent.compaction"};
/// @{
/// The name of a span. Handlers receive its start as agent.operator.iteration_start or
/// agent.coordinator.iteration_start, and nothing at its end.
NOPSPAN_CONSTANT SpanName<OperatorIterationFields> operator_iteration{"agent.operator.iteration"};
NOPSPAN_CONSTANT SpanName<CoordinatorIterationFields> coordinator_iteration{"agent.coordinator.iteration"};
/// @}

/// The events of an operator. All have the setter operator_name().
///
/// Call an event with a callable that takes its builder: `operators::wait([](auto& e) { e.ms(5); });`. The event
/// belongs to the thread's current span. For another span, pass that span (a Span, AsyncSpan or Context) as the first
/// argument. The callable runs only if a tracer or handler is attached. Handlers receive the measurement system_time,
/// and the probe `event` fires. The types in the angle brackets are the event's setters: detail::TraceId is trace_id().
namespace operators {

/// @{
/// An event of the catalogue. Do not emit iteration_start if the iteration is a span operator_iteration, because the
/// start of that span emits it.
NOPSPAN_CONSTANT detail::Event<> started{"agent.operator.started"};
NOPSPAN_CONSTANT detail::Event<detail::TraceId, detail::Iteration, detail::OperatorState> iteration_start{
    "agent.operator.iteration_start"};
NOPSPAN_CONSTANT detail::Event<detail::TraceId, detail::From, detail::To, detail::Reason> state_change{
    "agent.operator.state_change"};
NOPSPAN_CONSTANT detail::Event<detail::TraceId, detail::Notification> notification_sent{
    "agent.operator.notification_sent"};
NOPSPAN_CONSTANT detail::Event<detail::TraceId, detail::Reason> notification_failed{
    "agent.operator.notification_failed"};
NOPSPAN_CONSTANT detail::Event<detail::TraceId, detail::Count> get_notifications{"agent.operator.get_notifications"};
NOPSPAN_CONSTANT detail::Event<detail::TraceId, detail::SnapshotId> take_snapshot{"agent.operator.take_snapshot"};
NOPSPAN_CONSTANT detail::Event<detail::TraceId, detail::SnapshotId> get_snapshot{"agent.operator.get_snapshot"};
NOPSPAN_CONSTANT detail::Event<detail::TraceId, detail::Count> get_snapshots{"agent.operator.get_snapshots"};
NOPSPAN_CONSTANT detail::Event<detail::TraceId, detail::Code> execute_start{"agent.operator.execute_start"};
NOPSPAN_CONSTANT detail::Event<detail::TraceId, detail::Code, detail::Result> execute_complete{
    "agent.operator.execute_complete"};
NOPSPAN_CONSTANT detail::Event<detail::TraceId, detail::Code, detail::Reason> execute_error{
    "agent.operator.execute_error"};
NOPSPAN_CONSTANT detail::Event<detail::TraceId, detail::Ms> wait{"agent.operator.wait"};
NOPSPAN_CONSTANT detail::Event<detail::TraceId, detail::Thought> think{"agent.operator.think"};
NOPSPAN_CONSTANT detail::Event<detail::TraceId> done{"agent.operator.done"};
NOPSPAN_CONSTANT detail::Event<detail::TraceId, detail::Reason, detail::RetryCount, detail::WillRetry> llm_error{
    "agent.operator.llm_error"};
NOPSPAN_CONSTANT detail::Event<detail::FinalState> loop_stopped{"agent.operator.loop_stopped"};
NOPSPAN_CONSTANT detail::Event<detail::Message> unexpected_message{"agent.operator.unexpected_message"};

/// @}

}  // namespace operators

/// The events of the coordinator; see operators. All have the setters running() and notification_count().
namespace coordinator {

/// @{
/// An event of the catalogue. Do not emit iteration_start if the iteration is a span coordinator_iteration, because the
/// start of that span emits it.
NOPSPAN_CONSTANT detail::CoordinatorEvent<> started{"agent.coordinator.started"};
NOPSPAN_CONSTANT detail::CoordinatorEvent<detail::TraceId, detail::Iteration> iteration_start{
    "agent.coordinator.iteration_start"};
NOPSPAN_CONSTANT detail::CoordinatorEvent<detail::TraceId, detail::Status, detail::Count> get_notifications{
    "agent.coordinator.get_notifications"};
NOPSPAN_CONSTANT detail::CoordinatorEvent<detail::TraceId, detail::NotificationIds, detail::Status>
    update_notification_statuses{"agent.coordinator.update_notification_statuses"};
NOPSPAN_CONSTANT detail::CoordinatorEvent<detail::TraceId, detail::Insight> insight_produced{
    "agent.coordinator.insight_produced"};
NOPSPAN_CONSTANT detail::CoordinatorEvent<detail::TraceId, detail::HasUnread, detail::UnreadCount> done{
    "agent.coordinator.done"};
NOPSPAN_CONSTANT detail::CoordinatorEvent<detail::StopReason> loop_stopped{"agent.coordinator.loop_stopped"};
NOPSPAN_CONSTANT detail::CoordinatorEvent<detail::TraceId, detail::Reason> llm_error{"agent.coordinator.llm_error"};
NOPSPAN_CONSTANT detail::CoordinatorEvent<detail::Message> unexpected_message{"agent.coordinator.unexpected_message"};
NOPSPAN_CONSTANT detail::CoordinatorEvent<detail::TraceId, detail::Skills> invoke_operators{
    "agent.coordinator.invoke_operators"};
NOPSPAN_CONSTANT detail::CoordinatorEvent<detail::TraceId, detail::Skill> message_operator{
    "agent.coordinator.message_operator"};
NOPSPAN_CONSTANT detail::CoordinatorEvent<detail::TraceId> get_operator_statuses{
    "agent.coordinator.get_operator_statuses"};
NOPSPAN_CONSTANT detail::CoordinatorEvent<detail::TraceId, detail::Ms> wait{"agent.coordinator.wait"};
NOPSPAN_CONSTANT detail::CoordinatorEvent<detail::TraceId, detail::Thought> think{"agent.coordinator.think"};
NOPSPAN_CONSTANT detail::CoordinatorEvent<detail::NotificationId, detail::OperatorPid> operator_notification_received{
    "agent.coordinator.operator_notification_received"};
NOPSPAN_CONSTANT detail::CoordinatorEvent<detail::Skill, detail::Result> operator_complete{
    "agent.coordinator.operator_complete"};
NOPSPAN_CONSTANT detail::CoordinatorEvent<detail::Skill, detail::Reason> operator_crashed{
    "agent.coordinator.operator_crashed"};
NOPSPAN_CONSTANT detail::CoordinatorEvent<detail::Iteration> max_iterations_reached{
    "agent.coordinator.max_iterations_reached"};

/// @}

}  // namespace coordinator

/// The intended type of a key's value. In a Value, symbol, string and process_id are strings. integer and uint are
/// integers, and a uint is not negative. A record is a map or a string.
enum class FieldType : std::uint8_t {
  symbol,
  string,
  integer,
  uint,
  boolean,
  process_id,
  list,
  string_list,
  symbol_list,
  map,
  record,
  any,
};
/// "symbol", "string", "int", "uint", "bool", "process_id", "list", "list<string>", "list<symbol>", "map", "record" or
/// "any": static storage.
NOPSPAN_API const char* to_string(FieldType type) noexcept NOPSPAN_IN_SHELL(return "any");

/// A key of an event.
struct FieldDescription {
  std::string_view key;             ///< as handlers receive it
  FieldType type = FieldType::any;  ///< the intended type of its value
  bool content = false;             ///< reaches probes only with capture_content()
  bool optional = false;            ///< only present if its value is known; Beamlens does not list it
};

/// A list in static storage.
template <class T>
using Table = StaticList<T>;

/// An event of the catalogue.
struct EventDescription {
  Name name;                             ///< "agent.llm.start"
  Table<FieldDescription> measurements;  ///< the keys of its measurements
  Table<FieldDescription> metadata;      ///< the keys of its metadata; the end of a span also has all keys of its
                                         ///< start, whether or not they are listed again
};

/// All events, in the order of event_names().
NOPSPAN_API Table<EventDescription> catalogue() noexcept NOPSPAN_IN_SHELL(return {});
/// The prefix of all names in this catalogue.
constexpr std::string_view event_prefix() noexcept { return "agent"; }
/// The names of all 44 events.
NOPSPAN_API EventNames event_names() noexcept NOPSPAN_IN_SHELL(return {});

/// Emits an event whose name and values are known only at run time. The event has only the given measurements and
/// metadata. Keys that are content in the catalogue are content here too.
///
/// - If the event is the stop or exception of agent.llm, agent.tool or agent.compaction, and `measurements` has
///   `duration` (in ns), probes see a whole span, from its start to its end. The span ends now and has that duration.
///   Its parent is the thread's current span. Handlers receive only this event, with the ids and attributes of that
///   span.
/// - For every other event, the probe `event` fires.
/// - The error type of an exception is `reason.type`, if that is the name of a type; see Span::fail(). Otherwise it is
///   "_OTHER", because other text may be content.
/// - `duration`, `system_time` and `monotonic_time` do not become attributes.
///
/// @return ok, also if no tracer or handler is attached; invalid_argument if the catalogue has no event of that name,
///         if `measurements` or `metadata` is not a map, or if a measurement is not a number. After invalid_argument,
///         nothing was emitted.
#pragma push_macro("emit")
#undef emit  // Qt has such a macro
NOPSPAN_API Errc emit(Text name, const Value& measurements, const Value& metadata) noexcept
    NOPSPAN_IN_SHELL(return Errc::ok);
#pragma pop_macro("emit")

/// Reports the start of a tool call that tool_span() cannot enclose. `metadata` is a map.
///
/// @return ok; invalid_argument if `metadata` is not a map, and then nothing was emitted.
NOPSPAN_API Errc emit_tool_start(const Value& metadata) noexcept NOPSPAN_IN_SHELL(return Errc::ok);
/// Reports the end of that tool call. Probes see a whole span, as with emit(). `start` is the time at which the call
/// started. If it is 0 or in the future, the duration is 0. `result` replaces a `result` in
/// `metadata`.
///
/// @return ok; invalid_argument if `metadata` is not a map, and then nothing was emitted.
NOPSPAN_API Errc emit_tool_stop(const Value& metadata, const Value& result, Time start) noexcept
    NOPSPAN_IN_SHELL(return Errc::ok);
/// Reports that an exception ended that tool call. `kind` is "error", "throw" or "exit". Without a `stacktrace`, the
/// event has an empty list.
///
/// @return ok; invalid_argument if `metadata` is not a map, and then nothing was emitted.
NOPSPAN_API Errc emit_tool_exception(const Value& metadata, const Value& error, Time start,
                                     Text kind = "error") noexcept NOPSPAN_IN_SHELL(return Errc::ok);
/// @overload
NOPSPAN_API Errc emit_tool_exception(const Value& metadata, const Value& error, Time start, Text kind,
                                     const Value& stacktrace) noexcept NOPSPAN_IN_SHELL(return Errc::ok);

namespace detail {

// Whether the result of a tool can be metadata, and be kept for a moment before it is returned.
template <class R>
constexpr bool is_result() noexcept {
  using T = std::remove_cv_t<std::remove_reference_t<R>>;
  if constexpr (std::is_void_v<R> || std::is_rvalue_reference_v<R>) {
    return false;
  } else {
    return nopspan::detail::is_value<T>() && (std::is_reference_v<R> || std::is_move_constructible_v<T>);
  }
}

template <class Fn>
nopspan::detail::span_result_t<Fn> run_tool(Span& scope, Fn& work) {
  using Returned = nopspan::detail::called_t<Fn>;
  if constexpr (is_result<Returned>()) {
    const auto recorded = [&]() -> Returned {
      Returned returned = nopspan::detail::call(work, scope);
      scope.with<ToolFields>([&](ToolFields& fields) { fields.result(returned); });
      return returned;
    };
    return nopspan::detail::run<ToolFields>(scope, recorded);
  } else {
    return nopspan::detail::run<ToolFields>(scope, work);
  }
}

}  // namespace detail

/// Runs a tool inside a span agent.tool and returns what the tool returns; see nopspan::span(). If the tool returns
/// something that FieldSetters::set() takes, that becomes the `result` of the stop event. Otherwise `work` may set a
/// result with nopspan::result(). `metadata` is a callable that takes ToolFields&, or a Value that is a map.
template <class M, class Fn>
inline nopspan::detail::span_result_t<Fn> tool_span(M&& metadata, Fn&& work) {
  if constexpr (std::is_invocable_v<M&, ToolFields&>) {
    Span scope{tool, SpanOptions{}, metadata};
    return detail::run_tool(scope, work);
  } else if constexpr (!std::is_convertible_v<M&, const Value&>) {
    static_assert(std::is_convertible_v<M&, const Value&>,
                  "the metadata of a tool, which comes first, is a callable that takes ToolFields&, or a map");
  } else {
    const Value& map = metadata;
    Span scope{tool, SpanOptions{}, [&](ToolFields& fields) { detail::put_map(fields, "agent.tool.start", map); }};
    return detail::run_tool(scope, work);
  }
}

/// Makes a new trace id: 16 random bytes, as 32 lower-case hexadecimal digits.
NOPSPAN_API FixedString<32> generate_trace_id() noexcept NOPSPAN_IN_SHELL(return {});

/// Attaches a handler that logs every event of the catalogue as one line with all its measurements, for example
/// `[agent.tool.stop] trace_id=… duration=…`. The lines go to the sink of set_log_sink(). The default sink writes them
/// to stderr, whatever their level is. An event without a trace_id has the request id instead, and without a request it
/// has "unknown". So has a trace_id that is content. In ids and names, blanks, brackets, "=" and characters that cannot
/// be displayed are shown as "?".
///
/// @return ok; already_exists if it is attached already; out_of_memory.
NOPSPAN_API Errc attach_default_logger(LogLevel level = LogLevel::debug) noexcept NOPSPAN_IN_SHELL(return Errc::ok);
/// Detaches the handler of attach_default_logger().
///
/// @return ok; not_found if it is not attached; out_of_memory.
NOPSPAN_API Errc detach_default_logger() noexcept NOPSPAN_IN_SHELL(return Errc::ok);

}  // namespace NOPSPAN_NAMESPACE::agent

#endif  // NOPSPAN_AGENT_H
