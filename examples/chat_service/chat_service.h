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

#include "answer.h"
#include "batch_engine.h"
#include "fault_plan.h"
#include "openai_protocol.h"

namespace example {

constexpr std::size_t kLargestBodyBytes = std::size_t{4} << 20;

struct ServiceOptions {
  std::string model = "nopspan-ngram";
  std::size_t context_tokens = 8192;
  std::uint64_t seed = 0;
  FaultOptions faults;
  Books books;
};

// The HTTP side of the chat server. It reads requests, lets the engine generate, and writes answers as a whole or as a
// stream. Each chat request is one span, engine.request, from its arrival to its last byte. The span belongs to the
// trace of the client's `traceparent`.
class ChatService {
 public:
  // The arguments must outlive the service.
  ChatService(BatchEngine& engine, ServiceOptions options);

  // Adds the paths of the protocol to a server.
  void serve_on(httplib::Server& server);

 private:
  using Clock = GenerationFacts::Clock;

  void chat_completions(const httplib::Request& http, const std::string& body, Clock::time_point arrival,
                        httplib::Response& response);
  nopspan::AsyncSpan begin_span(const httplib::Request& http, const nopspan::Context& parent,
                                Clock::time_point arrival) const;
  static void refuse(const ApiError& error, const Fault& fault, nopspan::AsyncSpan& span, httplib::Response& response);
  // Validates and queues the request. Takes the span on success. Otherwise throws ApiError.
  std::shared_ptr<Generation> start(const ChatRequest& request, const std::vector<ToolCall>& calls,
                                    nopspan::AsyncSpan& span, std::size_t& prompt_tokens);
  std::string new_id(const char* prefix);

  BatchEngine& engine_;
  const ServiceOptions options_;
  const std::time_t started_ = std::time(nullptr);
  FaultPlan faults_;
  std::atomic<std::uint64_t> ids_{0};
};

}  // namespace example

#endif  // EXAMPLES_CHAT_SERVICE_H
