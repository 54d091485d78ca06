// SPDX-License-Identifier: Apache-2.0
// The agent catalogue as a table: the events of Beamlens.Telemetry, with their measurements and metadata.
#include <nopspan/agent.h>

#include <array>
#include <cstddef>
#include <iterator>
#include <string_view>

namespace nopspan::agent {
namespace {

using Type = FieldType;
constexpr bool kContent = true;
constexpr bool kOptional = true;

// Measurements.
constexpr FieldDescription kStart[] = {{"system_time", Type::integer}};
constexpr FieldDescription kEnd[] = {{"duration", Type::integer}};
constexpr FieldDescription kCompacting[] = {{"system_time", Type::integer}, {"message_count", Type::integer}};

// Metadata that several events have.
constexpr FieldDescription kOperator{"operator", Type::symbol};
constexpr FieldDescription kTraceId{"trace_id", Type::string};
constexpr FieldDescription kIteration{"iteration", Type::integer};
constexpr FieldDescription kToolName{"tool_name", Type::string};
constexpr FieldDescription kIntent{"intent", Type::string, kContent};
constexpr FieldDescription kKind{"kind", Type::symbol};
constexpr FieldDescription kReason{"reason", Type::any, kContent};
constexpr FieldDescription kReasonText{"reason", Type::string, kContent};
constexpr FieldDescription kStacktrace{"stacktrace", Type::list, kContent};
constexpr FieldDescription kCode{"code", Type::string, kContent};
constexpr FieldDescription kCount{"count", Type::integer};
constexpr FieldDescription kSnapshotId{"snapshot_id", Type::string};
constexpr FieldDescription kMs{"ms", Type::integer};
constexpr FieldDescription kThought{"thought", Type::string, kContent};
constexpr FieldDescription kMessage{"message", Type::string, kContent};
constexpr FieldDescription kSkill{"skill", Type::symbol};
constexpr FieldDescription kStatus{"status", Type::symbol};
// Any event of the coordinator may have these.
constexpr FieldDescription kRunning{"running", Type::boolean, !kContent, kOptional};
constexpr FieldDescription kNotifications{"notification_count", Type::uint, !kContent, kOptional};

constexpr FieldDescription kLlmStart[] = {kTraceId, kIteration, {"context_size", Type::integer}};
constexpr FieldDescription kLlmStop[] = {
    kTraceId, kIteration, {"tool_selected", Type::string}, kIntent, {"response", Type::record, kContent}};
constexpr FieldDescription kLlmException[] = {kTraceId, kIteration, kKind, kReason, kStacktrace};
constexpr FieldDescription kToolStart[] = {kTraceId, kIteration, kToolName, kIntent};
constexpr FieldDescription kToolStop[] = {kTraceId, kIteration, kToolName, kIntent, {"result", Type::map, kContent}};
constexpr FieldDescription kToolException[] = {
    kTraceId, kIteration, kToolName, kKind, kReason, kStacktrace, {"intent", Type::string, kContent, kOptional}};

constexpr FieldDescription kOperatorOnly[] = {kOperator};
constexpr FieldDescription kOperatorIteration[] = {kOperator, kTraceId, kIteration, {"operator_state", Type::symbol}};
constexpr FieldDescription kStateChange[] = {
    kOperator, kTraceId, {"from", Type::symbol}, {"to", Type::symbol}, kReasonText};
constexpr FieldDescription kNotificationSent[] = {kOperator, kTraceId, {"notification", Type::record, kContent}};
constexpr FieldDescription kNotificationFailed[] = {kOperator, kTraceId, kReasonText};
constexpr FieldDescription kOperatorCount[] = {kOperator, kTraceId, kCount};
constexpr FieldDescription kSnapshot[] = {kOperator, kTraceId, kSnapshotId};
constexpr FieldDescription kExecuteStart[] = {kOperator, kTraceId, kCode};
constexpr FieldDescription kExecuteComplete[] = {kOperator, kTraceId, kCode, {"result", Type::any, kContent}};
constexpr FieldDescription kExecuteError[] = {kOperator, kTraceId, kCode, kReason};
constexpr FieldDescription kOperatorWait[] = {kOperator, kTraceId, kMs};
constexpr FieldDescription kOperatorThink[] = {kOperator, kTraceId, kThought};
constexpr FieldDescription kOperatorDone[] = {kOperator, kTraceId};
constexpr FieldDescription kOperatorLlmError[] = {
    kOperator, kTraceId, kReason, {"retry_count", Type::integer}, {"will_retry", Type::boolean}};
constexpr FieldDescription kOperatorLoopStopped[] = {kOperator, {"final_state", Type::symbol}};
constexpr FieldDescription kOperatorMessage[] = {kOperator, kMessage};

constexpr FieldDescription kStarted[] = {{"running", Type::boolean}, {"notification_count", Type::integer}};
constexpr FieldDescription kCoordinatorIteration[] = {kTraceId, kIteration, kRunning, kNotifications};
constexpr FieldDescription kGetNotifications[] = {kTraceId, kStatus, kCount, kRunning, kNotifications};
constexpr FieldDescription kUpdateStatuses[] = {
    kTraceId, {"notification_ids", Type::string_list}, kStatus, kRunning, kNotifications};
constexpr FieldDescription kInsightProduced[] = {
    kTraceId, {"insight", Type::record, kContent}, kRunning, kNotifications};
constexpr FieldDescription kCoordinatorDone[] = {
    kTraceId, {"has_unread", Type::boolean}, {"unread_count", Type::uint}, kRunning, kNotifications};
constexpr FieldDescription kCoordinatorLoopStopped[] = {{"reason", Type::symbol}, kRunning, kNotifications};
constexpr FieldDescription kCoordinatorLlmError[] = {kTraceId, kReason, kRunning, kNotifications};
constexpr FieldDescription kCoordinatorMessage[] = {
    {"running", Type::boolean}, {"notification_count", Type::integer}, kMessage};
constexpr FieldDescription kInvokeOperators[] = {kTraceId, {"skills", Type::symbol_list}, kRunning, kNotifications};
constexpr FieldDescription kMessageOperator[] = {kTraceId, kSkill, kRunning, kNotifications};
constexpr FieldDescription kGetStatuses[] = {kTraceId, kRunning, kNotifications};
constexpr FieldDescription kCoordinatorWait[] = {kTraceId, kMs, kRunning, kNotifications};
constexpr FieldDescription kCoordinatorThink[] = {kTraceId, kThought, kRunning, kNotifications};
constexpr FieldDescription kNotificationReceived[] = {
    {"notification_id", Type::string}, {"operator_pid", Type::process_id}, kRunning, kNotifications};
constexpr FieldDescription kOperatorComplete[] = {kSkill, {"result", Type::map, kContent}, kRunning, kNotifications};
constexpr FieldDescription kOperatorCrashed[] = {kSkill, kReason, kRunning, kNotifications};
constexpr FieldDescription kMaxIterations[] = {kIteration, kRunning, kNotifications};

constexpr FieldDescription kCompactionStart[] = {
    kTraceId, kIteration, {"strategy", Type::symbol}, {"config", Type::map}};
constexpr FieldDescription kCompactionStop[] = {kTraceId, kIteration};

constexpr EventDescription kEvents[] = {
    {"agent.llm.start", kStart, kLlmStart},
    {"agent.llm.stop", kEnd, kLlmStop},
    {"agent.llm.exception", kEnd, kLlmException},
    {"agent.tool.start", kStart, kToolStart},
    {"agent.tool.stop", kEnd, kToolStop},
    {"agent.tool.exception", kEnd, kToolException},
    {"agent.operator.started", kStart, kOperatorOnly},
    {"agent.operator.iteration_start", kStart, kOperatorIteration},
    {"agent.operator.state_change", kStart, kStateChange},
    {"agent.operator.notification_sent", kStart, kNotificationSent},
    {"agent.operator.notification_failed", kStart, kNotificationFailed},
    {"agent.operator.get_notifications", kStart, kOperatorCount},
    {"agent.operator.take_snapshot", kStart, kSnapshot},
    {"agent.operator.get_snapshot", kStart, kSnapshot},
    {"agent.operator.get_snapshots", kStart, kOperatorCount},
    {"agent.operator.execute_start", kStart, kExecuteStart},
    {"agent.operator.execute_complete", kStart, kExecuteComplete},
    {"agent.operator.execute_error", kStart, kExecuteError},
    {"agent.operator.wait", kStart, kOperatorWait},
    {"agent.operator.think", kStart, kOperatorThink},
    {"agent.operator.done", kStart, kOperatorDone},
    {"agent.operator.llm_error", kStart, kOperatorLlmError},
    {"agent.operator.loop_stopped", kStart, kOperatorLoopStopped},
    {"agent.operator.unexpected_message", kStart, kOperatorMessage},
    {"agent.coordinator.started", kStart, kStarted},
    {"agent.coordinator.iteration_start", kStart, kCoordinatorIteration},
    {"agent.coordinator.get_notifications", kStart, kGetNotifications},
    {"agent.coordinator.update_notification_statuses", kStart, kUpdateStatuses},
    {"agent.coordinator.insight_produced", kStart, kInsightProduced},
    {"agent.coordinator.done", kStart, kCoordinatorDone},
    {"agent.coordinator.loop_stopped", kStart, kCoordinatorLoopStopped},
    {"agent.coordinator.llm_error", kStart, kCoordinatorLlmError},
    {"agent.coordinator.unexpected_message", kStart, kCoordinatorMessage},
    {"agent.coordinator.invoke_operators", kStart, kInvokeOperators},
    {"agent.coordinator.message_operator", kStart, kMessageOperator},
    {"agent.coordinator.get_operator_statuses", kStart, kGetStatuses},
    {"agent.coordinator.wait", kStart, kCoordinatorWait},
    {"agent.coordinator.think", kStart, kCoordinatorThink},
    {"agent.coordinator.operator_notification_received", kStart, kNotificationReceived},
    {"agent.coordinator.operator_complete", kStart, kOperatorComplete},
    {"agent.coordinator.operator_crashed", kStart, kOperatorCrashed},
    {"agent.coordinator.max_iterations_reached", kStart, kMaxIterations},
    {"agent.compaction.start", kCompacting, kCompactionStart},
    {"agent.compaction.stop", kCompacting, kCompactionStop},
};

constexpr auto kNames = [] {
  std::array<std::string_view, sizeof(kEvents) / sizeof(kEvents[0])> names{};
  for (std::size_t i = 0; i < names.size(); ++i) names[i] = kEvents[i].name.view();
  return names;
}();

}  // namespace

const char* to_string(FieldType type) noexcept {
  constexpr const char* kTypes[] = {"symbol", "string",       "int",          "uint", "bool",   "process_id",
                                    "list",   "list<string>", "list<symbol>", "map",  "record", "any"};
  const auto i = static_cast<std::size_t>(type);
  return i < std::size(kTypes) ? kTypes[i] : "any";
}

Table<EventDescription> catalogue() noexcept { return kEvents; }

EventNames event_names() noexcept { return {kNames.data(), kNames.size()}; }

}  // namespace nopspan::agent
