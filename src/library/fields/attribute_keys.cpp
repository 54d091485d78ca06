// SPDX-License-Identifier: Apache-2.0
#include "fields/attribute_keys.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace nopspan::detail {
namespace {

constexpr Key kNoKey = AttributeKey::kNoKey;

// If a key has two meanings where it is set, the first one counts.
constexpr AttributeKey kAttributeKeys[] = {
    // A retry.
    {"reason", kNoKey, "retry.reason", AttributeKey::retry},
    {"attempt", kNoKey, "retry.attempt", AttributeKey::retry},
    {"delay_ms", kNoKey, "retry.delay_ms", AttributeKey::retry},
    {"status_code", kNoKey, "http.response.status_code", AttributeKey::retry},
    // The request.
    {"operation", Key::operation, {}},
    {"provider", Key::provider, {}},
    {"engine", Key::engine, "nopspan.engine"},
    {"model", Key::model, {}},
    {"request_id", Key::request_id, {}},
    {"temperature", Key::temperature, {}},
    {"top_p", Key::top_p, {}},
    {"top_k", Key::top_k, {}},
    {"max_tokens", Key::max_tokens, {}},
    {"frequency_penalty", Key::frequency_penalty, {}},
    {"presence_penalty", Key::presence_penalty, {}},
    {"stop_sequences", Key::stop_sequences, {}},
    {"seed", Key::seed, {}},
    {"n", Key::n, {}},
    {"stream", Key::stream, {}},
    {"encoding_formats", Key::encoding_formats, {}},
    {"conversation_id", Key::conversation_id, {}},
    {"conversation_compacted", kNoKey, "gen_ai.conversation.compacted", AttributeKey::llm},
    {"previous_response_id", kNoKey, "gen_ai.request.previous_response.id", AttributeKey::llm},
    {"prompt_name", kNoKey, "gen_ai.prompt.name", AttributeKey::llm},
    {"prompt_version", kNoKey, "gen_ai.prompt.version", AttributeKey::llm},
    {"service_tier", Key::service_tier, {}},
    {"reasoning_effort", Key::requested_effort, {}},
    {"reasoning_budget_tokens", Key::requested_budget_tokens, {}},
    {"server.address", Key::server_address, {}},
    {"server.port", Key::server_port, {}},
    {"server_path", Key::server_path, {}},
    {"tenant", kNoKey, "nopspan.tenant"},
    // The response.
    {"usage", Key::usage, {}},
    {"input_tokens", Key::input_tokens, {}},
    {"output_tokens", Key::output_tokens, {}},
    {"cached_tokens", Key::cache_read_input_tokens, {}},
    {"cache_creation_tokens", Key::cache_creation_input_tokens, {}},
    {"reasoning_tokens", Key::reasoning_tokens, {}},
    {"text_input_tokens", kNoKey, "gen_ai.usage.text.input_tokens", AttributeKey::llm},
    {"text_output_tokens", kNoKey, "gen_ai.usage.text.output_tokens", AttributeKey::llm},
    {"text_cached_tokens", kNoKey, "gen_ai.usage.text.cache_read.input_tokens", AttributeKey::llm},
    {"image_input_tokens", kNoKey, "gen_ai.usage.image.input_tokens", AttributeKey::llm},
    {"image_output_tokens", kNoKey, "gen_ai.usage.image.output_tokens", AttributeKey::llm},
    {"image_cached_tokens", kNoKey, "gen_ai.usage.image.cache_read.input_tokens", AttributeKey::llm},
    {"audio_input_tokens", kNoKey, "gen_ai.usage.audio.input_tokens", AttributeKey::llm},
    {"audio_output_tokens", kNoKey, "gen_ai.usage.audio.output_tokens", AttributeKey::llm},
    {"audio_cached_tokens", kNoKey, "gen_ai.usage.audio.cache_read.input_tokens", AttributeKey::llm},
    {"input_cost", Key::input_cost, {}},
    {"output_cost", Key::output_cost, {}},
    {"reasoning_cost", Key::reasoning_cost, {}},
    {"total_cost", Key::total_cost, {}},
    {"finish_reason", Key::finish_reason, {}},
    {"http_status", Key::http_status, {}},
    {"response_id", Key::response_id, {}},
    {"response_model", Key::response_model, {}},
    {"provider_meta", Key::provider_meta, {}},
    {"dimensions", Key::dimensions, {}},
    {"error.message", kNoKey, "nopspan.error.message", AttributeKey::all, true},
    {"response", kNoKey, "nopspan.response", AttributeKey::all, true},
    {"step_result", kNoKey, "nopspan.step_result", AttributeKey::llm, true},
    {"chat_result", kNoKey, "nopspan.chat_result", AttributeKey::llm, true},
    {"error", kNoKey, "nopspan.error", AttributeKey::all, true},
    {"image_count", kNoKey, "nopspan.image_count", AttributeKey::llm},
    {"input_messages", kNoKey, "gen_ai.input.messages", AttributeKey::all, true},
    {"output_messages", kNoKey, "gen_ai.output.messages", AttributeKey::all, true},
    {"system_instructions", kNoKey, "gen_ai.system_instructions", AttributeKey::all, true},
    {"tool_definitions", kNoKey, "gen_ai.tool.definitions", AttributeKey::all, true},
    // Tools and agents.
    {"tool_name", kNoKey, "gen_ai.tool.name"},
    {"tool_call_id", kNoKey, "gen_ai.tool.call.id"},
    {"tool_type", kNoKey, "gen_ai.tool.type"},
    {"tool_description", kNoKey, "gen_ai.tool.description"},
    {"arguments", kNoKey, "gen_ai.tool.call.arguments", AttributeKey::all, true},
    {"gen_ai.tool.arguments", kNoKey, "gen_ai.tool.call.arguments", AttributeKey::all, true, "arguments"},
    {"result", kNoKey, "gen_ai.tool.call.result", AttributeKey::tool, true},
    {"result", kNoKey, "nopspan.result", AttributeKey::agent, true},
    {"inference_calls", kNoKey, "nopspan.inference_calls", AttributeKey::llm},
    {"tool_calls", kNoKey, "nopspan.tool_calls", AttributeKey::llm},
    {"gen_ai.evaluation.explanation", kNoKey, "gen_ai.evaluation.explanation", AttributeKey::llm, true},
    {"gen_ai.memory.query.text", kNoKey, "gen_ai.memory.query.text", AttributeKey::llm, true},
    {"gen_ai.memory.records", kNoKey, "gen_ai.memory.records", AttributeKey::llm, true},
    {"gen_ai.retrieval.query.text", kNoKey, "gen_ai.retrieval.query.text", AttributeKey::llm, true},
    {"gen_ai.retrieval.documents", kNoKey, "gen_ai.retrieval.documents", AttributeKey::llm, true},
    {"agent_id", kNoKey, "gen_ai.agent.id"},
    {"agent_name", kNoKey, "gen_ai.agent.name", AttributeKey::all, false, "operator"},
    {"agent_description", kNoKey, "gen_ai.agent.description"},
    {"agent_version", kNoKey, "gen_ai.agent.version"},
    {"operator", kNoKey, "gen_ai.agent.name", AttributeKey::agent},
    {"trace_id", kNoKey, "nopspan.trace_id", AttributeKey::agent},
    {"iteration", kNoKey, "nopspan.iteration", AttributeKey::agent},
    {"context_size", kNoKey, "nopspan.context_size", AttributeKey::agent},
    {"tool_selected", kNoKey, "nopspan.tool_selected", AttributeKey::agent},
    {"intent", kNoKey, "nopspan.intent", AttributeKey::agent, true},
    {"operator_state", kNoKey, "nopspan.operator_state", AttributeKey::agent},
    {"from", kNoKey, "nopspan.from", AttributeKey::agent},
    {"to", kNoKey, "nopspan.to", AttributeKey::agent},
    {"notification", kNoKey, "nopspan.notification", AttributeKey::agent, true},
    {"count", kNoKey, "nopspan.count", AttributeKey::agent},
    {"snapshot_id", kNoKey, "nopspan.snapshot_id", AttributeKey::agent},
    {"code", kNoKey, "nopspan.code", AttributeKey::agent, true},
    {"ms", kNoKey, "nopspan.ms", AttributeKey::agent},
    {"thought", kNoKey, "nopspan.thought", AttributeKey::agent, true},
    {"retry_count", kNoKey, "nopspan.retry_count", AttributeKey::agent},
    {"will_retry", kNoKey, "nopspan.will_retry", AttributeKey::agent},
    {"final_state", kNoKey, "nopspan.final_state", AttributeKey::agent},
    {"message", kNoKey, "nopspan.message", AttributeKey::agent, true},
    {"running", kNoKey, "nopspan.running", AttributeKey::agent},
    {"notification_count", kNoKey, "nopspan.notification_count", AttributeKey::agent},
    {"status", kNoKey, "nopspan.status", AttributeKey::agent},
    {"notification_ids", kNoKey, "nopspan.notification_ids", AttributeKey::agent},
    {"insight", kNoKey, "nopspan.insight", AttributeKey::agent, true},
    {"has_unread", kNoKey, "nopspan.has_unread", AttributeKey::agent},
    {"unread_count", kNoKey, "nopspan.unread_count", AttributeKey::agent},
    {"skills", kNoKey, "nopspan.skills", AttributeKey::agent},
    {"skill", kNoKey, "nopspan.skill", AttributeKey::agent},
    {"notification_id", kNoKey, "nopspan.notification_id", AttributeKey::agent},
    {"operator_pid", kNoKey, "nopspan.operator_pid", AttributeKey::agent},
    {"message_count", kNoKey, "nopspan.message_count", AttributeKey::agent},
    {"message_count_before", kNoKey, "nopspan.message_count_before", AttributeKey::agent},
    {"strategy", kNoKey, "nopspan.strategy", AttributeKey::agent},
    {"config", kNoKey, "nopspan.config", AttributeKey::agent},
    {"reason", kNoKey, "nopspan.reason"},
    {"kind", kNoKey, "nopspan.exception.kind"},
    {"stacktrace", kNoKey, "nopspan.stacktrace", AttributeKey::all, true},
    {"abandoned", kNoKey, "nopspan.abandoned"},
    {"cancel.reason", kNoKey, "nopspan.cancel.reason"},
    {"cancelled", kNoKey, "nopspan.cancelled"},
    // Measurements.
    {"opened_ns", kNoKey, "nopspan.opened_ns"},
    {"stream_tokens", kNoKey, "nopspan.stream_tokens"},
    {"time_to_first_token_ns", kNoKey, "nopspan.time_to_first_token_ns"},
    {"gap_p50_ns", kNoKey, "nopspan.gap_p50_ns"},
    {"gap_p99_ns", kNoKey, "nopspan.gap_p99_ns"},
    {"gap_max_ns", kNoKey, "nopspan.gap_max_ns"},
    {"gaps_ns", kNoKey, "nopspan.gaps_ns"},
    {"token_gaps_ns", kNoKey, "nopspan.token_gaps_ns"},
    {"arrival_ns", kNoKey, "nopspan.arrival_ns", AttributeKey::engine},
    {"queue_ns", kNoKey, "nopspan.queue_ns", AttributeKey::engine},
    {"prefill_ns", kNoKey, "nopspan.prefill_ns", AttributeKey::engine},
    {"decode_ns", kNoKey, "nopspan.decode_ns", AttributeKey::engine},
    {"ttft_ns", kNoKey, "nopspan.ttft_ns", AttributeKey::engine},
    {"time_per_output_token_ns", kNoKey, "nopspan.time_per_output_token_ns", AttributeKey::engine},
    {"tokens_per_second", kNoKey, "nopspan.tokens_per_second", AttributeKey::engine},
    {"preemptions", kNoKey, "nopspan.preemptions", AttributeKey::engine},
    {"batch_size", kNoKey, "nopspan.batch_size", AttributeKey::engine},
    {"prefill_tokens", kNoKey, "nopspan.prefill_tokens", AttributeKey::engine},
    {"decode_tokens", kNoKey, "nopspan.decode_tokens", AttributeKey::engine},
    {"drafts", kNoKey, "nopspan.drafts", AttributeKey::engine},
    {"drafted_tokens", kNoKey, "nopspan.drafted_tokens", AttributeKey::engine},
    {"accepted_tokens", kNoKey, "nopspan.accepted_tokens", AttributeKey::engine},
    {"accepted_by_position", kNoKey, "nopspan.accepted_by_position", AttributeKey::engine},
    {"adapter", kNoKey, "nopspan.adapter", AttributeKey::engine},
    {"recomputed_tokens", kNoKey, "nopspan.recomputed_tokens", AttributeKey::engine},
    {"admission_ns", kNoKey, "nopspan.admission_ns", AttributeKey::engine},
    {"admission_reason", kNoKey, "nopspan.admission_reason", AttributeKey::engine},
    {"prompt_chunks", kNoKey, "nopspan.prompt_chunks", AttributeKey::engine},
    {"cached_device_tokens", kNoKey, "nopspan.cached_device_tokens", AttributeKey::engine},
    {"cached_host_tokens", kNoKey, "nopspan.cached_host_tokens", AttributeKey::engine},
    {"cached_external_tokens", kNoKey, "nopspan.cached_external_tokens", AttributeKey::engine},
    {"chunk", kNoKey, "nopspan.chunk", AttributeKey::engine},
    {"chunks", kNoKey, "nopspan.chunks", AttributeKey::engine},
    {"from", kNoKey, "nopspan.from", AttributeKey::engine},
    {"to", kNoKey, "nopspan.to", AttributeKey::engine},
    {"direction", kNoKey, "nopspan.direction", AttributeKey::engine},
    {"bytes", kNoKey, "nopspan.bytes", AttributeKey::engine},
    {"blocks", kNoKey, "nopspan.blocks", AttributeKey::engine},
    {"tokens", kNoKey, "nopspan.tokens", AttributeKey::engine},
    {"device", kNoKey, "nopspan.device", AttributeKey::engine},
    {"mode", kNoKey, "nopspan.mode", AttributeKey::engine},
    {"tier", kNoKey, "nopspan.tier", AttributeKey::engine},
    {"lifetime_ns", kNoKey, "nopspan.lifetime_ns", AttributeKey::engine},
    {"idle_ns", kNoKey, "nopspan.idle_ns", AttributeKey::engine},
    {"queried_tokens", kNoKey, "nopspan.queried_tokens", AttributeKey::engine},
    {"hit_tokens", kNoKey, "nopspan.hit_tokens", AttributeKey::engine},
    {"external_queried_tokens", kNoKey, "nopspan.external_queried_tokens", AttributeKey::engine},
    {"external_hit_tokens", kNoKey, "nopspan.external_hit_tokens", AttributeKey::engine},
};
constexpr std::size_t kCount = sizeof(kAttributeKeys) / sizeof(kAttributeKeys[0]);

constexpr std::size_t kSlots = 512;
static_assert(2 * kCount <= kSlots);

// A cheap hash. A collision only makes the search one step longer.
constexpr std::size_t slot_of(std::string_view key) noexcept {
  const auto byte = [key](std::size_t i) { return static_cast<std::size_t>(static_cast<unsigned char>(key[i])); };
  if (key.empty()) return 0;
  const std::size_t size = key.size();
  const std::size_t mixed =
      byte(0) * 31 + byte(size / 2) * 131 + byte(size - 1) * 17 + byte(size / 3) * 71 + size * 613;
  return (mixed ^ (mixed >> 7U)) & (kSlots - 1);
}

struct Slots {
  std::array<std::uint8_t, kSlots> number{};  // index in kAttributeKeys + 1; 0: empty
};
constexpr Slots make_slots() noexcept {
  Slots slots;
  for (std::size_t i = 0; i < kCount; ++i) {
    std::size_t at = slot_of(kAttributeKeys[i].key);
    while (slots.number[at] != 0) at = (at + 1) & (kSlots - 1);
    slots.number[at] = static_cast<std::uint8_t>(i + 1);
  }
  return slots;
}
constexpr Slots kTable = make_slots();

}  // namespace

