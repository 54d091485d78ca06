// SPDX-License-Identifier: Apache-2.0
#include "chat_client.h"

#include <nopspan/propagation.h>

#include <regex>
#include <string_view>
#include <utility>

namespace example {
namespace {

constexpr int kTimeoutS = 60;  // for each piece of an answer

std::size_t count_of(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_number_unsigned() ? value.get<std::size_t>() : 0;
}

// The JSON in a text, or null.
Json parse(const std::string& text) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  return json.is_discarded() ? Json() : json;
}

// Assembles a reply from the server-sent events of a stream, whatever the pieces in which they arrive.
class StreamedReply {
 public:
  explicit StreamedReply(const std::function<void()>& on_first_token) : on_first_token_(on_first_token) {}

  void feed(std::string_view bytes) {
    for (char c : bytes) {
      if (c != '\n') {
        line_ += c;
        continue;
      }
      if (line_.compare(0, 6, "data: ") == 0) read_event(line_.substr(6));
      line_.clear();
    }
  }

  bool is_complete() const { return complete_; }
  ChatReply take() { return std::move(reply_); }

 private:
  void read_event(const std::string& data) {
    if (data == "[DONE]") complete_ = true;
    const Json json = parse(data);
    if (reply_.id.empty()) {
      reply_.id = text_of(json, "id");
      reply_.model = text_of(json, "model");
    }
    if (const Json& usage = member(json, "usage"); usage.is_object()) {
      reply_.usage = {count_of(usage, "prompt_tokens"), count_of(usage, "completion_tokens"),
                      count_of(member(usage, "prompt_tokens_details"), "cached_tokens")};
    }
    for (const Json& choice : member(json, "choices")) {
      read_delta(member(choice, "delta"));
      if (const std::string reason = text_of(choice, "finish_reason"); !reason.empty()) reply_.finish_reason = reason;
    }
  }

  void read_delta(const Json& delta) {
    reply_.content += text_of(delta, "content");
    for (const Json& call : member(delta, "tool_calls")) {  // which this server sends as a whole
      const Json& function = member(call, "function");
      reply_.tool_calls.push_back({text_of(call, "id"), text_of(function, "name"), text_of(function, "arguments")});
    }
    const bool has_token = !reply_.content.empty() || !reply_.tool_calls.empty();
    if (has_token && !std::exchange(has_token_, true)) on_first_token_();
  }

  const std::function<void()>& on_first_token_;
  std::string line_;
  ChatReply reply_;
  bool has_token_ = false;
  bool complete_ = false;
};

}  // namespace

ChatClient::ChatClient(const std::string& base_url, httplib::Headers headers)
    : address_(address_of(base_url)), headers_(std::move(headers)), http_(address_.host, address_.port) {
  http_.set_keep_alive(true);
  http_.set_tcp_nodelay(true);
  http_.set_read_timeout(kTimeoutS);
}

ChatClient::Address ChatClient::address_of(const std::string& base_url) {
  std::smatch found;
  if (!std::regex_match(base_url, found, std::regex("http://([^/:]+):([0-9]{1,5})"))) {
    throw std::invalid_argument("not a base URL (http://host:port): " + base_url);
  }
  return {found[1], std::stoi(found[2])};
}

ChatReply ChatClient::attempt(const Json& body, const std::function<void()>& on_first_token) {
  httplib::Request request;
  request.method = "POST";
  request.path = "/v1/chat/completions";
  request.headers = headers_;
  request.set_header("Content-Type", "application/json");
  nopspan::inject(request.headers);
  request.body = to_text(body);
  StreamedReply reply(on_first_token);
  std::string received;
  request.content_receiver = [&](const char* data, std::size_t size, std::uint64_t, std::uint64_t) {
    reply.feed({data, size});
    received.append(data, size);
    return true;
  };

  const httplib::Result result = http_.send(request);
  if (!result) throw AttemptFailed(0, "HTTP: " + httplib::to_string(result.error()));
  if (result->status != 200) {
    const Json error = parse(received);
    throw AttemptFailed(result->status, "HTTP status " + std::to_string(result->status) + ": " +
                                            text_of(member(error, "error"), "message"));
  }
  if (!reply.is_complete()) throw AttemptFailed(0, "the stream broke off");
  return reply.take();
}

}  // namespace example
