// SPDX-License-Identifier: Apache-2.0
#include "openai_protocol.h"

#include <cmath>
#include <utility>

namespace example {
namespace {

// Not ordered_json: its objects take quadratic time, so a client that sends many keys could block the server.
using RequestJson = nlohmann::json;

constexpr std::size_t kMostTokens = 1U << 20;

const RequestJson* find(const RequestJson& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::string text_field(const RequestJson& object, const char* key, const std::string& where) {
  const RequestJson* value = find(object, key);
  if (value == nullptr) throw bad_request("missing " + where + key);
  if (!value->is_string()) throw bad_request(where + key + " must be a string");
  return value->get<std::string>();
}

bool flag_field(const RequestJson& object, const char* key) {
  const RequestJson* value = find(object, key);
  if (value == nullptr) return false;
  if (!value->is_boolean()) throw bad_request(std::string(key) + " must be true or false");
  return value->get<bool>();
}

double number_field(const RequestJson& object, const char* key, double otherwise, double least, double most) {
  const RequestJson* value = find(object, key);
  if (value == nullptr) return otherwise;
  if (!value->is_number()) throw bad_request(std::string(key) + " must be a number");
  const double number = value->get<double>();
  if (!(number >= least && number <= most)) throw bad_request(std::string(key) + " is out of range");
  return number;
}

std::size_t count_field(const RequestJson& object, const char* key, std::size_t otherwise, std::size_t least,
                        std::size_t most) {
  const double number =
      number_field(object, key, static_cast<double>(otherwise), static_cast<double>(least), static_cast<double>(most));
  if (number != std::floor(number)) throw bad_request(std::string(key) + " must be an integer");
  return static_cast<std::size_t>(number);
}

// Content is a text, or a list of parts. Only its text parts are used.
std::string parse_content(const RequestJson& content, const std::string& where) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) throw bad_request(where + "content must be a string or a list of parts");
  std::string text;
  for (const RequestJson& part : content) {
    if (!part.is_object() || text_field(part, "type", where + "content[].") != "text") {
      throw bad_request(where + "content: only parts of type text are supported");
    }
    text += text_field(part, "text", where + "content[].");
  }
  return text;
}

std::vector<ToolCall> parse_tool_calls(const RequestJson& calls, const std::string& where) {
  if (!calls.is_array()) throw bad_request(where + "tool_calls must be a list");
  std::vector<ToolCall> parsed;
  for (const RequestJson& call : calls) {
    const RequestJson* function = call.is_object() ? find(call, "function") : nullptr;
    if (function == nullptr || !function->is_object()) throw bad_request(where + "tool_calls[] needs a function");
    parsed.push_back({text_field(call, "id", where + "tool_calls[]."),
                      text_field(*function, "name", where + "tool_calls[].function."),
                      text_field(*function, "arguments", where + "tool_calls[].function.")});
  }
  return parsed;
}

Message parse_message(const RequestJson& json, const std::string& where) {
  if (!json.is_object()) throw bad_request(where + " must be an object");
  Message message;
  const std::string in = where + ".";
  message.role = text_field(json, "role", in);
  const bool assistant = message.role == "assistant";
  if (!assistant && message.role != "system" && message.role != "developer" && message.role != "user" &&
      message.role != "tool") {
    throw bad_request(in + "role is not one of system, developer, user, assistant, tool");
  }
  if (const RequestJson* calls = find(json, "tool_calls"); calls != nullptr && assistant) {
    message.tool_calls = parse_tool_calls(*calls, in);
  }
  const RequestJson* content = find(json, "content");
  if (content == nullptr && message.tool_calls.empty()) throw bad_request("missing " + in + "content");
  if (content != nullptr) message.content = parse_content(*content, in);
  if (message.role == "tool") message.tool_call_id = text_field(json, "tool_call_id", in);
  return message;
}

// A tool's first parameter: the first required one, or else the first one.
std::string first_parameter(const RequestJson& function) {
  const RequestJson* parameters = find(function, "parameters");
  if (parameters == nullptr || !parameters->is_object()) return {};
  const RequestJson* required = find(*parameters, "required");
  if (required != nullptr && required->is_array() && !required->empty() && required->front().is_string()) {
    return required->front().get<std::string>();
  }
  const RequestJson* properties = find(*parameters, "properties");
  if (properties != nullptr && properties->is_object() && !properties->empty()) return properties->begin().key();
  return {};
}

std::vector<ToolDefinition> parse_tools(const RequestJson& tools) {
  if (!tools.is_array()) throw bad_request("tools must be a list");
  std::vector<ToolDefinition> parsed;
  for (const RequestJson& tool : tools) {
    const RequestJson* function = tool.is_object() ? find(tool, "function") : nullptr;
    if (function == nullptr || !function->is_object()) throw bad_request("tools[] needs a function");
    const RequestJson* description = find(*function, "description");
    parsed.push_back({text_field(*function, "name", "tools[].function."),
                      description != nullptr && description->is_string() ? description->get<std::string>() : "",
                      first_parameter(*function)});
  }
  return parsed;
}

std::string parse_tool_choice(const RequestJson& choice, const std::vector<ToolDefinition>& tools) {
  if (choice.is_string()) {
    auto name = choice.get<std::string>();
    if (name == "none" || name == "auto" || name == "required") return name;
    throw bad_request("tool_choice is not one of none, auto, required");
  }
  const RequestJson* function = choice.is_object() ? find(choice, "function") : nullptr;
  if (function == nullptr || !function->is_object()) throw bad_request("tool_choice needs a function");
  std::string name = text_field(*function, "name", "tool_choice.function.");
  for (const ToolDefinition& tool : tools) {
    if (tool.name == name) return name;
  }
  throw bad_request("tool_choice names a function that is not in tools: " + name);
}

Json head_json(const AnswerHead& head, const char* object) {
  return Json{{"id", head.id}, {"object", object}, {"created", head.created}, {"model", head.model}};
}

Json usage_json(const Usage& usage) {
  return Json{{"prompt_tokens", usage.prompt_tokens},
              {"completion_tokens", usage.completion_tokens},
              {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
              {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}}};
}

std::string event(const Json& json) { return "data: " + to_text(json) + "\n\n"; }

}  // namespace

