// SPDX-License-Identifier: Apache-2.0
#include "metric/genai_metrics.h"

#include "facts/engine_facts.h"
#include "facts/row_key.h"
#include "model/otlp_wire.h"
#include "model/service.h"

#include <nopspan/probes.h>

#include <initializer_list>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

constexpr std::pair<std::string_view, GenAiSpan::Text> kTexts[] = {
    {semconv::gen_ai_operation_name, GenAiSpan::operation},
    {semconv::gen_ai_provider_name, GenAiSpan::provider},
    {semconv::gen_ai_request_model, GenAiSpan::request_model},
    {semconv::gen_ai_response_model, GenAiSpan::response_model},
    {semconv::server_address, GenAiSpan::server_address},
    {semconv::server_port, GenAiSpan::server_port},
    {semconv::gen_ai_tool_name, GenAiSpan::tool_name},
    {semconv::gen_ai_tool_type, GenAiSpan::tool_type},
    {semconv::gen_ai_agent_name, GenAiSpan::agent_name},
    {semconv::gen_ai_workflow_name, GenAiSpan::workflow_name},
    {semconv::gen_ai_prompt_name, GenAiSpan::prompt_name},
    {semconv::mcp_method_name, GenAiSpan::mcp_method},
    {semconv::network_transport, GenAiSpan::transport},
    {semconv::rpc_response_status_code, GenAiSpan::rpc_status},
};
static_assert(std::size(kTexts) == GenAiSpan::text_count);

constexpr std::pair<std::string_view, GenAiSpan::Number> kNumbers[] = {
    {semconv::gen_ai_response_time_to_first_chunk, GenAiSpan::first_chunk_s},
    {"gen_ai.latency.time_to_first_token", GenAiSpan::first_token_s},
    {"nopspan.inference_calls", GenAiSpan::inference_calls},
    {"nopspan.tool_calls", GenAiSpan::tool_calls},
};
static_assert(std::size(kNumbers) == GenAiSpan::number_count);

constexpr std::size_t kMostOuter = 65536;

double seconds_of(std::uint64_t ns) { return static_cast<double>(ns) / static_cast<double>(kSecond); }

unsigned kind_of(const Entry& entry) { return (entry.flags & NOPSPAN_FLAG_KIND_MASK) >> NOPSPAN_FLAG_KIND_SHIFT; }
constexpr unsigned kInternal = 1, kServer = 2, kClient = 3;  // OTLP's numbers

// "" if the entry did not fail.
std::string_view error_type_of(const Entry& entry) {
  if (!entry.failed()) return {};
  return entry.error_type.empty() ? semconv::error_type_other : entry.error_type;
}

bool is_inference_operation(std::string_view operation) {
  namespace known = semconv::operation;
  return operation == known::chat || operation == known::generate_content || operation == "text_completion";
}

namespace names = semconv::metric;
using LabelNames = std::vector<std::string>;

LabelNames label_names(std::initializer_list<std::string_view> names_of_it) {
  LabelNames made = {"service.name"};
  for (const std::string_view name : names_of_it) made.emplace_back(name);
  return made;
}

const LabelNames kMcpLabels = label_names(
    {semconv::mcp_method_name, semconv::gen_ai_tool_name, semconv::gen_ai_prompt_name, semconv::gen_ai_operation_name,
     semconv::network_transport, semconv::rpc_response_status_code, semconv::error_type});
const LabelNames kToolLabels = label_names(
    {semconv::gen_ai_tool_name, semconv::gen_ai_agent_name, semconv::gen_ai_tool_type, semconv::error_type});
const LabelNames kAgentLabels =
    label_names({semconv::gen_ai_agent_name, semconv::gen_ai_request_model, semconv::error_type});
const LabelNames kWorkflowLabels = label_names({semconv::gen_ai_workflow_name, semconv::error_type});
const LabelNames kCallLabels = label_names({semconv::gen_ai_agent_name});

// One with the labels of all requests to models, and perhaps another one.
MetricFamily& common_histogram(MetricRegistry& registry, std::string_view name, const char* help,
                               std::span<const double> bounds, std::string_view last_label = {}) {
  LabelNames labels =
      label_names({semconv::gen_ai_operation_name, semconv::gen_ai_provider_name, semconv::gen_ai_request_model,
                   semconv::gen_ai_response_model, semconv::server_address, semconv::server_port});
  if (!last_label.empty()) labels.emplace_back(last_label);
  const bool is_tokens = name == names::client_token_usage;
  return registry.histogram(name, is_tokens ? names::tokens : names::seconds, help, std::move(labels), bounds);
}

