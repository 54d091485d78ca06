// SPDX-License-Identifier: Apache-2.0
// What an exporter needs of an event beside its attributes: the conventions' name of the span, its exception and its
// metrics. They are made of the attributes, by the functions for metadata that does not come from the catalogues.
#include "genai/genai_mapping.h"
#include "handlers/registry.h"

#include <nopspan/event.h>
#include <nopspan/genai.h>
#include <nopspan/probes.h>
#include <nopspan/semconv.h>
#include <nopspan/span.h>
#include <nopspan/types.h>

#include <cmath>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nopspan::genai {
namespace {

SpanKind kind_of(const Event& event) noexcept {
  return static_cast<SpanKind>((event.flags() & NOPSPAN_FLAG_KIND_MASK) >> NOPSPAN_FLAG_KIND_SHIFT);
}

// "tools/call weather" or "initialize".
std::string mcp_span_name(std::string_view method, const FieldsView& attributes) {
  std::string name(method);
  for (const std::string_view key : {semconv::gen_ai_tool_name, semconv::gen_ai_prompt_name}) {
    const std::string_view target = attributes.find(key).as_string();
    if (target.empty()) continue;
    (name += ' ') += target;
    break;
  }
  return name;
}

// The name of the span whose event it is, or that of an event that is none of a span's.
std::string_view own_name(std::string_view event) noexcept {
  const nopspan::detail::EventName name(event);
  const bool is_spans = name.suffix == ".start" || name.suffix == ".stop" || name.suffix == ".exception";
  return is_spans ? name.base : event;
}

// The attributes that metrics need, in the shape of the reference's metadata.
Value metadata_of(const FieldsView& attributes) {
  const auto get = [&](std::string_view key) { return attributes.find(key).copy(); };
  Value streaming;
  const double first_s = attributes.find(semconv::gen_ai_response_time_to_first_chunk).as_double(-1);
  if (first_s >= 0) streaming = Value::map({{"time_to_first_chunk", std::llround(first_s * 1e9)}});
  return Value::map(
      {{"operation", get(semconv::gen_ai_operation_name)},
       {"provider", get(semconv::gen_ai_provider_name)},
       {"model", Value::map({{"id", get(semconv::gen_ai_request_model)}})},
       {"mode", streaming.is_null() ? "" : "stream"},
       {"streaming", streaming},
       {"server", Value::map({{"address", get(semconv::server_address)}, {"port", get(semconv::server_port)}})},
       {"usage", Value::map({{"input", get(semconv::gen_ai_usage_input_tokens)},
                             {"output", get(semconv::gen_ai_usage_output_tokens)}})},
       {"response_payload", Value::map({{"model", get(semconv::gen_ai_response_model)}})},
       {"error", get(semconv::error_type)}});
}

// A histogram of spans that are not requests to a model, and the attributes of the span that its values have.
struct Histogram {
  std::string_view name;
  StaticList<double> boundaries;
  StaticList<std::string_view> keys;

