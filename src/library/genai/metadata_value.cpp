// SPDX-License-Identifier: Apache-2.0
#include "genai/metadata_value.h"

#include "genai/genai_mapping.h"

#include <algorithm>
#include <string_view>

namespace nopspan::detail {
namespace {

// The key of a member of a map.
struct Place {
  std::string_view name;
  Key key;
};

constexpr Place kTop[] = {
    {"request_id", Key::request_id},
    {"operation", Key::operation},
    {"provider", Key::provider},
    {"mode", Key::mode},
    {"usage", Key::usage},
    {"http_status", Key::http_status},
    {"finish_reason", Key::finish_reason},
    {"error", Key::error},
};
constexpr Place kModel[] = {{"id", Key::model_id}, {"provider", Key::model_provider}};
constexpr Place kRequestOptions[] = {
    {"temperature", Key::temperature},
    {"top_p", Key::top_p},
    {"top_k", Key::top_k},
    {"max_tokens", Key::max_tokens},
    {"frequency_penalty", Key::frequency_penalty},
    {"presence_penalty", Key::presence_penalty},
    {"stop_sequences", Key::stop_sequences},
    {"seed", Key::seed},
    {"n", Key::n},
    {"stream?", Key::stream},
    {"encoding_formats", Key::encoding_formats},
    {"conversation_id", Key::conversation_id},
    {"service_tier", Key::service_tier},
};
constexpr Place kReasoning[] = {
    {"requested_effort", Key::requested_effort},
    {"requested_budget_tokens", Key::requested_budget_tokens},
};
constexpr Place kServer[] = {
    {"address", Key::server_address},
    {"port", Key::server_port},
    {"path", Key::server_path},
};
constexpr Place kResponsePayload[] = {
    {"id", Key::response_id},
    {"response_id", Key::response_alias_id},
    {"model", Key::response_model},
    {"provider_meta", Key::provider_meta},
};
constexpr Place kResponseSummary[] = {{"dimensions", Key::dimensions}};
constexpr Place kStreaming[] = {{"time_to_first_chunk", Key::time_to_first_chunk}};

template <std::size_t N>
void read(const Value* map, const Place (&places)[N], Metadata& metadata) noexcept {
  if (map == nullptr) return;
  for (const Place& place : places) metadata[place.key] = Node(map->find(place.name));
}

bool is_nested(const Value& value) noexcept {
  return value.type() == Value::Type::list || value.type() == Value::Type::map;
}

Value as_json(const Value& value) { return is_shallow(value) ? Value(value.to_string()) : Value(); }

}  // namespace

bool is_shallow(const Value& value, unsigned depth) noexcept {
  if (depth > FieldBuffer::kMaxDepth) return false;
  return std::all_of(value.as_list().begin(), value.as_list().end(),
                     [&](const Value& item) { return is_shallow(item, depth + 1); }) &&
         std::all_of(value.as_map().begin(), value.as_map().end(),
                     [&](const auto& entry) { return is_shallow(entry.second, depth + 1); });
}

ValueMetadata::ValueMetadata(const Value& given) {
  read(&given, kTop, metadata);
  read(given.find("model"), kModel, metadata);
  read(given.find("request_options"), kRequestOptions, metadata);
  read(given.find("reasoning"), kReasoning, metadata);
  read(given.find("server"), kServer, metadata);
  const Value* payload = given.find("response_payload");
  metadata[Key::response_payload] = Node(payload);
  read(payload, kResponsePayload, metadata);
  read(given.find("response_summary"), kResponseSummary, metadata);
  read(given.find("streaming"), kStreaming, metadata);
  spread_usage(metadata);

  const Value* reasons = given.find("finish_reason");
  if (reasons == nullptr) return;
  const Value::List& list = reasons->as_list();
  if (reasons->type() == Value::Type::map) {
    finish_reasons_ = as_json(*reasons);
  } else if (std::any_of(list.begin(), list.end(), is_nested)) {
    Value::List readable;
    for (const Value& reason : list) readable.push_back(is_nested(reason) ? as_json(reason) : reason);
    finish_reasons_ = Value(std::move(readable));
  } else {
    return;
  }
  metadata[Key::finish_reason] = Node(&finish_reasons_);
}

}  // namespace nopspan::detail
