// SPDX-License-Identifier: Apache-2.0
// The agent catalogue: what an agent's operators and their coordinator do.
//
//   nopspan::agent::operators::state_change([&](auto& event) {
//     event.operator_name("ets").trace_id(id).from("healthy").to("alert").reason(why);
//   });
//
// Its 44 events are Beamlens.Telemetry's (https://hexdocs.pm/beamlens), under the prefix "agent". Handlers see the
// measurements of that catalogue and no others. For probes the calls of models and tools, the compactions and the
// iterations are spans like all others; the metadata of a span's end is merged over that of its start.
//
// The trace_id that a span has at its start, or an event, becomes the request id where there is no request yet. One
// that differs from the request's stays metadata, and is counted (stats().trace_ids_differ).
#ifndef NOPSPAN_AGENT_H
#define NOPSPAN_AGENT_H

#include <nopspan/config.h>
#include <nopspan/detail/named_event.h>
#include <nopspan/errc.h>
#include <nopspan/fields.h>
#include <nopspan/log_level.h>
#include <nopspan/name.h>
#include <nopspan/span.h>
#include <nopspan/text.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <type_traits>
#include <utility>

namespace nopspan::agent {

// --- The builders of metadata

namespace detail {

// Each key of a map; content is what is content in that event. What is no map is left out, and counted.
NOPSPAN_API NOPSPAN_COLD void put_map(Fields& fields, Text event, const Value& map) noexcept;

template <template <class> class Key, class Self, class T>
Self& put(Key<Self>* key, Text name, const T& value) {
  auto& self = static_cast<Self&>(*key);
  self.set(name, value);
  return self;
}
template <template <class> class Key, class Self, class T>
Self& put_content(Key<Self>* key, Text name, const T& value) {
  auto& self = static_cast<Self&>(*key);
  self.content(name, value);
  return self;
}

// The setters of one key each. What a model or a person wrote, and what a tool made of it, is content.
template <class Self>
struct Code {
  Self& code(Text text) { return put_content(this, "code", text); }
};
template <class Self>
struct Config {
  template <class T>
  Self& config(const T& value) {
    return put(this, "config", value);
  }
};
template <class Self>
struct ContextSize {
  Self& context_size(std::int64_t messages) { return put(this, "context_size", messages); }
};
template <class Self>
struct Count {
  Self& count(std::int64_t number) { return put(this, "count", number); }
};
template <class Self>
struct FinalState {
  Self& final_state(Text symbol) { return put(this, "final_state", symbol); }
};
template <class Self>
struct From {
  Self& from(Text symbol) { return put(this, "from", symbol); }
};
template <class Self>
struct HasUnread {
  Self& has_unread(bool value) { return put(this, "has_unread", value); }
};
template <class Self>
struct Insight {
  template <class T>
  Self& insight(const T& value) {
    return put_content(this, "insight", value);
  }
};
template <class Self>
struct Intent {
  Self& intent(Text text) { return put_content(this, "intent", text); }
};
template <class Self>
struct Iteration {
  Self& iteration(std::int64_t number) { return put(this, "iteration", number); }
};
template <class Self>
struct Message {
  Self& message(Text text) { return put_content(this, "message", text); }
};
template <class Self>
struct MessageCount {
  Self& message_count(std::int64_t number) {
    auto& self = static_cast<Self&>(*this);
    self.measure("message_count", number);
    return self;
  }
};
template <class Self>
struct Ms {
  Self& ms(std::int64_t time) { return put(this, "ms", time); }
};
template <class Self>
struct Notification {
  template <class T>
  Self& notification(const T& value) {
    return put_content(this, "notification", value);
  }
};
template <class Self>
struct NotificationCount {
  Self& notification_count(std::int64_t number) { return put(this, "notification_count", number); }
};
template <class Self>
struct NotificationId {
  Self& notification_id(Text id) { return put(this, "notification_id", id); }
};
template <class Self>
struct NotificationIds {
  Self& notification_ids(const Text* ids, std::size_t count) {
    auto& self = static_cast<Self&>(*this);
    self.set("notification_ids", ids, count);
    return self;
  }
  Self& notification_ids(std::initializer_list<Text> ids) { return notification_ids(ids.begin(), ids.size()); }
};
template <class Self>
struct Operator {
  Self& operator_name(Text symbol) { return put(this, "operator", symbol); }
};
template <class Self>
struct OperatorPid {
  Self& operator_pid(Text id) { return put(this, "operator_pid", id); }
};
template <class Self>
struct OperatorState {
  Self& operator_state(Text symbol) { return put(this, "operator_state", symbol); }
};
template <class Self>
struct Reason {
  template <class T>
  Self& reason(const T& value) {
    return put_content(this, "reason", value);
  }
};
template <class Self>
struct Response {
  template <class T>
  Self& response(const T& value) {
    return put_content(this, "response", value);
  }
};
template <class Self>
struct Result {
  template <class T>
  Self& result(const T& value) {
    return put_content(this, "result", value);
  }
};
template <class Self>
struct RetryCount {
  Self& retry_count(std::int64_t number) { return put(this, "retry_count", number); }
};
template <class Self>
struct Running {
  Self& running(bool value) { return put(this, "running", value); }
};
template <class Self>
struct Skill {
  Self& skill(Text symbol) { return put(this, "skill", symbol); }
};
template <class Self>
struct Skills {
  Self& skills(const Text* symbols, std::size_t count) {
    auto& self = static_cast<Self&>(*this);
    self.set("skills", symbols, count);
    return self;
  }
  Self& skills(std::initializer_list<Text> symbols) { return skills(symbols.begin(), symbols.size()); }
};
template <class Self>
struct SnapshotId {
  Self& snapshot_id(Text id) { return put(this, "snapshot_id", id); }
};
template <class Self>
struct Status {
  Self& status(Text symbol) { return put(this, "status", symbol); }
};
template <class Self>
struct StopReason {  // a symbol, and no content
  Self& reason(Text symbol) { return put(this, "reason", symbol); }
};
template <class Self>
struct Strategy {
  Self& strategy(Text symbol) { return put(this, "strategy", symbol); }
};
template <class Self>
struct Thought {
  Self& thought(Text text) { return put_content(this, "thought", text); }
};
template <class Self>
struct To {
  Self& to(Text symbol) { return put(this, "to", symbol); }
};
template <class Self>
struct ToolName {
  Self& tool_name(Text name) { return put(this, "tool_name", name); }
};
template <class Self>
struct ToolSelected {
  Self& tool_selected(Text name) { return put(this, "tool_selected", name); }
};
template <class Self>
struct TraceId {
  Self& trace_id(Text id) { return put(this, "trace_id", id); }
};
template <class Self>
struct UnreadCount {
  Self& unread_count(std::int64_t number) { return put(this, "unread_count", number); }
};
template <class Self>
struct WillRetry {
  Self& will_retry(bool value) { return put(this, "will_retry", value); }
};

template <template <class> class... Keys>
class Builder : public Fields, public Keys<Builder<Keys...>>... {
 public:
  using Fields::Fields;
};
template <template <class> class... Keys>
using Event = nopspan::detail::NamedEvent<Builder<Operator, Keys...>, nopspan::detail::Point::timed>;
// The coordinator's events may all say how it is.
template <template <class> class... Keys>
using CoordinatorEvent =
    nopspan::detail::NamedEvent<Builder<Running, NotificationCount, Keys...>, nopspan::detail::Point::timed>;

}  // namespace detail

// --- The spans

// Metadata of agent.llm; its end adds tool_selected, intent and response.
using LlmFields = detail::Builder<detail::TraceId, detail::Iteration, detail::ContextSize, detail::ToolSelected,
                                  detail::Intent, detail::Response>;
// Metadata of agent.tool. Its end fires the `tool_call` probe with the tool's name.
using ToolFields =
    detail::Builder<detail::TraceId, detail::Iteration, detail::ToolName, detail::Intent, detail::Result>;
// Metadata of agent.compaction, and the measurement message_count: of the messages before at its start, after at its
// end.
using CompactionFields =
    detail::Builder<detail::TraceId, detail::Iteration, detail::Strategy, detail::Config, detail::MessageCount>;
using OperatorIterationFields =
    detail::Builder<detail::Operator, detail::TraceId, detail::Iteration, detail::OperatorState>;
using CoordinatorIterationFields =
    detail::Builder<detail::Running, detail::NotificationCount, detail::TraceId, detail::Iteration>;

NOPSPAN_CONSTANT SpanName<LlmFields> llm{"agent.llm"};
NOPSPAN_CONSTANT SpanName<ToolFields> tool{"agent.tool"};
// To handlers it ends with agent.compaction.stop, also where an exception ends it: their Event's status() is 3 then.
NOPSPAN_CONSTANT SpanName<CompactionFields> compaction{"agent.compaction"};
// To handlers an iteration's start is the event agent.operator.iteration_start (agent.coordinator.iteration_start), and
// its end none.
NOPSPAN_CONSTANT SpanName<OperatorIterationFields> operator_iteration{"agent.operator.iteration"};
NOPSPAN_CONSTANT SpanName<CoordinatorIterationFields> coordinator_iteration{"agent.coordinator.iteration"};

// --- The other events
//
// Each is called with a callable that takes its builder, or with the span that it belongs to (a Context, Span or
// AsyncSpan) and that. The callable runs only if somebody listens. Handlers see the measurement system_time; probes,
// `event`.

namespace operators {

NOPSPAN_CONSTANT detail::Event<> started{"agent.operator.started"};
// The event alone: a span operator_iteration emits it too.
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

}  // namespace operators

namespace coordinator {

NOPSPAN_CONSTANT detail::CoordinatorEvent<> started{"agent.coordinator.started"};
// The event alone: a span coordinator_iteration emits it too.
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

}  // namespace coordinator

// --- The catalogue as a table

// What a value is meant to be. In a Value: symbol, string and process_id are strings, integer and uint (not negative)
// integers, record is a map or a string.
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
// "symbol", "string", "int", "uint", "bool", "process_id", "list", "list<string>", "list<symbol>", "map", "record",
// "any".
NOPSPAN_API const char* to_string(FieldType type) noexcept;

struct FieldDescription {
  std::string_view key;
  FieldType type = FieldType::any;
  bool content = false;   // leaves the process only with capture_content()
  bool optional = false;  // emitted where it is known; not in the reference's list
};

// A list in static storage.
template <class T>
class Table {
 public:
  constexpr Table() noexcept = default;
  template <std::size_t N>
  constexpr Table(const T (&items)[N]) noexcept : items_(items), size_(N) {}  // NOLINT(*-explicit-*)

