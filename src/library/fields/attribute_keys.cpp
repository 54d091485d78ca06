// SPDX-License-Identifier: Apache-2.0
#include "fields/attribute_keys.h"

#include <array>
#include <cstddef>
#include <iterator>
#include <utility>

namespace nopspan::detail {
namespace {

constexpr Key kNoKey = AttributeKey::kNoKey;

// The attributes of one catalogue whose key is the name without the prefix, separated by blanks.
constexpr std::string_view kPrefix = "nopspan.";
constexpr std::string_view kOfAgents =
    "nopspan.trace_id nopspan.iteration nopspan.context_size nopspan.tool_selected nopspan.operator_state nopspan.from "
    "nopspan.to nopspan.count nopspan.snapshot_id nopspan.ms nopspan.retry_count nopspan.will_retry "
    "nopspan.final_state nopspan.running nopspan.notification_count nopspan.status nopspan.notification_ids "
    "nopspan.has_unread nopspan.unread_count nopspan.skills nopspan.skill nopspan.notification_id nopspan.operator_pid "
    "nopspan.message_count nopspan.message_count_before nopspan.strategy nopspan.config";
constexpr std::string_view kContentOfAgents =
    "nopspan.result nopspan.intent nopspan.notification nopspan.code nopspan.thought nopspan.message nopspan.insight";
constexpr std::string_view kOfEngines =
    "nopspan.arrival_ns nopspan.queue_ns nopspan.prefill_ns nopspan.decode_ns nopspan.ttft_ns "
    "nopspan.time_per_output_token_ns nopspan.tokens_per_second nopspan.preemptions nopspan.batch_size "
    "nopspan.prefill_tokens nopspan.decode_tokens nopspan.drafts nopspan.drafted_tokens nopspan.accepted_tokens "
    "nopspan.accepted_by_position nopspan.adapter nopspan.recomputed_tokens nopspan.admission_ns "
    "nopspan.admission_reason nopspan.prompt_chunks nopspan.cached_device_tokens nopspan.cached_host_tokens "
    "nopspan.cached_external_tokens nopspan.chunk nopspan.chunks nopspan.from nopspan.to nopspan.direction "
    "nopspan.bytes nopspan.blocks nopspan.tokens nopspan.device nopspan.mode nopspan.tier nopspan.lifetime_ns "
    "nopspan.idle_ns nopspan.queried_tokens nopspan.hit_tokens nopspan.external_queried_tokens "
    "nopspan.external_hit_tokens";

constexpr auto kLlmAndAgent = static_cast<AttributeKey::Of>(AttributeKey::llm | AttributeKey::agent);

// All other keys. If a key has two meanings where it is set, the first one counts.
constexpr AttributeKey kOtherKeys[] = {
    // A retry.
    {"reason", kNoKey, "retry.reason", AttributeKey::retry},
    {"attempt", kNoKey, "retry.attempt", AttributeKey::retry},
    {"delay_ms", kNoKey, "retry.delay_ms", AttributeKey::retry},
    {"status_code", kNoKey, "http.response.status_code", AttributeKey::retry},
    // The end of an agent's loop.
    {"reason", kNoKey, "nopspan.reason", AttributeKey::loop_stopped},
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
    {"inference_calls", kNoKey, "nopspan.inference_calls", AttributeKey::llm},
    {"tool_calls", kNoKey, "nopspan.tool_calls", AttributeKey::llm},
    {"gen_ai.evaluation.explanation", kNoKey, "gen_ai.evaluation.explanation", AttributeKey::llm, true},
    {"content", kNoKey, "content", AttributeKey::llm, true},  // of a gen_ai.user.message and the like
    {"message", kNoKey, "message", AttributeKey::llm, true},  // of a gen_ai.choice
    {"gen_ai.memory.query.text", kNoKey, "gen_ai.memory.query.text", AttributeKey::llm, true},
    {"gen_ai.memory.records", kNoKey, "gen_ai.memory.records", AttributeKey::llm, true},
    {"gen_ai.retrieval.query.text", kNoKey, "gen_ai.retrieval.query.text", AttributeKey::llm, true},
    {"gen_ai.retrieval.documents", kNoKey, "gen_ai.retrieval.documents", AttributeKey::llm, true},
    {"agent_id", kNoKey, "gen_ai.agent.id"},
    {"agent_name", kNoKey, "gen_ai.agent.name", AttributeKey::all, false, "operator"},
    {"agent_description", kNoKey, "gen_ai.agent.description"},
    {"agent_version", kNoKey, "gen_ai.agent.version"},
    {"operator", kNoKey, "gen_ai.agent.name", AttributeKey::agent},
    {"reason", kNoKey, "nopspan.reason", AttributeKey::engine},
    {"reason", kNoKey, "nopspan.reason", kLlmAndAgent, true},  // of an exception, or of an agent's event
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
};

constexpr std::size_t count_of(std::string_view names) noexcept {
  std::size_t count = 1;
  for (const char c : names) count += c == ' ' ? 1 : 0;
  return count;
}
constexpr std::size_t kCount =
    std::size(kOtherKeys) + count_of(kOfAgents) + count_of(kContentOfAgents) + count_of(kOfEngines);
constexpr auto kAttributeKeys = [] {
  std::array<AttributeKey, kCount> keys{};
  std::size_t made = 0;
  for (const AttributeKey& key : kOtherKeys) keys[made++] = key;
  const auto add = [&](std::string_view names, AttributeKey::Of of, bool is_content) {
    for (std::size_t left = count_of(names); left > 0; --left) {
      const std::string_view name = names.substr(0, names.find(' '));
      keys[made++] = {name.substr(kPrefix.size()), kNoKey, name, of, is_content};
      names.remove_prefix(left > 1 ? name.size() + 1 : name.size());
    }
  };
  add(kOfAgents, AttributeKey::agent, false);
  add(kContentOfAgents, AttributeKey::agent, true);
  add(kOfEngines, AttributeKey::engine, false);
  return keys;
}();

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

// The index in kAttributeKeys + 1. 0: the slot is empty.
constexpr auto kNumbers = [] {
  std::array<std::uint8_t, kSlots> numbers{};
  for (std::size_t i = 0; i < kCount; ++i) {
    std::size_t at = slot_of(kAttributeKeys[i].key);
    while (numbers[at] != 0) at = (at + 1) & (kSlots - 1);
    numbers[at] = static_cast<std::uint8_t>(i + 1);
  }
  return numbers;
}();

// The names that are content on every span: the table's, which have a dot, and these.
constexpr std::string_view kOtherContent[] = {"exception.message", "exception.stacktrace", "otel.status_description",
                                              "gen_ai.prompt",     "gen_ai.completion",    "gen_ai.event.content"};
constexpr bool has_dot(std::string_view name) noexcept { return name.find('.') != std::string_view::npos; }
constexpr auto kContentNames = [] {
  std::array<std::string_view, 2 * kCount + std::size(kOtherContent)> names{};
  std::size_t made = 0;
  for (const AttributeKey& known : kAttributeKeys) {
    if (!known.is_content) continue;
    if (has_dot(known.key)) names[made++] = known.key;
    if (has_dot(known.attribute) && known.attribute != known.key) names[made++] = known.attribute;
  }
  for (const std::string_view name : kOtherContent) names[made++] = name;
  return std::pair(names, made);
}();
static_assert([] {
  for (std::size_t i = 0; i < kContentNames.second; ++i) {
    if (!may_have_meaning(kContentNames.first[i])) return false;
  }
  return true;
}());

// True for the prompt or the completion number N in the names of older instrumentations: "gen_ai.prompt.0.content".
bool is_numbered_content(std::string_view key) noexcept {
  for (const std::string_view prefix : {"gen_ai.prompt.", "gen_ai.completion."}) {
    if (key.size() <= prefix.size() || key.substr(0, prefix.size()) != prefix) continue;
    const char digit = key[prefix.size()];
    return digit >= '0' && digit <= '9';
  }
  return false;
}

// The names of the conventions that key_of_fact() knows.
struct OtherName {
  std::string_view attribute, key;
  bool of_operations = false;  // on any other span it stays an attribute of the application's
};
constexpr OtherName kOtherNames[] = {
    {"gen_ai.request.model", "model"},
    {"gen_ai.response.model", "response_model", true},
    {"gen_ai.response.finish_reasons", "finish_reason"},
    {"gen_ai.usage.input_tokens", "input_tokens"},
    {"gen_ai.usage.output_tokens", "output_tokens"},
    {"gen_ai.usage.cache_read.input_tokens", "cached_tokens"},
    {"gen_ai.usage.cache_creation.input_tokens", "cache_creation_tokens"},
    {"gen_ai.usage.cache_write.input_tokens", "cache_creation_tokens"},
    {"gen_ai.usage.reasoning.output_tokens", "reasoning_tokens"},
    {"gen_ai.usage.cost", "total_cost"},
    {"gen_ai.tool.name", "tool_name", true},
};

}  // namespace

bool is_content_name(std::string_view key) noexcept {
  if (!may_have_meaning(key)) return false;
  for (std::size_t i = 0; i < kContentNames.second; ++i) {
    if (kContentNames.first[i] == key) return true;
  }
  return is_numbered_content(key);
}

std::string_view key_of_fact(std::string_view attribute, bool is_operation) noexcept {
  if (attribute.substr(0, 7) != "gen_ai.") return attribute;
  for (const OtherName& other : kOtherNames) {
    if (other.attribute == attribute) return other.of_operations && !is_operation ? attribute : other.key;
  }
  return attribute;
}

bool has_meaning(std::string_view key) noexcept {
  return key == "gen_ai.operation.name" || key == "gen_ai.provider.name" || key_of_fact(key, true) != key ||
         is_content_name(key);
}

AttributeKey::Of attribute_keys_of(std::string_view name) noexcept {
  constexpr auto kLlmTool = static_cast<AttributeKey::Of>(AttributeKey::llm | AttributeKey::tool);
  constexpr auto kAgentTool = static_cast<AttributeKey::Of>(AttributeKey::agent | AttributeKey::tool);
  constexpr auto kLoopStopped = static_cast<AttributeKey::Of>(AttributeKey::agent | AttributeKey::loop_stopped);
  constexpr std::pair<std::string_view, AttributeKey::Of> kPrefixes[] = {
      {"llm.tool", kLlmTool},
      {"agent.tool", kAgentTool},
      {"agent.coordinator.loop_stopped", kLoopStopped},
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
  for (std::size_t at = slot_of(key); kNumbers[at] != 0; at = (at + 1) & (kSlots - 1)) {
    const AttributeKey& known = kAttributeKeys[kNumbers[at] - 1];
    if (known.key == key && (known.of & of) != 0) return &known;
  }
  return nullptr;
}

}  // namespace nopspan::detail
