// SPDX-License-Identifier: Apache-2.0
#include "agent_loop.h"

#include <nopspan/agent.h>
#include <nopspan/context.h>
#include <nopspan/genai_spans.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <stdexcept>
#include <thread>

#include "agent_tools.h"

namespace example {
namespace {

namespace agent = nopspan::agent;
namespace genai = nopspan::genai;
namespace llm = nopspan::llm;

constexpr const char* kEngine = "openai";
constexpr const char* kOperator = "example";  // the agent's name in the agent catalogue
constexpr const char* kSystemPrompt =
    "You are a helpful agent. Use the calculator for arithmetic and file_search to find a text in files.";
constexpr double kTemperature = 0.8;
constexpr int kMostSteps = 6;
constexpr int kLongestDelayMs = 30000;

httplib::Headers headers_of(const AgentOptions& options) {
  httplib::Headers headers;
  if (!options.organization.empty()) headers.emplace("OpenAI-Organization", options.organization);
  if (!options.route.empty()) headers.emplace("X-Route", options.route);
  return headers;
}

Json assistant_json(const ChatReply& reply) {
  Json json{{"role", "assistant"}, {"content", reply.content}, {"tool_calls", Json::array()}};
  for (const ToolCall& call : reply.tool_calls) json["tool_calls"].push_back(tool_call_json(call));
  return json;
}

// Whether another attempt may succeed.
bool may_retry(const AttemptFailed& failure) {
  return failure.status() == 0 || failure.status() == 408 || failure.status() == 429 || failure.status() >= 500;
}

// How long to wait after the attempt-th attempt (counted from 1) has failed. The delay doubles with each attempt. A
// random part of up to one half is subtracted, so that clients do not return at the same time.
int retry_delay_ms(int first_ms, int attempt, std::mt19937_64& random) {
  const std::int64_t longest =
      std::min<std::int64_t>(std::int64_t{first_ms} << std::min(attempt - 1, 20), kLongestDelayMs);
  return static_cast<int>(std::uniform_int_distribution<std::int64_t>(longest / 2, longest)(random));
}

void report_prompt(const Json& body) {
  genai::prompt_sent([&](genai::PromptSentFields& event) {
    event.model(body["model"].get<std::string>()).message_count(body["messages"].size()).operation("chat");
  });
}

void report_response(const ChatReply& reply) {
  genai::response_received([&](genai::ResponseReceivedFields& event) {
    event.model(reply.model)
        .prompt_tokens(reply.usage.prompt_tokens)
        .completion_tokens(reply.usage.completion_tokens)
        .total_tokens(reply.usage.prompt_tokens + reply.usage.completion_tokens)
        .finish_reasons({reply.finish_reason});
  });
  for (const ToolCall& call : reply.tool_calls) {
    genai::tool_call(call.name,
                     [&](genai::ToolCallFields& event) { event.tool_call_id(call.id).arguments(call.arguments); });
  }
}

void set_response(llm::StepFields& fields, const ChatReply& reply) {
  fields.response_id(reply.id)
      .response_model(reply.model)
      .finish_reason(reply.finish_reason)
      .input_tokens(static_cast<std::int64_t>(reply.usage.prompt_tokens))
      .output_tokens(static_cast<std::int64_t>(reply.usage.completion_tokens))
      .cached_tokens(static_cast<std::int64_t>(reply.usage.cached_tokens))
      .step_result(reply.content);
}

// The fields that every event of the agent catalogue has.
template <class F>
F& of_operator(F& fields) {
  fields.operator_name(kOperator).trace_id(nopspan::Context::current().trace_id());
  return fields;
}

}  // namespace

void Outcome::add(const Outcome& other) {
  steps += other.steps;
  retries += other.retries;
  tool_calls += other.tool_calls;
  tool_errors += other.tool_errors;
  usage += other.usage;
}

AgentLoop::AgentLoop(const AgentOptions& options, std::uint64_t worker)
    : options_(options), client_(options.base_url, headers_of(options)), random_(options.seed + (worker << 32U)) {}

Outcome AgentLoop::answer(const std::string& prompt, std::uint64_t number) {
  Outcome outcome;
  try {
    nopspan::span(
        llm::chat,
        [&](llm::ChatFields& fields) {
          fields.engine(kEngine).model(options_.model);
          if (!options_.organization.empty()) fields.tenant(options_.organization);
          if (!options_.route.empty()) fields.label("route", options_.route);
        },
        [&](nopspan::Span& span) {
          outcome.request_id = nopspan::request_id();
          chat(prompt, number, outcome);
          span.with<llm::ChatFields>(
              [&](llm::ChatFields& fields) { fields.chat_result(outcome.answer).measure("steps", outcome.steps); });
        });
    outcome.ok = true;
  } catch (const std::exception& error) {
    outcome.error = error.what();
  }
  return outcome;
}

void AgentLoop::chat(const std::string& prompt, std::uint64_t number, Outcome& outcome) {
  Json body = first_body(prompt, number);
  agent::operators::started([](auto& event) { event.operator_name(kOperator); });
  const auto stopped = [](const char* state) {
    agent::operators::loop_stopped([&](auto& event) { event.operator_name(kOperator).final_state(state); });
  };
  try {
    run(body, outcome);
  } catch (...) {
    stopped("failed");
    throw;
  }
  stopped("done");
}

void AgentLoop::run(Json& body, Outcome& outcome) {
  for (bool goes_on = true; goes_on;) {
    if (outcome.steps == kMostSteps) throw std::runtime_error("no answer after many steps");
    ++outcome.steps;
    goes_on = nopspan::span(
        agent::operator_iteration,
        [&](agent::OperatorIterationFields& fields) { of_operator(fields).iteration(outcome.steps); },
        [&] { return step(body, outcome); });
  }
  agent::operators::done([](auto& event) { of_operator(event); });
}

void AgentLoop::set_request(llm::StepFields& fields, const Json& body) const {
  fields.engine(kEngine)
      .model(options_.model)
      .server(client_.host(), client_.port())
      .temperature(body["temperature"].get<double>())
      .max_tokens(options_.max_tokens)
      .seed(body["seed"].get<std::int64_t>())
      .stream(true);
}

bool AgentLoop::step(Json& body, Outcome& outcome) {
  return nopspan::span(
      llm::step, [&](llm::StepFields& fields) { set_request(fields, body); },
      [&](nopspan::Span& span) {
        const ChatReply reply = ask(body, span, outcome);
        report_response(reply);
        span.with<llm::StepFields>([&](llm::StepFields& fields) { set_response(fields, reply); });
        outcome.usage += reply.usage;
        if (reply.tool_calls.empty()) {
          outcome.answer = reply.content;
          return false;
        }
        agent::operators::think([&](auto& event) { of_operator(event).thought(reply.content); });
        body["messages"].push_back(assistant_json(reply));
        for (const ToolCall& call : reply.tool_calls) use_tool(call, body["messages"], outcome);
        return true;
      });
}

// Calls the model until it answers. Throws AttemptFailed if another attempt makes no sense.
ChatReply AgentLoop::ask(const Json& body, nopspan::Span& span, Outcome& outcome) {
  for (int attempt = 1;; ++attempt) {
    report_prompt(body);
    try {
      return client_.attempt(body, [&] { span.first_token(); });
    } catch (const AttemptFailed& failure) {
      if (!may_retry(failure) || attempt == options_.max_attempts) {
        agent::operators::llm_error(
            [&](auto& event) { of_operator(event).reason(failure.what()).retry_count(attempt - 1).will_retry(false); });
        throw;
      }
      const int delay_ms = retry_delay_ms(options_.retry_delay_ms, attempt, random_);
      llm::retry([&](llm::RetryFields& fields) {
        fields.attempt(attempt).delay_ms(delay_ms).reason(failure.status() == 429 ? "rate_limit" : "provider_error");
        if (failure.status() != 0) fields.status_code(failure.status());
      });
      ++outcome.retries;
      std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
    }
  }
}

void AgentLoop::use_tool(const ToolCall& call, Json& messages, Outcome& outcome) {
  ++outcome.tool_calls;
  nopspan::Span span{llm::tool, [&](llm::ToolFields& fields) {
                       fields.engine(kEngine).model(options_.model).tool_call_id(call.id).tool_name(call.name);
                       fields.tool_type("function").arguments(call.arguments);
                     }};
  const ToolResult result = run_tool(call, options_.search_root);
  span.with<llm::ToolFields>([&](llm::ToolFields& fields) { fields.result(result.text); });
  if (!result.error_type.empty()) {
    ++outcome.tool_errors;
    span.fail(result.error_type, result.text);
  }
  messages.push_back(Json{{"role", "tool"}, {"tool_call_id", call.id}, {"content", result.text}});
}

Json AgentLoop::first_body(const std::string& prompt, std::uint64_t number) const {
  return Json{{"model", options_.model},
              {"messages", Json::array({{{"role", "system"}, {"content", kSystemPrompt}},
                                        {{"role", "user"}, {"content", prompt}}})},
              {"tools", tool_definitions()},
              {"max_tokens", options_.max_tokens},
              {"temperature", kTemperature},
              {"seed", static_cast<std::int64_t>((options_.seed + number) & 0x7FFFFFFFU)},
              {"ignore_eos", options_.ignore_eos},
              {"stream", true},
              {"stream_options", {{"include_usage", true}}}};
}

}  // namespace example