  [[nodiscard]] constexpr const T* begin() const noexcept { return items_; }
  [[nodiscard]] constexpr const T* end() const noexcept { return items_ + size_; }
  [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
  constexpr const T& operator[](std::size_t i) const noexcept { return items_[i]; }

 private:
  const T* items_ = nullptr;
  std::size_t size_ = 0;
};

struct EventDescription {
  Name name;
  Table<FieldDescription> measurements;
  Table<FieldDescription> metadata;  // what a span's end has of its start is not repeated here
};

// All events, in the order of event_names().
NOPSPAN_API Table<EventDescription> catalogue() noexcept;
// The prefix of every name here.
constexpr std::string_view event_prefix() noexcept { return "agent"; }
// The names of all 44 events.
NOPSPAN_API EventNames event_names() noexcept;

// --- Events of names and maps that are known at run time

// Emits the event of that name with what is given, no more; keys that are content in the catalogue are content. The end
// of an llm, a tool or a compaction that has the measurement `duration` (ns) is a whole span for probes: it ended now,
// under the thread's current one; all else is `event`. Handlers see that span's ids in the Event, and its attributes.
// The error type of an exception is `reason.type`, if that is at most 63 letters, digits and "_:.<>"; else "_OTHER":
// a reason is content. `duration`, `system_time` and `monotonic_time` are no attributes. invalid_argument, and nothing
// is emitted: a name that the catalogue does not have; a Value that is no map; a measurement that is no number.
// Thread-safe.
NOPSPAN_API Errc emit(Text name, const Value& measurements, const Value& metadata) noexcept;

// The three events of a tool's run that tool_span() cannot enclose. `start_ns`: when it began, CLOCK_MONOTONIC in ns; 0
// or a time to come gives the duration 0. What the catalogue's keys are set to here wins over `metadata`. As emit(),
// the end is a whole span for probes. invalid_argument for metadata that is no map.
NOPSPAN_API Errc emit_tool_start(const Value& metadata) noexcept;
NOPSPAN_API Errc emit_tool_stop(const Value& metadata, const Value& result, std::uint64_t start_ns) noexcept;
// `kind`: error, throw, exit. Without a stacktrace it is an empty list.
NOPSPAN_API Errc emit_tool_exception(const Value& metadata, const Value& error, std::uint64_t start_ns,
                                     Text kind = "error") noexcept;
NOPSPAN_API Errc emit_tool_exception(const Value& metadata, const Value& error, std::uint64_t start_ns, Text kind,
                                     const Value& stacktrace) noexcept;

namespace detail {

// Whether what a tool returns can be metadata, and be kept for a moment before it is passed on.
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

// Runs a tool inside a span agent.tool and returns what it returns, as nopspan::span() does. If that is a Value, a
// number, a bool or a text, the stop has it as `result`; else `work` may say it by nopspan::result(). `metadata`: a
// callable that takes ToolFields&, or a Value that is a map.
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

// A trace id that nobody has used: 32 lower-case hexadecimal digits over 16 bytes from getrandom(2). Thread-safe.
NOPSPAN_API FixedString<32> generate_trace_id() noexcept;

// --- The default logger

// Logs every event of the catalogue in a line, "[agent.tool.stop] trace_id=… duration=…" with all its measurements, to
// the sink of set_log_sink(); without one nothing below warning is shown. A trace_id that is content is "unknown"; what
// cannot be seen, and blanks, brackets and "=" in an id or a name, are "?". One handler,
// "agent-telemetry-default-logger": already_exists if it is attached, not_found if it is not. Thread-safe.
NOPSPAN_API Errc attach_default_logger(LogLevel level = LogLevel::debug) noexcept;
NOPSPAN_API Errc detach_default_logger() noexcept;

}  // namespace nopspan::agent

#endif  // NOPSPAN_AGENT_H
