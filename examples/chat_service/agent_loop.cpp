// SPDX-License-Identifier: Apache-2.0
#include "agent_loop.h"

#include <nopspan/agent.h>
#include <nopspan/context.h>
#include <nopspan/genai_events.h>

#include <chrono>
#include <exception>
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
  for (const ToolCall& call : reply.message.tool_calls) {
    genai::tool_call([&](genai::ToolCallFields& event) {
      event.tool_name(call.name).tool_call_id(call.id).arguments(call.arguments);
    });
  }
}

void set_response(llm::StepFields& fields, const ChatReply& reply) {
  fields.response_id(reply.id)
      .response_model(reply.model)
      .finish_reason(reply.finish_reason)
      .input_tokens(static_cast<std::int64_t>(reply.usage.prompt_tokens))
      .output_tokens(static_cast<std::int64_t>(reply.usage.completion_tokens))
      .cached_tokens(static_cast<std::int64_t>(reply.usage.cached_tokens))
      .step_result(reply.message.content);
}

// The fields that every event of the agent catalogue has.
template <class F>
F& of_operator(F& fields) {
  fields.operator_name(kOperator).trace_id(nopspan::Context::current().trace_id());
  return fields;
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
  outcome.duration_ms = now_ms() - started_ms_;
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
    if (outcome.steps >= options_.max_steps) {
      throw StepFailed("no answer after " + std::to_string(outcome.steps) + " steps");
    }
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
      .temperature(options_.temperature)
      .max_tokens(options_.max_tokens)
      .seed(body["seed"].get<std::int64_t>())
      .stream(options_.stream);
}

bool AgentLoop::step(Json& body, Outcome& outcome) {
  return nopspan::span(
      llm::step, [&](llm::StepFields& fields) { set_request(fields, body); },
      [&](nopspan::Span& span) {
        const ChatReply reply = ask(body, span, outcome);
        report_response(reply);
        span.with<llm::StepFields>([&](llm::StepFields& fields) { set_response(fields, reply); });
        add(reply.usage, outcome.usage);
        if (reply.message.tool_calls.empty()) {
          outcome.answer = reply.message.content;
          return false;
        }
        agent::operators::think([&](auto& event) { of_operator(event).thought(reply.message.content); });
        body["messages"].push_back(assistant_json(reply.message));
        for (const ToolCall& call : reply.message.tool_calls) use_tool(call, body["messages"], outcome);
        return true;
      });
}

// Calls the model until it answers. Throws StepFailed if another attempt makes no sense.
ChatReply AgentLoop::ask(const Json& body, nopspan::Span& span, Outcome& outcome) {
  const auto on_first_token = [&] {
    span.first_token();
    if (outcome.first_token_ms < 0.0) outcome.first_token_ms = now_ms() - started_ms_;
  };
  for (int number = 1;; ++number) {
    report_prompt(body);
    Attempt attempt = client_.attempt(body, on_first_token);
    if (attempt.ok) return std::move(attempt.reply);
    const HttpFailure& failure = attempt.failure;
    if (!may_retry(failure) || number >= options_.retry.attempts) {
      agent::operators::llm_error(
          [&](auto& event) { of_operator(event).reason(failure.message).retry_count(number - 1).will_retry(false); });
      throw StepFailed(failure.message);
    }
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
  Json body{{"model", options_.model},
            {"messages",
             Json::array({{{"role", "system"}, {"content", kSystemPrompt}}, {{"role", "user"}, {"content", prompt}}})},
            {"max_tokens", options_.max_tokens},
            {"temperature", options_.temperature},
            {"seed", static_cast<std::int64_t>((options_.seed + number) & 0x7FFFFFFFU)}};
  if (options_.tools) body["tools"] = tool_definitions();
  if (options_.ignore_eos) body["ignore_eos"] = true;
  if (options_.stream) {
    body["stream"] = true;
    body["stream_options"] = Json{{"include_usage", true}};
  }
  return body;
}

}  // namespace example
