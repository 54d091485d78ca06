// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_CHAT_CLIENT_H
#define EXAMPLES_CHAT_CLIENT_H

#include <httplib.h>

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "http_retry.h"
#include "openai_protocol.h"

namespace example {

struct ClientOptions {
  std::string base_url;  // "http://host:port" or "http://host:port/v1"
  std::string api_key;
  std::string organization;
  std::string route;  // sent as X-Route, which becomes a label of the server's spans
  int timeout_s = 60;
};

struct ChatReply {
  std::string id;
  std::string model;
  Message message;
  std::string finish_reason;
  Usage usage;
};

// The outcome of one attempt: a reply, or a failure.
struct Attempt {
  bool ok = false;
  ChatReply reply;
  HttpFailure failure;
};

// A connection to an OpenAI-compatible server. Sends the current span's `traceparent`. Use one instance per thread.
class ChatClient {
 public:
  // Throws std::invalid_argument if the base URL is invalid.
  explicit ChatClient(const ClientOptions& options);

  // Makes one attempt at a chat completion. It is streamed if body["stream"] is true. When the first piece of a
  // streamed answer arrives, calls `on_first_token`.
  Attempt attempt(const Json& body, const std::function<void()>& on_first_token);

  // The server's address.
  const std::string& host() const { return host_; }
  int port() const { return port_; }

  // The first model that the server offers. Throws std::runtime_error.
  std::string first_model();

 private:
  httplib::Headers headers() const;
  HttpFailure failure_of(const httplib::Result& result, const std::string& body, double elapsed_s) const;

  const ClientOptions options_;
  std::string path_prefix_;  // "/v1"
  std::string host_;
  int port_ = 0;
  httplib::Client http_;
};

}  // namespace example

#endif  // EXAMPLES_CHAT_CLIENT_H
