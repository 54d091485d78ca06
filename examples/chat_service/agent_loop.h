// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_AGENT_LOOP_H
#define EXAMPLES_AGENT_LOOP_H

#include <nopspan/llm.h>
#include <nopspan/span.h>

#include <cstdint>
#include <random>
#include <stdexcept>
#include <string>

#include "chat_client.h"
#include "http_retry.h"
#include "openai_protocol.h"

namespace example {

struct LoopOptions {
  std::string model;
  std::string tenant;  // a label of the spans
  std::string route;
  bool stream = false;
  bool tools = true;
  int max_steps = 6;
  int max_tokens = 128;
  double temperature = 0.8;
  std::uint64_t seed = 0;
  bool ignore_eos = false;
  std::string search_root = ".";  // for the tool file_search
  RetryPolicy retry;
};

// The outcome of one prompt.
struct Outcome {
  bool ok = false;
  std::string answer;
  std::string error;
  std::string request_id;  // nopspan's request id, if the prompt was traced
  int steps = 0;
  int retries = 0;
  int tool_calls = 0;
  int tool_errors = 0;
  Usage usage;  // the sum over all steps
  double duration_ms = 0.0;
  double first_token_ms = -1.0;  // of the first step, if it was a stream
};

// A model call failed for good.
class StepFailed : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Answers prompts: asks the model, runs the tools that it calls, sends it the results, and repeats until it answers.
// Use one instance per thread.
//
// In a trace, a prompt is an llm.chat span. Each round is a child span of it, agent.operator.iteration. In a round, the
// model call is llm.step, and each tool that the model called is an llm.tool span inside that. The agent is an operator
// of the agent catalogue, whose events describe what it does. gen_ai.* events describe the messages between it and the
// model.
class AgentLoop {
 public:
  AgentLoop(ChatClient& client, const LoopOptions& options)
      : client_(client), options_(options), random_(options.seed) {}

  // `number` makes the seeds of prompts differ.
  Outcome answer(const std::string& prompt, std::uint64_t number);

 private:
  void chat(const std::string& prompt, std::uint64_t number, Outcome& outcome);
  // Asks the model and runs the tools that it calls, until it answers. Throws StepFailed.
  void run(Json& body, Outcome& outcome);
  // Makes one step. Returns true if the model called tools, whose results are now in `messages`.
  bool step(Json& body, Outcome& outcome);
  void set_request(nopspan::llm::StepFields& fields, const Json& body) const;
  ChatReply ask(const Json& body, nopspan::Span& span, Outcome& outcome);
  void use_tool(const ToolCall& call, Json& messages, Outcome& outcome);
  Json first_body(const std::string& prompt, std::uint64_t number) const;

  ChatClient& client_;
  const LoopOptions options_;
  std::mt19937_64 random_;
  double started_ms_ = 0.0;
};

}  // namespace example

#endif  // EXAMPLES_AGENT_LOOP_H
