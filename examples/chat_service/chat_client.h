// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_CHAT_CLIENT_H
#define EXAMPLES_CHAT_CLIENT_H

#include <httplib.h>

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "openai_protocol.h"

namespace example {

struct ChatReply {
  std::string id;
  std::string model;
  std::string content;
  std::vector<ToolCall> tool_calls;
  std::string finish_reason;
  Usage usage;
};

// An attempt at a model call failed.
class AttemptFailed : public std::runtime_error {
 public:
  AttemptFailed(int status, const std::string& what) : std::runtime_error(what), status_(status) {}

  // The HTTP status, or 0 if there was no answer, or not a complete one.
  int status() const { return status_; }

 private:
  int status_;
};

// A connection to an OpenAI-compatible server. Sends the current span's `traceparent`. Use one instance per thread.
class ChatClient {
 public:
  // `base_url` is http://host:port. Sends `headers` with each request. Throws std::invalid_argument.
  ChatClient(const std::string& base_url, httplib::Headers headers);

  // Makes one attempt at a chat completion, whose answer is a stream. Calls `on_first_token` when its first piece
  // arrives. Throws AttemptFailed.
  ChatReply attempt(const Json& body, const std::function<void()>& on_first_token);

  // The server's address.
  const std::string& host() const { return address_.host; }
  int port() const { return address_.port; }

 private:
  struct Address {
    std::string host;
    int port;
  };
  static Address address_of(const std::string& base_url);

  const Address address_;
  const httplib::Headers headers_;
  httplib::Client http_;
};

}  // namespace example

#endif  // EXAMPLES_CHAT_CLIENT_H