std::string ApiError::body() const {
  Json error{{"message", what()}, {"type", type_}, {"param", nullptr}, {"code", nullptr}};
  if (!code_.empty()) error["code"] = code_;
  return to_text(Json{{"error", error}});
}

ApiError bad_request(const std::string& message) { return {400, "invalid_request_error", "", message}; }

ChatRequest parse_chat_request(const std::string& body) {
  const RequestJson json = RequestJson::parse(body, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) throw bad_request("the body is not JSON");
  if (!json.is_object()) throw bad_request("the body must be a JSON object");
  ChatRequest request;
  request.model = text_field(json, "model", "");
  const RequestJson* messages = find(json, "messages");
  if (messages == nullptr || !messages->is_array() || messages->empty()) {
    throw bad_request("messages must be a list with at least one message");
  }
  for (std::size_t i = 0; i < messages->size(); ++i) {
    request.messages.push_back(parse_message((*messages)[i], "messages[" + std::to_string(i) + "]"));
  }
  if (const RequestJson* tools = find(json, "tools")) request.tools = parse_tools(*tools);
  if (const RequestJson* choice = find(json, "tool_choice"))
    request.tool_choice = parse_tool_choice(*choice, request.tools);
  if (count_field(json, "n", 1, 1, 128) != 1) throw bad_request("n: only one answer a request is supported");
  request.max_tokens = count_field(json, "max_tokens", request.max_tokens, 1, kMostTokens);
  request.max_tokens = count_field(json, "max_completion_tokens", request.max_tokens, 1, kMostTokens);
  request.temperature = number_field(json, "temperature", request.temperature, 0.0, 2.0);
  if (const RequestJson* seed = find(json, "seed")) {
    if (!seed->is_number_integer()) throw bad_request("seed must be an integer");
    request.seed = static_cast<std::uint64_t>(seed->get<std::int64_t>());
    request.has_seed = true;
  }
  request.stream = flag_field(json, "stream");
  request.ignore_eos = flag_field(json, "ignore_eos");
  if (const RequestJson* options = find(json, "stream_options")) {
    if (!options->is_object()) throw bad_request("stream_options must be an object");
    if (!request.stream) throw bad_request("stream_options is only allowed with stream");
    request.include_usage = flag_field(*options, "include_usage");
  }
  return request;
}

Json tool_call_json(const ToolCall& call) {
  return Json{
      {"id", call.id}, {"type", "function"}, {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
}

std::string chat_completion(const AnswerHead& head, const Message& message, const std::string& finish_reason,
                            const Usage& usage) {
  Json json_message{{"role", "assistant"}, {"content", message.content}};
  if (!message.tool_calls.empty()) {
    if (message.content.empty()) json_message["content"] = nullptr;
    json_message["tool_calls"] = Json::array();
    for (const ToolCall& call : message.tool_calls) json_message["tool_calls"].push_back(tool_call_json(call));
  }
  Json json = head_json(head, "chat.completion");
  json["choices"] = Json::array({{{"index", 0}, {"message", json_message}, {"finish_reason", finish_reason}}});
  json["usage"] = usage_json(usage);
  return to_text(json);
}

std::string delta_event(const AnswerHead& head, const Json& delta, const char* finish_reason) {
  Json json = head_json(head, "chat.completion.chunk");
  Json choice{{"index", 0}, {"delta", delta}, {"finish_reason", nullptr}};
  if (finish_reason != nullptr) choice["finish_reason"] = finish_reason;
  json["choices"] = Json::array({choice});
  return event(json);
}

std::string usage_event(const AnswerHead& head, const Usage& usage) {
  Json json = head_json(head, "chat.completion.chunk");
  json["choices"] = Json::array();
  json["usage"] = usage_json(usage);
  return event(json);
}

std::string error_event(const ApiError& error) { return "data: " + error.body() + "\n\n"; }

std::string model_list(const std::string& model, std::time_t created) {
  const Json entry{{"id", model}, {"object", "model"}, {"created", created}, {"owned_by", "nopspan"}};
  return to_text(Json{{"object", "list"}, {"data", Json::array({entry})}});
}

std::string to_text(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace example
