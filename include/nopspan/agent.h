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
/// The 44 events are those of Beamlens.Telemetry (https://hexdocs.pm/beamlens), under the prefix "agent". Handlers
/// receive the measurements of that catalogue and no others. For probes the calls of models and tools, the compactions
/// and the iterations are spans like all others. The end of a span has the metadata of its start, and its own on top.
///
/// The trace_id of a span's start, or of an event, becomes the request id if there is no request yet. A trace_id that
/// differs from the request's id stays metadata, and is counted (stats().trace_ids_differ).
///
/// A builder has one setter for each key of its event; any other setter does not compile. Text that a model or a person
/// wrote, and the results of tools, are content.
///
/// | setters | value |
/// | --- | --- |
/// | operator_name, operator_state, from, to | a symbol: a word of the program's own |
/// | final_state, status, strategy, skill | a symbol |
/// | trace_id, snapshot_id, notification_id, operator_pid | an id |
/// | skills, notification_ids | a list of these: { "a", "b" }, or a pointer and a count |
/// | tool_name, tool_selected | the name of a tool |
/// | iteration, count, unread_count, retry_count, notification_count | an integer |
/// | context_size | messages |
/// | message_count | messages, a measurement: before a compaction at its start, after it at its end |
/// | ms | ms |
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

#include <nopspan/config.h>
#include <nopspan/detail/agent_keys.h>
#include <nopspan/errc.h>
#include <nopspan/fields.h>
#include <nopspan/log_level.h>
#include <nopspan/name.h>
#include <nopspan/span.h>
#include <nopspan/text.h>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

/// The agent catalogue.
namespace nopspan::agent {

/// Metadata of agent.llm; its end adds tool_selected, intent and response.
using LlmFields = detail::Builder<detail::TraceId, detail::Iteration, detail::ContextSize, detail::ToolSelected,
                                  detail::Intent, detail::Response>;
/// Metadata of agent.tool. Its end fires the probe `tool_call` with the tool's name.
using ToolFields =
    detail::Builder<detail::TraceId, detail::Iteration, detail::ToolName, detail::Intent, detail::Result>;
/// Metadata of agent.compaction, and its measurement message_count.
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
/// The name of a span. Handlers receive agent.compaction.stop also if an exception ends it; status() is 3 then.
NOPSPAN_CONSTANT SpanName<CompactionFields> compaction{"agent.compaction"};
/// @{
/// The name of a span. Handlers receive its start as agent.operator.iteration_start or
/// agent.coordinator.iteration_start, and nothing at its end.
NOPSPAN_CONSTANT SpanName<OperatorIterationFields> operator_iteration{"agent.operator.iteration"};
NOPSPAN_CONSTANT SpanName<CoordinatorIterationFields> coordinator_iteration{"agent.coordinator.iteration"};
/// @}

/// The events of an operator. All have the setter operator_name().
///
/// An event is called with a callable that takes its builder: `operators::wait([](auto& e) { e.ms(5); });`. If it
/// belongs to another span than the thread's current one, the span (a Span, AsyncSpan or Context) is the first
/// argument. The callable runs only if a tracer or handler is attached. Handlers receive the measurement system_time,
/// and the probe `event` fires. The types in the angle brackets are the event's setters: detail::TraceId is trace_id().
namespace operators {

/// @{
/// An event of the catalogue. A span operator_iteration emits iteration_start already.
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
/// An event of the catalogue. A span coordinator_iteration emits iteration_start already.
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

/// The intended type of a key's value. In a Value, symbol, string and process_id are strings; integer and uint (not
/// negative) are integers; record is a map or a string.
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
NOPSPAN_API const char* to_string(FieldType type) noexcept;

/// A key of an event.
struct FieldDescription {
  std::string_view key;             ///< as handlers receive it
  FieldType type = FieldType::any;  ///< the intended type of its value
  bool content = false;             ///< reaches probes only with capture_content()
  bool optional = false;            ///< present only if it is known; not in the reference's list
};

/// A list in static storage.
template <class T>
class Table {
 public:
  /// An empty list.
  constexpr Table() noexcept = default;
  /// A list of the items of an array in static storage.
  template <std::size_t N>
  constexpr Table(const T (&items)[N]) noexcept : items_(items), size_(N) {}  // NOLINT(*-explicit-*)

