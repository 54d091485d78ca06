// SPDX-License-Identifier: Apache-2.0
#include "openai_protocol.h"

namespace example {
namespace {

constexpr std::int64_t kMostTokens = 1 << 20;

ApiError bad_request(const std::string& message) { return {400, "invalid_request_error", message}; }

}  // namespace

std::string ApiError::body() const { return to_text(Json{{"error", {{"message", what()}, {"type", type_}}}}); }

Json tool_call_json(const ToolCall& call) {
  return Json{
      {"id", call.id}, {"type", "function"}, {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
}

ChatRequest parse_chat_request(const std::string& body) {
  ChatRequest request;
  try {
    const Json json = Json::parse(body);
    request.model = json.at("model").get<std::string>();
    request.messages = json.at("messages");
    if (!request.messages.is_array() || request.messages.empty()) throw bad_request("messages must be a list");
    for (const Json& message : request.messages) message.at("role").get_ref<const std::string&>();
    request.tools = json.value("tools", Json::array());
    for (const Json& tool : request.tools) tool.at("function").at("name").get_ref<const std::string&>();
    const std::int64_t max_tokens = json.value("max_tokens", std::int64_t{128});
    if (max_tokens < 1 || max_tokens > kMostTokens) throw bad_request("max_tokens is out of range");
    request.max_tokens = static_cast<std::size_t>(max_tokens);
    request.temperature = json.value("temperature", request.temperature);
    if (request.temperature < 0.0 || request.temperature > 2.0) throw bad_request("temperature is out of range");
    if (json.contains("seed")) request.seed = static_cast<std::uint64_t>(json.at("seed").get<std::int64_t>());
    request.stream = json.value("stream", false);
    request.include_usage = json.value("stream_options", Json::object()).value("include_usage", false);
    request.ignore_eos = json.value("ignore_eos", false);
  } catch (const Json::exception& error) {
    throw bad_request(error.what());
  }
  return request;
}

const Json& member(const Json& object, const char* key) {
  static const Json null;
  const auto found = object.find(key);
  return found != object.end() ? *found : null;
}

std::string text_of(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_string() ? value.get<std::string>() : std::string();
}

std::string to_text(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace example
