// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_AGENT_LOOP_H
#define EXAMPLES_AGENT_LOOP_H

#include <nopspan/llm.h>
#include <nopspan/span.h>

#include <cstdint>
#include <random>
#include <string>

#include "chat_client.h"
#include "openai_protocol.h"

namespace example {

struct AgentOptions {
  std::string base_url;      // of the server: http://host:port
  std::string organization;  // sent to the server; the label `tenant` of the spans
  std::string route;         // sent to the server; the label `route` of the spans
  std::string model = "nopspan-ngram";
  std::string search_root = ".";  // for the tool file_search
  int max_tokens = 128;
  std::uint64_t seed = 0;
  bool ignore_eos = false;
  int max_attempts = 6;      // of one model call
  int retry_delay_ms = 100;  // before the second attempt
};

// The outcome of one prompt, or the sum of several.
struct Outcome {
  bool ok = false;
  std::string answer;
  std::string error;
  std::string request_id;  // nopspan's request id, if the prompt was traced
  int steps = 0;
  int retries = 0;
  int tool_calls = 0;
  int tool_errors = 0;
  Usage usage;

  // Adds the numbers of another outcome.
  void add(const Outcome& other);
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
  // `worker` makes the random delays of several instances differ.
  AgentLoop(const AgentOptions& options, std::uint64_t worker);

  // `number` makes the seeds of prompts differ.
  Outcome answer(const std::string& prompt, std::uint64_t number);

 private:
  void chat(const std::string& prompt, std::uint64_t number, Outcome& outcome);
  // Asks the model and runs the tools that it calls, until it answers.
  void run(Json& body, Outcome& outcome);
  // Makes one step. Returns true if the model called tools, whose results are now in the messages.
  bool step(Json& body, Outcome& outcome);
  void set_request(nopspan::llm::StepFields& fields, const Json& body) const;
  ChatReply ask(const Json& body, nopspan::Span& span, Outcome& outcome);
  void use_tool(const ToolCall& call, Json& messages, Outcome& outcome);
  Json first_body(const std::string& prompt, std::uint64_t number) const;

  const AgentOptions options_;
  ChatClient client_;
  std::mt19937_64 random_;
};

}  // namespace example

#endif  // EXAMPLES_AGENT_LOOP_H