AttributeKey::Of attribute_keys_of(std::string_view name) noexcept {
  constexpr auto kLlmTool = static_cast<AttributeKey::Of>(AttributeKey::llm | AttributeKey::tool);
  constexpr auto kAgentTool = static_cast<AttributeKey::Of>(AttributeKey::agent | AttributeKey::tool);
  constexpr std::pair<std::string_view, AttributeKey::Of> kPrefixes[] = {{"llm.tool", kLlmTool},
                                                                         {"agent.tool", kAgentTool},
                                                                         {"llm.", AttributeKey::llm},
                                                                         {"agent.", AttributeKey::agent},
                                                                         {"engine.", AttributeKey::engine},
                                                                         {"gen_ai.", AttributeKey::llm},
                                                                         {"mcp.", kLlmTool}};
  for (const auto& [prefix, of] : kPrefixes) {
    if (name.substr(0, prefix.size()) == prefix) return of;
  }
  return {};
}

const AttributeKey* find_attribute_key(std::string_view key, AttributeKey::Of of) noexcept {
  for (std::size_t at = slot_of(key); kTable.number[at] != 0; at = (at + 1) & (kSlots - 1)) {
    const AttributeKey& known = kAttributeKeys[kTable.number[at] - 1];
    if (known.key == key && (known.of & of) != 0) return &known;
  }
  return nullptr;
}

}  // namespace nopspan::detail
