// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_CHAT_SERVICE_H
#define EXAMPLES_CHAT_SERVICE_H

#include <httplib.h>
#include <nopspan/context.h>
#include <nopspan/span.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <memory>
#include <string>

#include "batch_engine.h"
#include "fault_plan.h"
#include "openai_protocol.h"
#include "tokenizer.h"

namespace example {

constexpr std::size_t kLargestBodyBytes = std::size_t{4} << 20;

struct ServiceOptions {
  std::string model = "nopspan-ngram";
  std::size_t context_tokens = 8192;
  std::uint64_t seed = 0;
  FaultOptions faults;
};

// The HTTP side of the chat server: reads requests, lets the engine generate, writes answers whole or as a stream.
// Every request of a chat is one span, engine.request, from its arrival to its last byte, in the trace of the client's
// `traceparent`.
class ChatService {
 public:
  ChatService(const Tokenizer& tokenizer, BatchEngine& engine, ServiceOptions options);

  // Adds the paths of the protocol to a server.
  void serve_on(httplib::Server& server);

 private:
  void chat_completions(const httplib::Request& http, const std::string& body, httplib::Response& response);
  // Checks and queues the request; throws ApiError. Takes the span if it succeeds.
  std::shared_ptr<Generation> start(const ChatRequest& request, const std::vector<ToolCall>& calls,
                                    nopspan::AsyncSpan& span, const nopspan::Context& context,
                                    std::size_t& prompt_tokens);
  std::string new_id(const char* prefix);

  const Tokenizer& tokenizer_;
  BatchEngine& engine_;
  const ServiceOptions options_;
  const std::time_t started_ = std::time(nullptr);
  FaultPlan faults_;
  std::atomic<std::uint64_t> ids_{0};
};

}  // namespace example

#endif  // EXAMPLES_CHAT_SERVICE_H
