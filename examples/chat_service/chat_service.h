// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_CHAT_SERVICE_H
#define EXAMPLES_CHAT_SERVICE_H

#include <httplib.h>
#include <nopspan/context.h>
#include <nopspan/span.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "answer.h"
#include "batch_engine.h"
#include "openai_protocol.h"

namespace example {

struct ServiceOptions {
  std::uint64_t seed = 0;  // of the simulated failures, and of requests without a seed
  double fail_rate = 0.0;  // the fraction of requests that get a 500, 502 or 503
  double cut_rate = 0.0;   // the fraction of streams that are cut off in the middle
};

// The HTTP side of the chat server. It reads requests, lets the engine generate, and writes answers as a whole or as a
// stream. Each chat request is one span, engine.request, from its arrival to its last byte. The span belongs to the
// trace of the client's `traceparent`.
class ChatService {
 public:
  // The engine must outlive the service.
  ChatService(BatchEngine& engine, const ServiceOptions& options) : engine_(engine), options_(options) {}

  // Adds the paths of the protocol to a server.
  void serve_on(httplib::Server& server);

 private:
  using Clock = GenerationFacts::Clock;

  // A simulated failure.
  struct Fault {
    int status = 0;  // 500, 502 or 503. 0: none
    bool cut_stream = false;
  };

  void chat_completions(const httplib::Request& http, httplib::Response& response);
  nopspan::AsyncSpan begin_span(const httplib::Request& http, const nopspan::Context& parent,
                                Clock::time_point arrival) const;
  // Queues the request. Takes the span on success. Throws ApiError.
  std::shared_ptr<Answer> start(const ChatRequest& request, AnswerHead head, nopspan::AsyncSpan& span);
  Json tool_calls(const ChatRequest& request);
  Fault next_fault();
  std::string new_id(const char* prefix) { return prefix + std::to_string(++ids_); }

  BatchEngine& engine_;
  const ServiceOptions options_;
  std::atomic<std::uint64_t> requests_{0};
  std::atomic<std::uint64_t> ids_{0};
};

}  // namespace example

#endif  // EXAMPLES_CHAT_SERVICE_H
