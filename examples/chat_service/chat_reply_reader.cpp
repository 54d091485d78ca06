// SPDX-License-Identifier: Apache-2.0
#include "chat_reply_reader.h"

#include <utility>

namespace example {
namespace {

constexpr std::size_t kMostToolCalls = 64;

// The member, or null if it is missing. Never throws.
const Json& member(const Json& object, const char* key) {
  static const Json null;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() ? *found : null;
}

std::string text_of(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_string() ? value.get<std::string>() : std::string();
}

std::size_t count_of(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_number_unsigned() ? value.get<std::size_t>() : 0;
}

Json parse(const std::string& text) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) throw BadReply("the server's answer is not a JSON object");
  return json;
}

Usage usage_of(const Json& json) {
  return {count_of(json, "prompt_tokens"), count_of(json, "completion_tokens"),
          count_of(member(json, "prompt_tokens_details"), "cached_tokens")};
}

const Json& first_choice(const Json& json) {
  static const Json null;
  const Json& choices = member(json, "choices");
  return choices.is_array() && !choices.empty() ? choices.front() : null;
}

}  // namespace

ChatReply read_reply(const std::string& body) {
  const Json json = parse(body);
  const Json& choice = first_choice(json);
  const Json& message = member(choice, "message");
  if (!message.is_object()) throw BadReply("the server's answer has no message");
  ChatReply reply;
  reply.id = text_of(json, "id");
  reply.model = text_of(json, "model");
  reply.message.role = "assistant";
  reply.message.content = text_of(message, "content");
  const Json& calls = member(message, "tool_calls");
  for (std::size_t i = 0; calls.is_array() && i < calls.size(); ++i) {
    const Json& function = member(calls[i], "function");
    reply.message.tool_calls.push_back(
        {text_of(calls[i], "id"), text_of(function, "name"), text_of(function, "arguments")});
  }
  reply.finish_reason = text_of(choice, "finish_reason");
  reply.usage = usage_of(member(json, "usage"));
  return reply;
}

std::string read_error_message(const std::string& body) {
  const Json json = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  const std::string message = text_of(member(json, "error"), "message");
  return message.empty() ? body.substr(0, 200) : message;
}

StreamedReply::StreamedReply(std::function<void()> on_first_token)
    : sse_([this](const std::string& data) { read_chunk(data); }), on_first_token_(std::move(on_first_token)) {
  reply_.message.role = "assistant";
}

ChatReply StreamedReply::finish() {
  if (!done_) throw BadReply("the stream broke off");
  return std::move(reply_);
}

void StreamedReply::read_chunk(const std::string& data) {
  if (data == "[DONE]") {
    done_ = true;
    return;
  }
  const Json json = parse(data);
  if (!member(json, "error").is_null()) throw BadReply(read_error_message(data));
  if (reply_.id.empty()) {
    reply_.id = text_of(json, "id");
    reply_.model = text_of(json, "model");
  }
  if (const Json& usage = member(json, "usage"); usage.is_object()) reply_.usage = usage_of(usage);
  const Json& choice = first_choice(json);
  read_delta(member(choice, "delta"));
  if (const std::string reason = text_of(choice, "finish_reason"); !reason.empty()) reply_.finish_reason = reason;
}

void StreamedReply::read_delta(const Json& delta) {
  if (const std::string text = text_of(delta, "content"); !text.empty()) {
    token_came();
    reply_.message.content += text;
  }
  const Json& calls = member(delta, "tool_calls");
  for (std::size_t i = 0; calls.is_array() && i < calls.size(); ++i) read_tool_call(calls[i]);
}

// A call arrives in pieces: the id and the name in the first one, and then a few characters of the arguments at a time.
void StreamedReply::read_tool_call(const Json& delta) {
  token_came();
  const std::size_t index = count_of(delta, "index");
  if (index >= kMostToolCalls) throw BadReply("too many tool calls");
  std::vector<ToolCall>& calls = reply_.message.tool_calls;
  if (calls.size() <= index) calls.resize(index + 1);
  const Json& function = member(delta, "function");
  calls[index].id += text_of(delta, "id");
  calls[index].name += text_of(function, "name");
  calls[index].arguments += text_of(function, "arguments");
}

void StreamedReply::token_came() {
  if (std::exchange(first_token_, true) || !on_first_token_) return;
  on_first_token_();
}

}  // namespace example
