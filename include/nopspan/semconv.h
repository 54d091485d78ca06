// SPDX-License-Identifier: Apache-2.0
/// @file
/// The names that OpenTelemetry's GenAI conventions give to attributes, values, metrics and events.
///
/// @code
/// namespace semconv = nopspan::semconv;
/// std::string_view key = semconv::renamed(semconv::gen_ai_usage_cache_creation_input_tokens, nopspan::Semconv::next);
/// @endcode
///
/// Thread safety: everything here is constant.
#ifndef NOPSPAN_SEMCONV_H
#define NOPSPAN_SEMCONV_H

#include <nopspan/detail/config.h>

#include <string_view>
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE {

/// Versions of the conventions. In both the names are in development: they may still change.
enum class Semconv : unsigned char {
  v1_41,  ///< v1.41.1 of open-telemetry/semantic-conventions (ead83b9b0fa3), which nopspan writes by default
  next  ///< open-telemetry/semantic-conventions-genai, where the conventions moved: what its merged pull requests say.
        ///< docs/genai.md names them
};

/// The names of the conventions, as of v1_41. The comment "next" marks a name that only `next` has. nopspan writes such
/// a name by default too, unless v1_41 has another name for the same thing; see renamed().
namespace semconv {

/// @{
/// The key of an attribute, with "_" for ".".
NOPSPAN_CONSTANT std::string_view client_address = "client.address";
NOPSPAN_CONSTANT std::string_view client_port = "client.port";
NOPSPAN_CONSTANT std::string_view error_type = "error.type";
NOPSPAN_CONSTANT std::string_view exception_message = "exception.message";
NOPSPAN_CONSTANT std::string_view exception_stacktrace = "exception.stacktrace";
NOPSPAN_CONSTANT std::string_view exception_type = "exception.type";
NOPSPAN_CONSTANT std::string_view http_response_status_code = "http.response.status_code";
NOPSPAN_CONSTANT std::string_view jsonrpc_request_id = "jsonrpc.request.id";
NOPSPAN_CONSTANT std::string_view mcp_method_name = "mcp.method.name";
NOPSPAN_CONSTANT std::string_view mcp_protocol_version = "mcp.protocol.version";
NOPSPAN_CONSTANT std::string_view mcp_resource_uri = "mcp.resource.uri";
NOPSPAN_CONSTANT std::string_view mcp_session_id = "mcp.session.id";
NOPSPAN_CONSTANT std::string_view network_protocol_name = "network.protocol.name";
NOPSPAN_CONSTANT std::string_view network_protocol_version = "network.protocol.version";
NOPSPAN_CONSTANT std::string_view network_transport = "network.transport";
NOPSPAN_CONSTANT std::string_view rpc_response_status_code = "rpc.response.status_code";
NOPSPAN_CONSTANT std::string_view server_address = "server.address";
NOPSPAN_CONSTANT std::string_view server_port = "server.port";
NOPSPAN_CONSTANT std::string_view gen_ai_agent_description = "gen_ai.agent.description";
NOPSPAN_CONSTANT std::string_view gen_ai_agent_id = "gen_ai.agent.id";
NOPSPAN_CONSTANT std::string_view gen_ai_agent_name = "gen_ai.agent.name";
NOPSPAN_CONSTANT std::string_view gen_ai_agent_version = "gen_ai.agent.version";
NOPSPAN_CONSTANT std::string_view gen_ai_conversation_compacted = "gen_ai.conversation.compacted";  // next
NOPSPAN_CONSTANT std::string_view gen_ai_conversation_id = "gen_ai.conversation.id";
NOPSPAN_CONSTANT std::string_view gen_ai_data_source_id = "gen_ai.data_source.id";
NOPSPAN_CONSTANT std::string_view gen_ai_embeddings_dimension_count = "gen_ai.embeddings.dimension.count";
NOPSPAN_CONSTANT std::string_view gen_ai_evaluation_explanation = "gen_ai.evaluation.explanation";
NOPSPAN_CONSTANT std::string_view gen_ai_evaluation_name = "gen_ai.evaluation.name";
NOPSPAN_CONSTANT std::string_view gen_ai_evaluation_score_label = "gen_ai.evaluation.score.label";
NOPSPAN_CONSTANT std::string_view gen_ai_evaluation_score_value = "gen_ai.evaluation.score.value";
NOPSPAN_CONSTANT std::string_view gen_ai_input_messages = "gen_ai.input.messages";
NOPSPAN_CONSTANT std::string_view gen_ai_memory_query_text = "gen_ai.memory.query.text";      // next
NOPSPAN_CONSTANT std::string_view gen_ai_memory_record_count = "gen_ai.memory.record.count";  // next
NOPSPAN_CONSTANT std::string_view gen_ai_memory_record_id = "gen_ai.memory.record.id";        // next
NOPSPAN_CONSTANT std::string_view gen_ai_memory_records = "gen_ai.memory.records";            // next
NOPSPAN_CONSTANT std::string_view gen_ai_memory_store_id = "gen_ai.memory.store.id";          // next
NOPSPAN_CONSTANT std::string_view gen_ai_operation_name = "gen_ai.operation.name";
NOPSPAN_CONSTANT std::string_view gen_ai_output_messages = "gen_ai.output.messages";
NOPSPAN_CONSTANT std::string_view gen_ai_output_type = "gen_ai.output.type";
NOPSPAN_CONSTANT std::string_view gen_ai_prompt_name = "gen_ai.prompt.name";
NOPSPAN_CONSTANT std::string_view gen_ai_prompt_version = "gen_ai.prompt.version";  // next
NOPSPAN_CONSTANT std::string_view gen_ai_provider_name = "gen_ai.provider.name";
NOPSPAN_CONSTANT std::string_view gen_ai_request_choice_count = "gen_ai.request.choice.count";
NOPSPAN_CONSTANT std::string_view gen_ai_request_encoding_formats = "gen_ai.request.encoding_formats";
NOPSPAN_CONSTANT std::string_view gen_ai_request_frequency_penalty = "gen_ai.request.frequency_penalty";
NOPSPAN_CONSTANT std::string_view gen_ai_request_max_tokens = "gen_ai.request.max_tokens";
NOPSPAN_CONSTANT std::string_view gen_ai_request_model = "gen_ai.request.model";
NOPSPAN_CONSTANT std::string_view gen_ai_request_presence_penalty = "gen_ai.request.presence_penalty";
NOPSPAN_CONSTANT std::string_view gen_ai_request_previous_response_id = "gen_ai.request.previous_response.id";  // next
NOPSPAN_CONSTANT std::string_view gen_ai_request_reasoning_level = "gen_ai.request.reasoning.level";            // next
NOPSPAN_CONSTANT std::string_view gen_ai_request_seed = "gen_ai.request.seed";
NOPSPAN_CONSTANT std::string_view gen_ai_request_stop_sequences = "gen_ai.request.stop_sequences";
NOPSPAN_CONSTANT std::string_view gen_ai_request_stream = "gen_ai.request.stream";
NOPSPAN_CONSTANT std::string_view gen_ai_request_temperature = "gen_ai.request.temperature";
NOPSPAN_CONSTANT std::string_view gen_ai_request_top_k = "gen_ai.request.top_k";
NOPSPAN_CONSTANT std::string_view gen_ai_request_top_p = "gen_ai.request.top_p";
NOPSPAN_CONSTANT std::string_view gen_ai_response_finish_reasons = "gen_ai.response.finish_reasons";
NOPSPAN_CONSTANT std::string_view gen_ai_response_id = "gen_ai.response.id";
NOPSPAN_CONSTANT std::string_view gen_ai_response_model = "gen_ai.response.model";
NOPSPAN_CONSTANT std::string_view gen_ai_response_time_to_first_chunk = "gen_ai.response.time_to_first_chunk";  // s
NOPSPAN_CONSTANT std::string_view gen_ai_retrieval_documents = "gen_ai.retrieval.documents";
NOPSPAN_CONSTANT std::string_view gen_ai_retrieval_query_text = "gen_ai.retrieval.query.text";
NOPSPAN_CONSTANT std::string_view gen_ai_retrieval_top_k = "gen_ai.retrieval.top_k";  // next
NOPSPAN_CONSTANT std::string_view gen_ai_system_instructions = "gen_ai.system_instructions";
NOPSPAN_CONSTANT std::string_view gen_ai_token_type = "gen_ai.token.type";
NOPSPAN_CONSTANT std::string_view gen_ai_tool_call_arguments = "gen_ai.tool.call.arguments";
NOPSPAN_CONSTANT std::string_view gen_ai_tool_call_id = "gen_ai.tool.call.id";
NOPSPAN_CONSTANT std::string_view gen_ai_tool_call_result = "gen_ai.tool.call.result";
NOPSPAN_CONSTANT std::string_view gen_ai_tool_definitions = "gen_ai.tool.definitions";
NOPSPAN_CONSTANT std::string_view gen_ai_tool_description = "gen_ai.tool.description";
NOPSPAN_CONSTANT std::string_view gen_ai_tool_name = "gen_ai.tool.name";
NOPSPAN_CONSTANT std::string_view gen_ai_tool_type = "gen_ai.tool.type";
NOPSPAN_CONSTANT std::string_view gen_ai_usage_audio_cache_read_input_tokens =
    "gen_ai.usage.audio.cache_read.input_tokens";                                                         // next
NOPSPAN_CONSTANT std::string_view gen_ai_usage_audio_input_tokens = "gen_ai.usage.audio.input_tokens";    // next
NOPSPAN_CONSTANT std::string_view gen_ai_usage_audio_output_tokens = "gen_ai.usage.audio.output_tokens";  // next
NOPSPAN_CONSTANT std::string_view gen_ai_usage_cache_creation_input_tokens = "gen_ai.usage.cache_creation.input_tokens";
NOPSPAN_CONSTANT std::string_view gen_ai_usage_cache_read_input_tokens = "gen_ai.usage.cache_read.input_tokens";
NOPSPAN_CONSTANT std::string_view gen_ai_usage_cache_write_input_tokens =
    "gen_ai.usage.cache_write.input_tokens";  // next
NOPSPAN_CONSTANT std::string_view gen_ai_usage_image_cache_read_input_tokens =
    "gen_ai.usage.image.cache_read.input_tokens";                                                         // next
NOPSPAN_CONSTANT std::string_view gen_ai_usage_image_input_tokens = "gen_ai.usage.image.input_tokens";    // next
NOPSPAN_CONSTANT std::string_view gen_ai_usage_image_output_tokens = "gen_ai.usage.image.output_tokens";  // next
NOPSPAN_CONSTANT std::string_view gen_ai_usage_input_tokens = "gen_ai.usage.input_tokens";
NOPSPAN_CONSTANT std::string_view gen_ai_usage_output_tokens = "gen_ai.usage.output_tokens";
NOPSPAN_CONSTANT std::string_view gen_ai_usage_reasoning_output_tokens = "gen_ai.usage.reasoning.output_tokens";
NOPSPAN_CONSTANT std::string_view gen_ai_usage_text_cache_read_input_tokens =
    "gen_ai.usage.text.cache_read.input_tokens";                                                        // next
NOPSPAN_CONSTANT std::string_view gen_ai_usage_text_input_tokens = "gen_ai.usage.text.input_tokens";    // next
NOPSPAN_CONSTANT std::string_view gen_ai_usage_text_output_tokens = "gen_ai.usage.text.output_tokens";  // next
NOPSPAN_CONSTANT std::string_view gen_ai_workflow_name = "gen_ai.workflow.name";
NOPSPAN_CONSTANT std::string_view openai_api_type = "openai.api.type";
NOPSPAN_CONSTANT std::string_view openai_request_service_tier = "openai.request.service_tier";
NOPSPAN_CONSTANT std::string_view openai_response_service_tier = "openai.response.service_tier";
NOPSPAN_CONSTANT std::string_view openai_response_system_fingerprint = "openai.response.system_fingerprint";
/// @}

/// Attributes that the conventions do not have: ReqLLM, vLLM or nopspan add them.
namespace extension {
/// @{
/// The key of an attribute.
NOPSPAN_CONSTANT std::string_view request_id = "nopspan.request_id";
NOPSPAN_CONSTANT std::string_view tokens_at_first_token = "nopspan.tokens_at_first_token";
NOPSPAN_CONSTANT std::string_view gen_ai_latency_e2e = "gen_ai.latency.e2e";                                    // s
NOPSPAN_CONSTANT std::string_view gen_ai_latency_time_in_model_decode = "gen_ai.latency.time_in_model_decode";  // s
NOPSPAN_CONSTANT std::string_view gen_ai_latency_time_in_model_inference =
    "gen_ai.latency.time_in_model_inference";                                                                     // s
NOPSPAN_CONSTANT std::string_view gen_ai_latency_time_in_model_prefill = "gen_ai.latency.time_in_model_prefill";  // s
NOPSPAN_CONSTANT std::string_view gen_ai_latency_time_in_queue = "gen_ai.latency.time_in_queue";                  // s
NOPSPAN_CONSTANT std::string_view gen_ai_latency_time_to_first_token = "gen_ai.latency.time_to_first_token";      // s
NOPSPAN_CONSTANT std::string_view gen_ai_request_reasoning_budget_tokens = "gen_ai.request.reasoning.budget_tokens";
NOPSPAN_CONSTANT std::string_view gen_ai_request_reasoning_effort = "gen_ai.request.reasoning.effort";
NOPSPAN_CONSTANT std::string_view gen_ai_usage_cost = "gen_ai.usage.cost";
NOPSPAN_CONSTANT std::string_view langfuse_cost_details = "langfuse.observation.cost_details";
/// @}
}  // namespace extension

/// Values of gen_ai.operation.name.
namespace operation {
/// @{
/// A value.
NOPSPAN_CONSTANT std::string_view chat = "chat";
NOPSPAN_CONSTANT std::string_view create_agent = "create_agent";
NOPSPAN_CONSTANT std::string_view create_memory = "create_memory";              // next
NOPSPAN_CONSTANT std::string_view create_memory_store = "create_memory_store";  // next
NOPSPAN_CONSTANT std::string_view delete_memory = "delete_memory";              // next
NOPSPAN_CONSTANT std::string_view delete_memory_store = "delete_memory_store";  // next
NOPSPAN_CONSTANT std::string_view embeddings = "embeddings";
NOPSPAN_CONSTANT std::string_view execute_tool = "execute_tool";
NOPSPAN_CONSTANT std::string_view fetch_response = "fetch_response";  // next
NOPSPAN_CONSTANT std::string_view generate_content = "generate_content";
NOPSPAN_CONSTANT std::string_view invoke_agent = "invoke_agent";
NOPSPAN_CONSTANT std::string_view invoke_workflow = "invoke_workflow";
NOPSPAN_CONSTANT std::string_view plan = "plan";  // next
NOPSPAN_CONSTANT std::string_view retrieval = "retrieval";
NOPSPAN_CONSTANT std::string_view search_memory = "search_memory";  // next
NOPSPAN_CONSTANT std::string_view text_completion = "text_completion";
NOPSPAN_CONSTANT std::string_view update_memory = "update_memory";  // next
NOPSPAN_CONSTANT std::string_view upsert_memory = "upsert_memory";  // next
/// @}
}  // namespace operation

/// Values of gen_ai.provider.name.
namespace provider {
/// @{
/// A value.
NOPSPAN_CONSTANT std::string_view anthropic = "anthropic";
NOPSPAN_CONSTANT std::string_view aws_bedrock = "aws.bedrock";
NOPSPAN_CONSTANT std::string_view azure_ai_inference = "azure.ai.inference";
NOPSPAN_CONSTANT std::string_view azure_ai_openai = "azure.ai.openai";
NOPSPAN_CONSTANT std::string_view cohere = "cohere";
NOPSPAN_CONSTANT std::string_view deepseek = "deepseek";
NOPSPAN_CONSTANT std::string_view gcp_gemini = "gcp.gemini";
NOPSPAN_CONSTANT std::string_view gcp_gen_ai = "gcp.gen_ai";
NOPSPAN_CONSTANT std::string_view gcp_vertex_ai = "gcp.vertex_ai";
NOPSPAN_CONSTANT std::string_view groq = "groq";
NOPSPAN_CONSTANT std::string_view ibm_watsonx_ai = "ibm.watsonx.ai";
NOPSPAN_CONSTANT std::string_view mistral_ai = "mistral_ai";
NOPSPAN_CONSTANT std::string_view moonshot_ai = "moonshot_ai";  // next
NOPSPAN_CONSTANT std::string_view openai = "openai";
NOPSPAN_CONSTANT std::string_view perplexity = "perplexity";
NOPSPAN_CONSTANT std::string_view x_ai = "x_ai";
/// @}
}  // namespace provider

/// Values of gen_ai.output.type.
namespace output_type {
/// @{
/// A value.
NOPSPAN_CONSTANT std::string_view image = "image";
NOPSPAN_CONSTANT std::string_view json = "json";
NOPSPAN_CONSTANT std::string_view speech = "speech";
NOPSPAN_CONSTANT std::string_view text = "text";
/// @}
}  // namespace output_type

/// Values of gen_ai.token.type.
namespace token_type {
/// @{
/// A value.
NOPSPAN_CONSTANT std::string_view input = "input";
NOPSPAN_CONSTANT std::string_view output = "output";
/// @}
}  // namespace token_type

/// Values of gen_ai.tool.type.
namespace tool_type {
/// @{
/// A value.
NOPSPAN_CONSTANT std::string_view datastore = "datastore";
NOPSPAN_CONSTANT std::string_view extension = "extension";
NOPSPAN_CONSTANT std::string_view function = "function";
/// @}
}  // namespace tool_type

/// Values of openai.api.type. "embeddings" is ReqLLM's; the conventions lack it.
namespace api_type {
/// @{
/// A value.
NOPSPAN_CONSTANT std::string_view chat_completions = "chat_completions";
NOPSPAN_CONSTANT std::string_view embeddings = "embeddings";
NOPSPAN_CONSTANT std::string_view responses = "responses";
/// @}
}  // namespace api_type

/// The value of error.type if no other is known.
NOPSPAN_CONSTANT std::string_view error_type_other = "_OTHER";

/// Histograms, their units and the upper bounds of their buckets.
namespace metric {
/// @{
/// The name of a histogram.
NOPSPAN_CONSTANT std::string_view client_token_usage = "gen_ai.client.token.usage";
NOPSPAN_CONSTANT std::string_view client_operation_duration = "gen_ai.client.operation.duration";
NOPSPAN_CONSTANT std::string_view client_operation_time_to_first_chunk = "gen_ai.client.operation.time_to_first_chunk";
NOPSPAN_CONSTANT std::string_view client_operation_time_per_output_chunk =
    "gen_ai.client.operation.time_per_output_chunk";
NOPSPAN_CONSTANT std::string_view execute_tool_duration = "gen_ai.execute_tool.duration";                // next
NOPSPAN_CONSTANT std::string_view invoke_agent_duration = "gen_ai.invoke_agent.duration";                // next
NOPSPAN_CONSTANT std::string_view invoke_agent_inference_calls = "gen_ai.invoke_agent.inference_calls";  // next
NOPSPAN_CONSTANT std::string_view invoke_agent_tool_calls = "gen_ai.invoke_agent.tool_calls";            // next
NOPSPAN_CONSTANT std::string_view invoke_workflow_duration = "gen_ai.invoke_workflow.duration";          // next
NOPSPAN_CONSTANT std::string_view mcp_client_operation_duration = "mcp.client.operation.duration";
NOPSPAN_CONSTANT std::string_view mcp_server_operation_duration = "mcp.server.operation.duration";
NOPSPAN_CONSTANT std::string_view server_request_duration = "gen_ai.server.request.duration";
NOPSPAN_CONSTANT std::string_view server_time_per_output_token = "gen_ai.server.time_per_output_token";
NOPSPAN_CONSTANT std::string_view server_time_to_first_token = "gen_ai.server.time_to_first_token";
/// @}

/// @{
/// A unit.
NOPSPAN_CONSTANT std::string_view inference_calls = "{inference_call}";
NOPSPAN_CONSTANT std::string_view seconds = "s";
NOPSPAN_CONSTANT std::string_view tool_calls = "{tool_call}";
NOPSPAN_CONSTANT std::string_view tokens = "{token}";
/// @}

/// @{
/// Upper bounds of buckets. duration_boundaries are those of all durations that have none of their own.
NOPSPAN_CONSTANT double duration_boundaries[] = {0.01, 0.02, 0.04, 0.08,  0.16,  0.32,  0.64,
                                                 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92};
NOPSPAN_CONSTANT double token_boundaries[] = {1,     4,     16,     64,      256,     1024,     4096,
                                              16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864};
NOPSPAN_CONSTANT double call_boundaries[] = {1, 2, 4, 8, 16, 32, 64, 128};  // of calls per invocation of an agent
NOPSPAN_CONSTANT double invoke_agent_duration_boundaries[] = {0.1,  0.2,  0.4,  0.8,   1.6,   3.2,  6.4,
                                                              12.8, 25.6, 51.2, 102.4, 204.8, 409.6};
NOPSPAN_CONSTANT double invoke_workflow_duration_boundaries[] = {1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200};
NOPSPAN_CONSTANT double mcp_duration_boundaries[] = {0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300};
NOPSPAN_CONSTANT double server_time_per_output_token_boundaries[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,
                                                                     0.3,  0.4,   0.5,  0.75,  1,   2.5};
NOPSPAN_CONSTANT double server_time_to_first_token_boundaries[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,
                                                                   0.25,  0.5,   0.75, 1,    2.5,  5,    7.5,  10};
/// @}
}  // namespace metric

/// Names of events. Most of those of genai_spans.h are not part of the conventions.
namespace event {
/// @{
/// The name of an event.
NOPSPAN_CONSTANT std::string_view exception = "exception";
NOPSPAN_CONSTANT std::string_view client_inference_operation_details = "gen_ai.client.inference.operation.details";
NOPSPAN_CONSTANT std::string_view client_operation_exception = "gen_ai.client.operation.exception";
NOPSPAN_CONSTANT std::string_view evaluation_result = "gen_ai.evaluation.result";
/// @}
}  // namespace event

namespace detail {
struct Rename {
  std::string_view v1_41, next;
};
NOPSPAN_CONSTANT Rename renames[] = {
    {gen_ai_usage_cache_creation_input_tokens, gen_ai_usage_cache_write_input_tokens},
    {extension::gen_ai_request_reasoning_effort, gen_ai_request_reasoning_level},
};
}  // namespace detail

/// The name that `version` has for an attribute. `key` is its name in v1_41. In most cases the result is `key` itself.
/// `operation` is the gen_ai.operation.name of the span. It matters for gen_ai.request.top_k, which `next` calls
/// gen_ai.retrieval.top_k on the span of a retrieval.
constexpr std::string_view renamed(std::string_view key, Semconv version, std::string_view operation = {}) noexcept {
  if (version == Semconv::v1_41) return key;
  if (key == gen_ai_request_top_k && operation == operation::retrieval) return gen_ai_retrieval_top_k;
  for (const detail::Rename& rename : detail::renames) {
    if (rename.v1_41 == key) return rename.next;
  }
  return key;
}

/// The attribute that names what an operation is done with: gen_ai.tool.name for execute_tool. The name of a span is
/// its operation and the value of this attribute. Empty if the conventions name the span by its operation alone.
constexpr std::string_view target_key(std::string_view operation) noexcept {
  if (operation == operation::execute_tool) return gen_ai_tool_name;
  if (operation == operation::invoke_agent || operation == operation::create_agent || operation == operation::plan) {
    return gen_ai_agent_name;
  }
  if (operation == operation::invoke_workflow) return gen_ai_workflow_name;
  if (operation == operation::retrieval) return gen_ai_data_source_id;
  return operation.find("_memory") != std::string_view::npos ? std::string_view() : gen_ai_request_model;
}

}  // namespace semconv

}  // namespace NOPSPAN_NAMESPACE

#endif  // NOPSPAN_SEMCONV_H