using CommonLabels = std::array<std::string_view, 8>;
CommonLabels common_labels(const Entry& entry, const GenAiSpan& span, std::string_view last) {
  return {service_of(**entry.process),          span.text(GenAiSpan::operation),
          span.text(GenAiSpan::provider),       span.text(GenAiSpan::request_model),
          span.text(GenAiSpan::response_model), span.text(GenAiSpan::server_address),
          span.text(GenAiSpan::server_port),    last};
}

}  // namespace

bool GenAiSpan::read(const Entry& entry) {
  texts_.fill({});
  numbers_.fill(-1);
  const auto has = [&](std::string_view key) { return entry.attributes.find(key) != std::string_view::npos; };
  if (!has(semconv::gen_ai_operation_name) && !has(semconv::mcp_method_name)) return false;
  for_each_key_value(entry.attributes, kSpanAttributes, [&](std::string_view key_value) {
    Attribute attribute;
    if (!read_attribute(key_value, attribute)) return;
    for (const auto& [key, which] : kTexts) {
      if (attribute.key == key && texts_[which].empty()) texts_[which] = scalar_text(attribute, written_[which]);
    }
    for (const auto& [key, which] : kNumbers) {
      if (attribute.key != key || numbers_[which] >= 0) continue;
      if (attribute.type == Attribute::Type::integer) numbers_[which] = static_cast<double>(attribute.integer);
      if (attribute.type == Attribute::Type::real) numbers_[which] = attribute.real;
    }
  });
  if (texts_[request_model].empty()) texts_[request_model] = entry.model;
  if (texts_[provider].empty()) texts_[provider] = entry.engine;
  return !texts_[operation].empty() || !texts_[mcp_method].empty();
}

bool GenAiMetrics::take_outer(const Entry& span) {
  if (outer_.empty() || outer_.erase({number_of(**span.process), span.span_id}) == 0) return false;
  add_outer(span);
  return true;
}

void GenAiMetrics::add_outer(const Entry& inside) {
  if (inside.parent_id == 0 || (inside.flags & NOPSPAN_FLAG_REMOTE_PARENT) != 0) return;
  const Id outer(number_of(**inside.process), inside.parent_id);
  if (!outer_.insert(outer).second) return;
  outer_order_.push_back(outer);
  if (outer_order_.size() <= kMostOuter) return;
  outer_.erase(outer_order_.front());
  outer_order_.pop_front();
}

GenAiMetrics::GenAiMetrics(MetricRegistry& registry, Semconv semconv)
    : token_usage_(common_histogram(registry, names::client_token_usage, "Tokens that clients used, by type.",
                                    names::token_boundaries, semconv::gen_ai_token_type)),
      client_duration_(common_histogram(registry, names::client_operation_duration, "Durations of clients' operations.",
                                        names::duration_boundaries, semconv::error_type)),
      first_chunk_(common_histogram(registry, names::client_operation_time_to_first_chunk,
                                    "Times from clients' requests to the first chunk of their responses.",
                                    names::duration_boundaries)),
      per_chunk_(common_histogram(registry, names::client_operation_time_per_output_chunk,
                                  "Times between the chunks of a response.", names::duration_boundaries)),
      server_duration_(common_histogram(registry, names::server_request_duration, "Durations of servers' requests.",
                                        names::duration_boundaries, semconv::error_type)),
      first_token_(common_histogram(registry, names::server_time_to_first_token,
                                    "Times from the begin of servers' requests to their first token.",
                                    names::server_time_to_first_token_boundaries)),
      per_token_(common_histogram(registry, names::server_time_per_output_token,
                                  "Time per output token after the first one, by request.",
                                  names::server_time_per_output_token_boundaries)),
      mcp_client_(registry.histogram(names::mcp_client_operation_duration, names::seconds,
                                     "Durations of MCP requests, as the client sees them.", kMcpLabels,
                                     names::mcp_duration_boundaries)),
      mcp_server_(registry.histogram(names::mcp_server_operation_duration, names::seconds,
                                     "Durations of MCP requests, as the server sees them.", kMcpLabels,
                                     names::mcp_duration_boundaries)) {
  if (semconv == Semconv::v1_41) return;
  execute_tool_ = &registry.histogram(names::execute_tool_duration, names::seconds, "Durations of tool calls.",
                                      kToolLabels, names::duration_boundaries);
  invoke_agent_ = &registry.histogram(names::invoke_agent_duration, names::seconds, "Durations of agents' invocations.",
                                      kAgentLabels, names::invoke_agent_duration_boundaries);
  invoke_workflow_ = &registry.histogram(names::invoke_workflow_duration, names::seconds, "Durations of workflows.",
                                         kWorkflowLabels, names::invoke_workflow_duration_boundaries);
  inference_calls_ =
      &registry.histogram(names::invoke_agent_inference_calls, names::inference_calls,
                          "Requests to models, by invocation of an agent.", kCallLabels, names::call_boundaries);
  tool_calls_ = &registry.histogram(names::invoke_agent_tool_calls, names::tool_calls,
                                    "Tool calls, by invocation of an agent.", kCallLabels, names::call_boundaries);
}

