// SPDX-License-Identifier: Apache-2.0
#include "attribute_keys.h"

#include <array>
#include <cstddef>
#include <cstdint>

namespace nopspan::detail {
namespace {

constexpr Key kNoKey = AttributeKey::kNoKey;

constexpr AttributeKey kAttributeKeys[] = {
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
    {"error.message", kNoKey, "nopspan.error.message"},
    {"response", kNoKey, "nopspan.response"},
    {"step_result", kNoKey, "nopspan.step_result"},
    {"chat_result", kNoKey, "nopspan.chat_result"},
    {"error", kNoKey, "nopspan.error"},
    {"image_count", kNoKey, "nopspan.image_count"},
    {"input_messages", kNoKey, "gen_ai.input.messages"},
    {"output_messages", kNoKey, "gen_ai.output.messages"},
    {"system_instructions", kNoKey, "gen_ai.system_instructions"},
    {"tool_definitions", kNoKey, "gen_ai.tool.definitions"},
    // Tools and agents.
    {"tool_name", kNoKey, "gen_ai.tool.name"},
    {"tool_call_id", kNoKey, "gen_ai.tool.call.id"},
    {"tool_type", kNoKey, "gen_ai.tool.type"},
    {"tool_description", kNoKey, "gen_ai.tool.description"},
    {"arguments", kNoKey, "gen_ai.tool.call.arguments"},
    {"gen_ai.tool.arguments", kNoKey, "gen_ai.tool.call.arguments"},
    {"result", kNoKey, "gen_ai.tool.call.result"},
    {"agent_id", kNoKey, "gen_ai.agent.id"},
    {"agent_name", kNoKey, "gen_ai.agent.name"},
    {"agent_description", kNoKey, "gen_ai.agent.description"},
    {"agent_version", kNoKey, "gen_ai.agent.version"},
    {"operator", kNoKey, "gen_ai.agent.name"},
    {"trace_id", kNoKey, "nopspan.trace_id"},
    {"iteration", kNoKey, "nopspan.iteration"},
    {"context_size", kNoKey, "nopspan.context_size"},
    {"tool_selected", kNoKey, "nopspan.tool_selected"},
    {"intent", kNoKey, "nopspan.intent"},
    {"operator_state", kNoKey, "nopspan.operator_state"},
    {"from", kNoKey, "nopspan.from"},
    {"to", kNoKey, "nopspan.to"},
    {"notification", kNoKey, "nopspan.notification"},
    {"count", kNoKey, "nopspan.count"},
    {"snapshot_id", kNoKey, "nopspan.snapshot_id"},
    {"code", kNoKey, "nopspan.code"},
    {"ms", kNoKey, "nopspan.ms"},
    {"thought", kNoKey, "nopspan.thought"},
    {"retry_count", kNoKey, "nopspan.retry_count"},
    {"will_retry", kNoKey, "nopspan.will_retry"},
    {"final_state", kNoKey, "nopspan.final_state"},
    {"message", kNoKey, "nopspan.message"},
    {"running", kNoKey, "nopspan.running"},
    {"notification_count", kNoKey, "nopspan.notification_count"},
    {"status", kNoKey, "nopspan.status"},
    {"notification_ids", kNoKey, "nopspan.notification_ids"},
    {"insight", kNoKey, "nopspan.insight"},
    {"has_unread", kNoKey, "nopspan.has_unread"},
    {"unread_count", kNoKey, "nopspan.unread_count"},
    {"skills", kNoKey, "nopspan.skills"},
    {"skill", kNoKey, "nopspan.skill"},
    {"notification_id", kNoKey, "nopspan.notification_id"},
    {"operator_pid", kNoKey, "nopspan.operator_pid"},
    {"message_count", kNoKey, "nopspan.message_count"},
    {"strategy", kNoKey, "nopspan.strategy"},
    {"config", kNoKey, "nopspan.config"},
    {"reason", kNoKey, "nopspan.reason"},
    {"kind", kNoKey, "nopspan.exception.kind"},
    {"stacktrace", kNoKey, "nopspan.stacktrace"},
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
    {"arrival_ns", kNoKey, "nopspan.arrival_ns"},
    {"queue_ns", kNoKey, "nopspan.queue_ns"},
    {"prefill_ns", kNoKey, "nopspan.prefill_ns"},
    {"decode_ns", kNoKey, "nopspan.decode_ns"},
    {"ttft_ns", kNoKey, "nopspan.ttft_ns"},
    {"time_per_output_token_ns", kNoKey, "nopspan.time_per_output_token_ns"},
    {"tokens_per_second", kNoKey, "nopspan.tokens_per_second"},
    {"preemptions", kNoKey, "nopspan.preemptions"},
    {"batch_size", kNoKey, "nopspan.batch_size"},
    {"prefill_tokens", kNoKey, "nopspan.prefill_tokens"},
    {"decode_tokens", kNoKey, "nopspan.decode_tokens"},
    // A retry: the span event gen_ai.retry.
    {"attempt", kNoKey, "retry.attempt"},
    {"delay_ms", kNoKey, "retry.delay_ms"},
    {"status_code", kNoKey, "http.response.status_code"},
};
constexpr std::size_t kCount = sizeof(kAttributeKeys) / sizeof(kAttributeKeys[0]);

constexpr std::size_t kSlots = 512;
static_assert(2 * kCount <= kSlots);

// Cheap, and good enough for these keys.
constexpr std::size_t slot_of(std::string_view key) noexcept {
  const auto byte = [key](std::size_t i) { return static_cast<std::size_t>(static_cast<unsigned char>(key[i])); };
  if (key.empty()) return 0;
  const std::size_t size = key.size();
  const std::size_t mixed =
      byte(0) * 31 + byte(size / 2) * 131 + byte(size - 1) * 17 + byte(size / 3) * 71 + size * 613;
  return (mixed ^ (mixed >> 7U)) & (kSlots - 1);
}

struct Slots {
  std::array<std::uint8_t, kSlots> number{};  // of the key, from 1
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

const AttributeKey* find_attribute_key(std::string_view key) noexcept {
  for (std::size_t at = slot_of(key); kTable.number[at] != 0; at = (at + 1) & (kSlots - 1)) {
    const AttributeKey& known = kAttributeKeys[kTable.number[at] - 1];
    if (known.key == key) return &known;
  }
  return nullptr;
}

}  // namespace nopspan::detail
