// SPDX-License-Identifier: Apache-2.0
#include "chat_service.h"

#include <nopspan/engine.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <utility>

#include "tool_intent.h"

namespace example {
namespace {

constexpr const char* kJsonType = "application/json";
constexpr const char* kTenantHeader = "OpenAI-Organization";
constexpr const char* kRouteHeader = "X-Route";
constexpr std::size_t kCutStreamAfterEvents = 4;

// Spreads a counter over 64 bits, with the constants of splitmix64.
std::uint64_t mix(std::uint64_t value) {
  value += 0x9E3779B97F4A7C15U;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9U;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBU;
  return value ^ (value >> 31);
}

ApiError error_of(const Fault& fault) {
  if (fault.status == 429) return {429, "rate_limit_error", "rate_limit_exceeded", "too many requests a second"};
  return {fault.status, "server_error", "simulated", "a failure that --fail-rate asked for"};
}

void write_error(httplib::Response& response, const ApiError& error, std::chrono::milliseconds retry_after) {
  response.status = error.status();
  response.set_content(error.body(), kJsonType);
  if (retry_after.count() <= 0) return;
  // Retry-After can only express whole seconds. Clients that look for retry-after-ms get the exact time.
  response.set_header("Retry-After", std::to_string((retry_after.count() + 999) / 1000));
  response.set_header("retry-after-ms", std::to_string(retry_after.count()));
}

nopspan::Context incoming_context(const httplib::Request& http) {
  if (!http.has_header("traceparent")) return {};
  return nopspan::Context::from_traceparent(http.get_header_value("traceparent"), http.get_header_value("tracestate"));
}

// Writes an answer to a chunked response, event by event.
httplib::ContentProviderWithoutLength provider(std::shared_ptr<Answer> answer, bool include_usage, bool cut) {
  return [answer = std::move(answer), include_usage, cut, events_left = kCutStreamAfterEvents](
             std::size_t, httplib::DataSink& sink) mutable {
    if (cut && events_left-- == 0) {
      answer->abandon("cut");
      return false;
    }
    const std::string events = answer->next_events(include_usage);
    if (answer->abandoned()) return false;
    if (events.empty()) {
      sink.done();
      return true;
    }
    if (sink.write(events.data(), events.size())) return true;
    answer->abandon("client_closed");
    return false;
  };
}

void append(const std::string& role, const std::string& text, std::vector<Token>& tokens) {
  tokens.push_back("<" + role + ">");
  const std::vector<Token> encoded = tokens_of(text);
  tokens.insert(tokens.end(), encoded.begin(), encoded.end());
}

// A conversation in the model's tokens: the tools, each message after the token of its role, and the token of the
// assistant, who speaks next. The tokens of a conversation are a prefix of those of its continuation.
std::vector<Token> prompt_tokens(const ChatRequest& request) {
  std::vector<Token> tokens;
  for (const ToolDefinition& tool : request.tools) {
    append("tool", tool.name + "(" + tool.argument + "): " + tool.description, tokens);
  }
  for (const Message& message : request.messages) {
    std::string text = message.content;
    for (const ToolCall& call : message.tool_calls) text += call.name + call.arguments;
    append(message.role, text, tokens);
  }
  tokens.emplace_back("<assistant>");
  return tokens;
}

}  // namespace

ChatService::ChatService(BatchEngine& engine, ServiceOptions options)
    : engine_(engine), options_(std::move(options)), faults_(options_.faults) {}

void ChatService::serve_on(httplib::Server& server) {
  // Reads the body itself, because the library limits a body with the content type of a form to 8 KiB, and curl sends
  // that content type by default.
  server.Post("/v1/chat/completions",
              [this](const httplib::Request& http, httplib::Response& response, const httplib::ContentReader& read) {
                const Clock::time_point arrival = Clock::now();
                if (http.is_multipart_form_data())
                  return write_error(response, bad_request("the body is not JSON"), {});
                std::string body;
                const bool complete = read([&body](const char* data, std::size_t size) {
                  if (body.size() + size > kLargestBodyBytes) return false;
                  body.append(data, size);
                  return true;
                });
                if (complete) return chat_completions(http, body, arrival, response);
                write_error(response, {413, "invalid_request_error", "", "the body is too large or broke off"}, {});
              });
  server.Get("/v1/chat/completions", [](const httplib::Request&, httplib::Response& response) {
    response.set_header("Allow", "POST");
    write_error(response, {405, "invalid_request_error", "method_not_allowed", "POST only"}, {});
  });
  server.Get("/v1/models", [this](const httplib::Request&, httplib::Response& response) {
    response.set_content(model_list(options_.model, started_), kJsonType);
  });
  server.Get("/healthz",
             [](const httplib::Request&, httplib::Response& response) { response.set_content("ok\n", "text/plain"); });
  server.set_error_handler([](const httplib::Request& http, httplib::Response& response) {
    if (!response.body.empty()) return;
    const std::string message = response.status == 404 ? "no such path: " + http.method + " " + http.path
                                                       : "HTTP error " + std::to_string(response.status);
    write_error(response, {response.status, "invalid_request_error", "", message}, {});
  });
  server.set_exception_handler([](const httplib::Request&, httplib::Response& response, const std::exception_ptr&) {
    write_error(response, {500, "server_error", "", "internal error"}, {});
  });
}

nopspan::AsyncSpan ChatService::begin_span(const httplib::Request& http, const nopspan::Context& parent,
                                           Clock::time_point arrival) const {
  const auto arrival_ns = std::chrono::nanoseconds(arrival.time_since_epoch()).count();
  const nopspan::SpanOptions options{nopspan::SpanKind::server, static_cast<std::uint64_t>(arrival_ns)};
  return nopspan::AsyncSpan{nopspan::engine::request, parent, options, [&](nopspan::engine::RequestFields& fields) {
                              fields.engine(kEngineName).model(options_.model).arrival_ns(arrival_ns);
                              const std::string tenant = http.get_header_value(kTenantHeader);
                              const std::string route = http.get_header_value(kRouteHeader);
                              if (!tenant.empty()) fields.tenant(tenant);
                              if (!route.empty()) fields.label("route", route);
                            }};
}

void ChatService::chat_completions(const httplib::Request& http, const std::string& body, Clock::time_point arrival,
                                   httplib::Response& response) {
  const nopspan::Context parent = incoming_context(http);
  nopspan::AsyncSpan span = begin_span(http, parent, arrival);
  const nopspan::Context context = span.context_or(parent);
  const Caller caller{context.empty() ? new_id("req-") : std::string(context.request_id()), arrival, ClientWatch(http)};
  response.set_header("x-request-id", caller.request_id);

  const Fault fault = faults_.next();
  std::shared_ptr<Answer> answer;
  try {
    if (fault.status != 0) throw error_of(fault);
    const ChatRequest request = parse_chat_request(body);
    std::vector<ToolCall> calls = intended_tool_calls(request);
    for (ToolCall& call : calls) call.id = new_id("call_");
    std::size_t prompt_tokens = 0;
    auto generation = start(request, calls, span, prompt_tokens);
    answer = std::make_shared<Answer>(AnswerHead{new_id("chatcmpl-"), options_.model, std::time(nullptr)},
                                      std::move(calls), prompt_tokens, std::move(generation), caller, options_.books);
    if (request.stream) {
      response.set_header("Cache-Control", "no-cache");
      response.set_chunked_content_provider("text/event-stream",
                                            provider(std::move(answer), request.include_usage, fault.cut_stream));
    } else {
      response.set_content(answer->whole(), kJsonType);
    }
  } catch (const ApiError& error) {
    if (answer == nullptr) return refuse(error, fault, span, response);
    write_error(response, error, {});
  }
}

void ChatService::refuse(const ApiError& error, const Fault& fault, nopspan::AsyncSpan& span,
                         httplib::Response& response) {
  write_error(response, error, fault.retry_after);
  span.set("http.response.status_code", error.status());
  span.fail(error.type(), error.what());
}

std::shared_ptr<Generation> ChatService::start(const ChatRequest& request, const std::vector<ToolCall>& calls,
                                               nopspan::AsyncSpan& span, std::size_t& prompt_tokens) {
  if (request.model != options_.model) {
    throw ApiError(404, "invalid_request_error", "model_not_found", "no such model: " + request.model);
  }
  GenerationRequest generation;
  generation.prompt = example::prompt_tokens(request);
  if (calls.empty()) {
    const std::string beginning = answer_from_tool_results(request);
    generation.given = tokens_of(beginning);
  } else {
    std::string arguments;
    for (const ToolCall& call : calls) arguments += call.arguments;
    generation.given = tokens_of(arguments);
  }
  prompt_tokens = generation.prompt.size();
  const std::size_t least = prompt_tokens + (calls.empty() ? 1 : generation.given.size());
  if (least > options_.context_tokens) {
    throw ApiError(400, "invalid_request_error", "context_length_exceeded",
                   "the prompt has " + std::to_string(prompt_tokens) + " tokens, which is too much for a context of " +
                       std::to_string(options_.context_tokens));
  }
  generation.max_tokens = calls.empty() ? request.max_tokens : generation.given.size();
  generation.temperature = request.temperature;
  generation.seed = request.has_seed ? request.seed : mix(options_.seed + mix(ids_));
  generation.ignore_end = request.ignore_eos;

  auto started = std::make_shared<Generation>(std::move(generation), span.context());
  if (!engine_.submit(started, span)) {
    throw ApiError(503, "server_error", "overloaded", "too many requests wait for the engine");
  }
  return started;
}

std::string ChatService::new_id(const char* prefix) {
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx",
                static_cast<unsigned long long>(mix(static_cast<std::uint64_t>(started_) + mix(++ids_))));
  return std::string(prefix) + digits;
}

}  // namespace example