void GenAiMetrics::add(MetricWriter& writer, const Entry& entry, const Exemplar* exemplar) {
  const bool has_request_inside = take_outer(entry);
  if (!span_.read(entry)) return;
  const unsigned kind = kind_of(entry);
  if (!span_.text(GenAiSpan::mcp_method).empty()) {
    if (kind != kClient && kind != kServer) return;
    writer.observe(kind == kServer ? mcp_server_ : mcp_client_, seconds_of(entry.duration_ns),
                   {service_of(**entry.process), span_.text(GenAiSpan::mcp_method), span_.text(GenAiSpan::tool_name),
                    span_.text(GenAiSpan::prompt_name), span_.text(GenAiSpan::operation),
                    span_.text(GenAiSpan::transport), span_.text(GenAiSpan::rpc_status), error_type_of(entry)},
                   exemplar);
  } else if (kind == kClient) {
    add_client(writer, entry, exemplar, has_request_inside);
  } else if (kind == kServer) {
    add_server(writer, entry, exemplar);
  } else if (kind == kInternal) {
    add_internal(writer, entry, exemplar);
  }
}

void GenAiMetrics::add_client(MetricWriter& writer, const Entry& entry, const Exemplar* exemplar,
                              bool has_request_inside) {
  // A span inside it is the request to the model.
  const bool is_inference = is_inference_operation(span_.text(GenAiSpan::operation));
  if (is_inference && (has_request_inside || (entry.has_usage && !entry.counts_tokens))) return;
  if (is_inference) add_outer(entry);
  const auto labels = [&](std::string_view last = {}) { return common_labels(entry, span_, last); };
  writer.observe(client_duration_, seconds_of(entry.duration_ns), labels(error_type_of(entry)), exemplar);
  if (entry.has_usage) {
    writer.observe(token_usage_, static_cast<double>(entry.usage.input), labels(semconv::token_type::input), exemplar);
    writer.observe(token_usage_, static_cast<double>(entry.usage.output), labels(semconv::token_type::output),
                   exemplar);
  }
  double first_s = span_.number(GenAiSpan::first_chunk_s);
  if (first_s < 0 && entry.has_first_token) first_s = seconds_of(entry.first_token_ns);
  if (first_s < 0) return;
  writer.observe(first_chunk_, first_s, labels(), exemplar);
  read_gaps(entry, GapsOf::chunks, gaps_);
  for (const auto& [gap_ns, times] : gaps_) writer.observe(per_chunk_, seconds_of(gap_ns), labels(), exemplar, times);
}

void GenAiMetrics::add_server(MetricWriter& writer, const Entry& entry, const Exemplar* exemplar) {
  const auto labels = [&](std::string_view last = {}) { return common_labels(entry, span_, last); };
  writer.observe(server_duration_, seconds_of(entry.duration_ns), labels(error_type_of(entry)), exemplar);
  double first_s = span_.number(GenAiSpan::first_token_s);
  if (entry.has_first_token) first_s = seconds_of(entry.first_token_ns);
  if (first_s >= 0) writer.observe(first_token_, first_s, labels(), exemplar);
  const auto per_token_ns = time_per_output_token_ns(entry);
  if (per_token_ns) writer.observe(per_token_, seconds_of(*per_token_ns), labels(), exemplar);
}

void GenAiMetrics::add_internal(MetricWriter& writer, const Entry& entry, const Exemplar* exemplar) {
  if (execute_tool_ == nullptr) return;
  const double seconds = seconds_of(entry.duration_ns);
  const std::string_view service = service_of(**entry.process), error = error_type_of(entry);
  const std::string_view operation = span_.text(GenAiSpan::operation), agent = span_.text(GenAiSpan::agent_name);
  if (operation == semconv::operation::execute_tool) {
    writer.observe(*execute_tool_, seconds,
                   {service, span_.text(GenAiSpan::tool_name), agent, span_.text(GenAiSpan::tool_type), error},
                   exemplar);
  } else if (operation == semconv::operation::invoke_workflow) {
    writer.observe(*invoke_workflow_, seconds, {service, span_.text(GenAiSpan::workflow_name), error}, exemplar);
  } else if (operation == semconv::operation::invoke_agent) {
    writer.observe(*invoke_agent_, seconds, {service, agent, span_.text(GenAiSpan::request_model), error}, exemplar);
    const double inferences = span_.number(GenAiSpan::inference_calls), tools = span_.number(GenAiSpan::tool_calls);
    if (inferences >= 0) writer.observe(*inference_calls_, inferences, {service, agent}, exemplar);
    if (tools >= 0) writer.observe(*tool_calls_, tools, {service, agent}, exemplar);
  }
}

}  // namespace nopspan::collector