  [[nodiscard]] Metric of(const FieldsView& attributes, std::string_view unit, Value value, bool with_error) const {
    Value::Map own;
    for (const std::string_view key : keys) {
      const ValueView attribute = attributes.find(key);
      if (attribute.exists()) own.emplace_back(key, attribute.copy());
    }
    const ValueView error = attributes.find(semconv::error_type);
    if (with_error && error.exists()) own.emplace_back(semconv::error_type, error.copy());
    return {name, unit, std::move(value), boundaries.begin(), boundaries.size(), Value(std::move(own))};
  }
};

constexpr std::string_view kToolKeys[] = {semconv::gen_ai_tool_name, semconv::gen_ai_agent_name,
                                          semconv::gen_ai_tool_type};
constexpr std::string_view kAgentKeys[] = {semconv::gen_ai_agent_name, semconv::gen_ai_request_model};
constexpr std::string_view kWorkflowKeys[] = {semconv::gen_ai_workflow_name};
constexpr std::string_view kMcpKeys[] = {semconv::mcp_method_name,
                                         semconv::gen_ai_tool_name,
                                         semconv::gen_ai_operation_name,
                                         semconv::gen_ai_prompt_name,
                                         semconv::network_transport,
                                         semconv::mcp_protocol_version,
                                         semconv::rpc_response_status_code,
                                         semconv::network_protocol_name,
                                         semconv::network_protocol_version,
                                         semconv::server_address,
                                         semconv::server_port};

namespace metric = semconv::metric;
constexpr Histogram kExecuteTool{metric::execute_tool_duration, metric::duration_boundaries, kToolKeys};
constexpr Histogram kInvokeAgent{metric::invoke_agent_duration, metric::invoke_agent_duration_boundaries, kAgentKeys};
constexpr std::string_view kCallKeys[] = {semconv::gen_ai_agent_name};
constexpr Histogram kInferenceCalls{metric::invoke_agent_inference_calls, metric::call_boundaries, kCallKeys};
constexpr Histogram kToolCalls{metric::invoke_agent_tool_calls, metric::call_boundaries, kCallKeys};
constexpr Histogram kInvokeWorkflow{metric::invoke_workflow_duration, metric::invoke_workflow_duration_boundaries,
                                    kWorkflowKeys};
constexpr Histogram kMcpClient{metric::mcp_client_operation_duration, metric::mcp_duration_boundaries, kMcpKeys};
constexpr Histogram kMcpServer{metric::mcp_server_operation_duration, metric::mcp_duration_boundaries, kMcpKeys};

// The histogram of the durations of such a span. Null if the conventions have none.
const Histogram* duration_histogram(const FieldsView& attributes, std::string_view operation, SpanKind kind) noexcept {
  if (attributes.find(semconv::mcp_method_name).exists()) {
    return kind == SpanKind::server ? &kMcpServer : kind == SpanKind::client ? &kMcpClient : nullptr;
  }
  if (kind != SpanKind::internal) return nullptr;
  if (operation == semconv::operation::execute_tool) return &kExecuteTool;
  if (operation == semconv::operation::invoke_agent) return &kInvokeAgent;
  return operation == semconv::operation::invoke_workflow ? &kInvokeWorkflow : nullptr;
}

std::vector<Metric> metrics_of(const Histogram& durations, const Event& event, const FieldsView& attributes) {
  std::vector<Metric> made;
  const double seconds = nopspan::detail::seconds_of(event.duration_ns());
  made.push_back(durations.of(attributes, metric::seconds, seconds, true));
  const auto add_calls = [&](const Histogram& calls, std::string_view unit, std::string_view key) {
    const ValueView count = event.measurement(key);
    if (count.exists() && count.as_int(-1) >= 0) made.push_back(calls.of(attributes, unit, count.copy(), false));
  };
  if (&durations != &kInvokeAgent) return made;
  add_calls(kInferenceCalls, metric::inference_calls, "inference_calls");
  add_calls(kToolCalls, metric::tool_calls, "tool_calls");
  return made;
}

}  // namespace

std::string span_name(const Event& event) {
  const FieldsView attributes = event.attributes();
  const std::string_view method = attributes.find(semconv::mcp_method_name).as_string();
  if (!method.empty()) return mcp_span_name(method, attributes);
  const std::string_view operation = attributes.find(semconv::gen_ai_operation_name).as_string();
  if (operation.empty()) return std::string(own_name(event.name()));
  const std::string_view key = semconv::target_key(operation);
  return span_name(operation, key.empty() ? std::string_view() : attributes.find(key).as_string());
}

Value exception_event(const Event& event) {
  if (event.status() != Status::exception) return {};
  const ValueView reason = event.metadata("reason");
  Value exception;
  exception.set(semconv::exception_type, reason.find("type").copy());
  const ValueView message = reason.find("message");
  if (!message.is_null()) exception.set(semconv::exception_message, message.copy());
  return exception;
}

std::vector<Metric> metrics(const Event& event) {
  if (!event.measurement("duration").exists()) return {};
  const FieldsView attributes = event.attributes();
  const std::string_view operation = attributes.find(semconv::gen_ai_operation_name).as_string();
  const Histogram* const durations = duration_histogram(attributes, operation, kind_of(event));
  if (durations != nullptr) return metrics_of(*durations, event, attributes);
  if (kind_of(event) != SpanKind::client || operation.empty()) return {};
  const Value metadata = metadata_of(attributes);
  const ValueView error_type = attributes.find(semconv::error_type);
  if (!error_type.exists()) return metrics_stop(metadata, event.duration_ns());
  std::vector<Metric> failed = metrics_exception(metadata, event.duration_ns());
  for (Metric& metric : failed) metric.attributes.set(semconv::error_type, error_type.copy());
  return failed;
}

}  // namespace nopspan::genai
