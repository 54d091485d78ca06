// SPDX-License-Identifier: Apache-2.0
// The GenAI mapping: from metadata to the attributes of OpenTelemetry's GenAI conventions. One mapping serves live
// spans and Values. Its rules are those of ReqLLM.OpenTelemetry.Attributes, revision 70489b43. It does not allocate,
// and does not look up keys by name, except inside values that are maps.
//
// The mapping is a set of templates over an Out, which receives the attributes in order, each key once:
//   text(key, std::string_view)   texts(key, const std::string_view*, std::size_t)   node(key, const Node&): any value
#pragma once

#include "fields/metadata.h"

#include <nopspan/semconv.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nopspan::detail {

// Room for a number as text.
struct Scratch {
  char text[32];
};

// Sets those keys of tokens and costs that are still absent, from the map under Key::usage. Call it last when filling
// in a Metadata.
void spread_usage(Metadata&) noexcept;

// A usage map, or the map `tokens` in it.
enum class UsageMap : std::uint8_t { outer, tokens };
// Whether spread_usage() reads such a member of that map, or need not, because it is the sum of others. `is_nested`:
// there is a map `tokens`.
bool is_usage_name(std::string_view name, UsageMap map, bool is_nested) noexcept;

// A string, number or flag as text. data() is null for any other value.
std::string_view scalar_text(const Node&, Scratch&) noexcept;

// True if the node is neither null nor an empty list. Only such a node becomes an attribute.
bool is_kept(const Node&) noexcept;
// True if the node is neither null nor the empty string.
bool is_present(const Node&) noexcept;

// Adds the costs of the tokens, computed from the prices that the application has set (prices.cpp).
void add_costs(Metadata&) noexcept;
// Frees those prices. Called when this code is about to be unmapped.
void free_prices() noexcept;
// The costs as JSON: the value of langfuse.observation.cost_details. data() is null if no cost is known.
std::string_view cost_details(const Metadata&, Scratch (&)[8]) noexcept;

// Texts of attributes. data() is null if there is none.
std::string_view operation_name(const Metadata&, Scratch&) noexcept;  // never null
std::string_view output_type(const Metadata&) noexcept;
std::string_view provider_name(const Metadata&) noexcept;
std::string_view error_type(const Metadata&, Scratch&) noexcept;     // never null
std::string_view failed_status(const Metadata&, Scratch&) noexcept;  // for example "503"; null below 400
// The error.type of a request that failed without an error: its HTTP status if that is `lowest` or more, or "_OTHER" if
// its finish reasons are all "error". Null if it did not fail.
std::string_view failure(const Metadata&, Scratch&, std::int64_t lowest = 400) noexcept;
std::string_view openai_api_type(const Metadata&) noexcept;

// gen_ai.operation.name for a value of the metadata `operation`.
std::string_view operation_name(std::string_view operation) noexcept;

// The id of the requested model. On a live span it is `model` itself.
const Node& request_model(const Metadata&) noexcept;
// The response's model. If it is absent, the requested one.
const Node& response_model(const Metadata&) noexcept;
const Node& response_id(const Metadata&) noexcept;
// True if anything is known about a response.
bool has_response(const Metadata&) noexcept;
bool is_openai(const Metadata&) noexcept;
// True for a stream whose time to the first chunk is known.
bool has_first_chunk(const Metadata&) noexcept;
bool is_finite_number(const Node&) noexcept;

// Seconds from nanoseconds, rounded down to whole microseconds.
double seconds_of(std::int64_t ns) noexcept;

// The finish reasons in a list, as strings. Skips null and "unknown". Numbers become text.
class FinishReasons {
 public:
  static constexpr std::size_t kMost = 128;

