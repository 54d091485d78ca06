// SPDX-License-Identifier: Apache-2.0
#include "agent_loop.h"

#include <nopspan/context.h>
#include <nopspan/llm.h>

#include <chrono>
#include <exception>
#include <thread>

namespace example {
namespace {

namespace llm = nopspan::llm;

constexpr const char* kEngine = "openai";
constexpr const char* kSystemPrompt =
    "You are a helpful agent. Use the calculator for arithmetic and file_search to find a text in files.";

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void add(const Usage& more, Usage& usage) {
  usage.prompt_tokens += more.prompt_tokens;
  usage.completion_tokens += more.completion_tokens;
  usage.cached_tokens += more.cached_tokens;
}

Json assistant_json(const Message& message) {
  Json json{{"role", "assistant"}, {"content", message.content}, {"tool_calls", Json::array()}};
  for (const ToolCall& call : message.tool_calls) json["tool_calls"].push_back(tool_call_json(call));
  return json;
}

}  // namespace

Outcome AgentLoop::answer(const std::string& prompt, std::uint64_t number) {
  Outcome outcome;
  started_ms_ = now_ms();
  try {
    nopspan::span(
        llm::chat,
        [&](llm::ChatFields& fields) {
          fields.engine(kEngine).model(options_.model);
          if (!options_.tenant.empty()) fields.tenant(options_.tenant);
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
  outcome.duration_ms = now_ms() - started_ms_;
  return outcome;
}

void AgentLoop::chat(const std::string& prompt, std::uint64_t number, Outcome& outcome) {
  Json body = first_body(prompt, number);
  while (step(body, outcome)) {
    if (outcome.steps >= options_.max_steps) {
      throw StepFailed("no answer after " + std::to_string(outcome.steps) + " steps");
    }
  }
}

bool AgentLoop::step(Json& body, Outcome& outcome) {
  ++outcome.steps;
  return nopspan::span(
      llm::step, [&](llm::StepFields& fields) { fields.engine(kEngine).model(options_.model); },
      [&](nopspan::Span& span) {
        const ChatReply reply = ask(body, span, outcome);
        span.with<llm::StepFields>([&](llm::StepFields& fields) {
          fields.input_tokens(static_cast<std::int64_t>(reply.usage.prompt_tokens))
              .output_tokens(static_cast<std::int64_t>(reply.usage.completion_tokens))
              .cached_tokens(static_cast<std::int64_t>(reply.usage.cached_tokens))
              .step_result(reply.message.content)
              .set("finish_reason", reply.finish_reason);
        });
        add(reply.usage, outcome.usage);
        if (reply.message.tool_calls.empty()) {
          outcome.answer = reply.message.content;
          return false;
        }
        body["messages"].push_back(assistant_json(reply.message));
        for (const ToolCall& call : reply.message.tool_calls) use_tool(call, body["messages"], outcome);
        return true;
      });
}

// Calls the model until it answers or another attempt makes no sense; then throws StepFailed.
ChatReply AgentLoop::ask(const Json& body, nopspan::Span& span, Outcome& outcome) {
  const auto on_first_token = [&] {
    span.first_token();
    if (outcome.first_token_ms < 0.0) outcome.first_token_ms = now_ms() - started_ms_;
  };
  for (int number = 1;; ++number) {
    Attempt attempt = client_.attempt(body, on_first_token);
    if (attempt.ok) return std::move(attempt.reply);
    const HttpFailure& failure = attempt.failure;
    if (!may_retry(failure) || number >= options_.retry.attempts) throw StepFailed(failure.message);
    const std::chrono::milliseconds delay = retry_delay(options_.retry, number, failure, random_);
    llm::retry([&](llm::RetryFields& fields) {
      fields.attempt(number).delay_ms(delay.count()).reason(failure.reason);
      if (failure.status != 0) fields.status_code(failure.status);
    });
    ++outcome.retries;
    std::this_thread::sleep_for(delay);
  }
}

void AgentLoop::use_tool(const ToolCall& call, Json& messages, Outcome& outcome) {
  ++outcome.tool_calls;
  nopspan::Span span{llm::tool, [&](llm::ToolFields& fields) {
                       fields.engine(kEngine).model(options_.model).tool_call_id(call.id).tool_name(call.name);
                       fields.content("arguments", call.arguments);
                     }};
  const ToolResult result = tools_.run(call);
  span.with<llm::ToolFields>([&](llm::ToolFields& fields) { fields.result(result.text); });
  if (!result.ok) {
    ++outcome.tool_errors;
    span.fail(result.error_type, result.text);
  }
  messages.push_back(Json{{"role", "tool"}, {"tool_call_id", call.id}, {"content", result.text}});
}

Json AgentLoop::first_body(const std::string& prompt, std::uint64_t number) const {
  Json body{{"model", options_.model},
            {"messages",
             Json::array({{{"role", "system"}, {"content", kSystemPrompt}}, {{"role", "user"}, {"content", prompt}}})},
            {"max_tokens", options_.max_tokens},
            {"temperature", options_.temperature},
            {"seed", static_cast<std::int64_t>((options_.seed + number) & 0x7FFFFFFFU)}};
  if (options_.tools) body["tools"] = AgentTools::definitions();
  if (options_.ignore_eos) body["ignore_eos"] = true;
  if (options_.stream) {
    body["stream"] = true;
    body["stream_options"] = Json{{"include_usage", true}};
  }
  return body;
}

}  // namespace example