  /// The first item.
  [[nodiscard]] constexpr const T* begin() const noexcept { return items_; }
  /// Behind the last item.
  [[nodiscard]] constexpr const T* end() const noexcept { return items_ + size_; }
  /// How many items there are.
  [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
  /// The item at position `i`, which must be less than size().
  constexpr const T& operator[](std::size_t i) const noexcept { return items_[i]; }

 private:
  const T* items_ = nullptr;
  std::size_t size_ = 0;
};

/// An event of the catalogue.
struct EventDescription {
  Name name;                             ///< "agent.llm.start"
  Table<FieldDescription> measurements;  ///< the keys of its measurements
  Table<FieldDescription> metadata;  ///< the keys of its metadata; the end of a span does not repeat those of its start
};

/// All events, in the order of event_names().
NOPSPAN_API Table<EventDescription> catalogue() noexcept;
/// The prefix of all names here.
constexpr std::string_view event_prefix() noexcept { return "agent"; }
/// The names of all 44 events.
NOPSPAN_API EventNames event_names() noexcept;

/// Emits an event whose name and values are known only at run time, with what is given and no more. Keys that are
/// content in the catalogue are content.
///
/// - The end of an llm, a tool or a compaction that has the measurement `duration` (ns) is a whole span for probes: it
///   ended now, under the thread's current span. All others are `event`. Handlers see that span's ids in the Event, and
///   its attributes.
/// - The error type of an exception is `reason.type` if that is at most 63 letters, digits and "_:.<>". Otherwise it is
///   "_OTHER", because a reason is content.
/// - `duration`, `system_time` and `monotonic_time` do not become attributes.
///
/// @return ok; invalid_argument for a name that the catalogue does not have, for a Value that is not a map, and for a
///         measurement that is not a number. Then nothing is emitted.
NOPSPAN_API Errc emit(Text name, const Value& measurements, const Value& metadata) noexcept;

/// A tool that tool_span() cannot enclose starts. `metadata` is a map.
///
/// @return ok; invalid_argument if `metadata` is not a map.
NOPSPAN_API Errc emit_tool_start(const Value& metadata) noexcept;
/// That tool ends. As with emit(), it is a whole span for probes. `start_ns` is when it started, CLOCK_MONOTONIC in ns;
/// 0 or a time in the future gives the duration 0. `result` wins over the same key in `metadata`.
///
/// @return ok; invalid_argument if `metadata` is not a map.
NOPSPAN_API Errc emit_tool_stop(const Value& metadata, const Value& result, std::uint64_t start_ns) noexcept;
/// That tool ends by an exception. `kind` is "error", "throw" or "exit". Without a stacktrace the event has an empty
/// list.
///
/// @return ok; invalid_argument if `metadata` is not a map.
NOPSPAN_API Errc emit_tool_exception(const Value& metadata, const Value& error, std::uint64_t start_ns,
                                     Text kind = "error") noexcept;
/// @overload
NOPSPAN_API Errc emit_tool_exception(const Value& metadata, const Value& error, std::uint64_t start_ns, Text kind,
                                     const Value& stacktrace) noexcept;

namespace detail {

// Whether the result of a tool can be metadata, and be kept for a moment before it is returned.
template <class R>
constexpr bool is_result() noexcept {
  using T = std::remove_cv_t<std::remove_reference_t<R>>;
  if constexpr (std::is_void_v<R> || std::is_rvalue_reference_v<R>) {
    return false;
  } else if constexpr (std::is_arithmetic_v<T> || std::is_same_v<T, Value>) {
    return true;
  } else {
    return std::is_convertible_v<const T&, Text> && (std::is_reference_v<R> || std::is_move_constructible_v<T>);
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

/// Runs a tool inside a span agent.tool and returns what it returns, as nopspan::span() does. If that is a Value, a
/// number, a bool or a text, it becomes the `result` of the stop event. Otherwise `work` may set it by
/// nopspan::result(). `metadata` is a callable that takes ToolFields&, or a Value that is a map.
template <class M, class Fn>
inline nopspan::detail::span_result_t<Fn> tool_span(M&& metadata, Fn&& work) {
  if constexpr (std::is_invocable_v<M&, ToolFields&>) {
    Span scope{tool, SpanOptions{}, metadata};
    return detail::run_tool(scope, work);
  } else {
    const Value& map = metadata;
    Span scope{tool, SpanOptions{}, [&](ToolFields& fields) { detail::put_map(fields, "agent.tool.start", map); }};
    return detail::run_tool(scope, work);
  }
}

/// Makes a new trace id: 32 lower-case hexadecimal digits for 16 bytes from getrandom(2).
NOPSPAN_API FixedString<32> generate_trace_id() noexcept;

/// Attaches a handler that logs every event of the catalogue, one line each, with all its measurements:
/// "[agent.tool.stop] trace_id=… duration=…". The lines go to the sink of set_log_sink(). The default sink shows only
/// levels from warning on. A trace_id that is content is shown as "unknown". Blanks, brackets, "=" and characters that
/// cannot be displayed are shown as "?" in ids and names.
///
/// @return ok; already_exists if it is attached; out_of_memory.
NOPSPAN_API Errc attach_default_logger(LogLevel level = LogLevel::debug) noexcept;
/// Detaches it.
///
/// @return ok; not_found if it is not attached; out_of_memory.
NOPSPAN_API Errc detach_default_logger() noexcept;

}  // namespace nopspan::agent

#endif  // NOPSPAN_AGENT_H