  explicit FinishReasons(const Node& list) noexcept;
  // False if there were too many reasons, or one cannot be a string.
  [[nodiscard]] bool complete() const noexcept { return complete_; }
  [[nodiscard]] const std::string_view* data() const noexcept { return reasons_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  void add(const Node& reason) noexcept;

  std::string_view reasons_[kMost];
  std::size_t size_ = 0;
  char text_[512];
  std::size_t text_size_ = 0;
  bool complete_ = true;
};
// True if the reason is neither null nor "unknown".
bool is_finish_reason(const Node&) noexcept;

struct AttributeOf {
  std::string_view attribute;
  Key key;
};
// Values that become attributes unchanged, in this order.
inline constexpr AttributeOf kRequestAttributes[] = {
    {semconv::extension::request_id, Key::request_id},
    {semconv::gen_ai_request_temperature, Key::temperature},
    {semconv::gen_ai_request_top_p, Key::top_p},
    {semconv::gen_ai_request_top_k, Key::top_k},
    {semconv::gen_ai_request_max_tokens, Key::max_tokens},
    {semconv::gen_ai_request_frequency_penalty, Key::frequency_penalty},
    {semconv::gen_ai_request_presence_penalty, Key::presence_penalty},
    {semconv::gen_ai_request_stop_sequences, Key::stop_sequences},
    {semconv::gen_ai_request_seed, Key::seed},
    {semconv::gen_ai_request_choice_count, Key::n},
    {semconv::gen_ai_request_stream, Key::stream},
    {semconv::gen_ai_request_encoding_formats, Key::encoding_formats},
    {semconv::gen_ai_conversation_id, Key::conversation_id},
};
inline constexpr AttributeOf kServerAttributes[] = {
    {semconv::server_address, Key::server_address},
    {semconv::server_port, Key::server_port},
};
inline constexpr AttributeOf kUsageAttributes[] = {
    {semconv::gen_ai_usage_input_tokens, Key::input_tokens},
    {semconv::gen_ai_usage_output_tokens, Key::output_tokens},
    {semconv::gen_ai_usage_cache_read_input_tokens, Key::cache_read_input_tokens},
    {semconv::gen_ai_usage_cache_creation_input_tokens, Key::cache_creation_input_tokens},
    {semconv::gen_ai_usage_reasoning_output_tokens, Key::reasoning_tokens},
};

template <class Out>
void map_node(std::string_view attribute, const Node& node, Out& out) {
  if (is_kept(node)) out.node(attribute, node);
}

template <class Out>
void map_present(std::string_view attribute, const Node& node, Out& out) {
  if (is_present(node)) map_node(attribute, node, out);
}

template <std::size_t N, class Out>
void map_nodes(const AttributeOf (&attributes)[N], const Metadata& metadata, Out& out) {
  for (const AttributeOf& each : attributes) map_node(each.attribute, metadata[each.key], out);
}

template <class Out>
void map_text(std::string_view attribute, std::string_view text, Out& out) {
  if (text.data() != nullptr) out.text(attribute, text);
}

template <class Out>
void map_finish_reasons(const Node& given, Out& out) {
  constexpr std::string_view kAttribute = semconv::gen_ai_response_finish_reasons;
  if (given.is_list()) {
    const FinishReasons reasons(given);
    if (!reasons.complete()) {
      out.node(kAttribute, given);
    } else if (reasons.size() > 0) {
      out.texts(kAttribute, reasons.data(), reasons.size());
    }
  } else if (is_finish_reason(given)) {
    Scratch scratch;
    const std::string_view reason = scalar_text(given, scratch);
    if (reason.data() != nullptr) out.texts(kAttribute, &reason, 1);
  }
}

// The attributes of a span at its start.
template <class Out>
void map_start(const Metadata& metadata, Out& out) {
  Scratch scratch;
  map_text(semconv::gen_ai_provider_name, provider_name(metadata), out);
  out.text(semconv::gen_ai_operation_name, operation_name(metadata, scratch));
  map_node(semconv::gen_ai_request_model, request_model(metadata), out);
  map_text(semconv::gen_ai_output_type, output_type(metadata), out);
  map_nodes(kRequestAttributes, metadata, out);
  if (metadata[Key::requested_effort].is_string()) {
    out.node(semconv::extension::gen_ai_request_reasoning_effort, metadata[Key::requested_effort]);
  }
  map_node(semconv::extension::gen_ai_request_reasoning_budget_tokens, metadata[Key::requested_budget_tokens], out);
  map_nodes(kServerAttributes, metadata, out);
  if (is_openai(metadata)) {
    map_text(semconv::openai_api_type, openai_api_type(metadata), out);
    map_node(semconv::openai_request_service_tier, metadata[Key::service_tier], out);
  }
}

// The attributes that the end adds.
template <class Out>
void map_terminal(const Metadata& metadata, Out& out) {
  map_finish_reasons(metadata[Key::finish_reason], out);
  map_nodes(kUsageAttributes, metadata, out);
  if (is_finite_number(metadata[Key::total_cost])) {
    out.node(semconv::extension::gen_ai_usage_cost, metadata[Key::total_cost]);
  }
  Scratch scratch;
  if (metadata[Key::dimensions].is_integer() && operation_name(metadata, scratch) == semconv::operation::embeddings) {
    out.node(semconv::gen_ai_embeddings_dimension_count, metadata[Key::dimensions]);
  }
  if (has_response(metadata)) {
    map_present(semconv::gen_ai_response_id, response_id(metadata), out);
    map_node(semconv::gen_ai_response_model, response_model(metadata), out);
  }
  if (is_openai(metadata)) {
    const Node& meta = metadata[Key::provider_meta];
    map_present(semconv::openai_response_service_tier, meta.find("service_tier"), out);
    map_present(semconv::openai_response_system_fingerprint, meta.find("system_fingerprint"), out);
  }
  if (has_first_chunk(metadata)) {
    const double seconds = seconds_of(metadata[Key::time_to_first_chunk].as_int());
    out.node(semconv::gen_ai_response_time_to_first_chunk, Node(seconds));
  }
  map_text(semconv::error_type, failed_status(metadata, scratch), out);
}

}  // namespace nopspan::detail
