// SPDX-License-Identifier: Apache-2.0
// What an exporter needs of an event beside its attributes: the conventions' name of the span, its exception and its
// metrics. They are made of the attributes, by the functions for metadata that does not come from the catalogues.
#include "handlers/registry.h"

#include <nopspan/event.h>
#include <nopspan/genai.h>
#include <nopspan/probes.h>
#include <nopspan/semconv.h>
#include <nopspan/span.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::genai {
namespace {

SpanKind kind_of(const Event& event) noexcept {
  return static_cast<SpanKind>((event.flags() & NOPSPAN_FLAG_KIND_MASK) >> NOPSPAN_FLAG_KIND_SHIFT);
}

// The attribute that names what the operation is done with.
std::string_view target_key(std::string_view operation) noexcept {
  if (operation == semconv::operation::execute_tool) return semconv::gen_ai_tool_name;
  if (operation == semconv::operation::invoke_agent) return semconv::gen_ai_agent_name;
  return semconv::gen_ai_request_model;
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

}  // namespace

std::string span_name(const Event& event) {
  const FieldsView attributes = event.attributes();
  const std::string_view operation = attributes.find(semconv::gen_ai_operation_name).as_string();
  if (operation.empty()) return std::string(own_name(event.name()));
  return span_name(operation, attributes.find(target_key(operation)).as_string());
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
  const FieldsView attributes = event.attributes();
  const bool is_request =
      kind_of(event) == SpanKind::client && attributes.find(semconv::gen_ai_operation_name).exists();
  if (!is_request || !event.measurement("duration").exists()) return {};
  const Value metadata = metadata_of(attributes);
  const ValueView error_type = attributes.find(semconv::error_type);
  if (!error_type.exists()) return metrics_stop(metadata, event.duration_ns());
  std::vector<Metric> failed = metrics_exception(metadata, event.duration_ns());
  for (Metric& metric : failed) metric.attributes.set(semconv::error_type, error_type.copy());
  return failed;
}

}  // namespace nopspan::genai
