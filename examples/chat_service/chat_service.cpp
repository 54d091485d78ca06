// SPDX-License-Identifier: Apache-2.0
#include "chat_service.h"

#include <nopspan/engine.h>
#include <nopspan/propagation.h>

#include <chrono>
#include <random>
#include <regex>
#include <utility>
#include <vector>

namespace example {
namespace {

constexpr const char* kJsonType = "application/json";
constexpr const char* kTenantHeader = "OpenAI-Organization";
constexpr const char* kRouteHeader = "X-Route";

void append(const std::string& role, const std::string& text, std::vector<Token>& tokens) {
  tokens.push_back("<" + role + ">");
  for (Token& token : tokens_of(text)) tokens.push_back(std::move(token));
}

// A conversation in the model's tokens: the tools, each message after the token of its role, and the token of the
// assistant, who speaks next. So a conversation and its continuation begin with the same tokens.
std::vector<Token> prompt_of(const ChatRequest& request) {
  std::vector<Token> tokens;
  if (!request.tools.empty()) append("tools", to_text(request.tools), tokens);
  for (const Json& message : request.messages) {
    const Json& calls = member(message, "tool_calls");
    append(text_of(message, "role"), text_of(message, "content") + (calls.is_null() ? "" : to_text(calls)), tokens);
  }
  tokens.emplace_back("<assistant>");
  return tokens;
}

// The beginning of an answer, which the model does not generate: the arguments of the tool calls, or the first line of
// each result of a tool.
std::string given_text(const ChatRequest& request, const Json& calls) {
  std::string text;
  for (const Json& call : calls) text += text_of(call["function"], "arguments");
  auto first = request.messages.end();
  while (first != request.messages.begin() && text_of(*(first - 1), "role") == "tool") --first;
  for (; first != request.messages.end(); ++first) {
    const std::string result = text_of(*first, "content");
    text += "The tool says: " + result.substr(0, result.find('\n')) + "\n";
  }
  return text;
}

}  // namespace

void ChatService::serve_on(httplib::Server& server) {
  server.Post("/v1/chat/completions",
              [this](const httplib::Request& http, httplib::Response& response) { chat_completions(http, response); });
  server.Get("/healthz",
             [](const httplib::Request&, httplib::Response& response) { response.set_content("ok\n", "text/plain"); });
}

nopspan::AsyncSpan ChatService::begin_span(const httplib::Request& http, const nopspan::Context& parent,
                                           Clock::time_point arrival) const {
  const auto arrival_ns = std::chrono::nanoseconds(arrival.time_since_epoch()).count();
  const nopspan::SpanOptions options{nopspan::SpanKind::server, static_cast<std::uint64_t>(arrival_ns)};
  return nopspan::AsyncSpan{nopspan::engine::request, parent, options, [&](nopspan::engine::RequestFields& fields) {
                              fields.engine(kEngineName).model(engine_.options().model).arrival_ns(arrival_ns);
                              const std::string tenant = http.get_header_value(kTenantHeader);
                              const std::string route = http.get_header_value(kRouteHeader);
                              if (!tenant.empty()) fields.tenant(tenant);
                              if (!route.empty()) fields.label("route", route);
                            }};
}

void ChatService::chat_completions(const httplib::Request& http, httplib::Response& response) {
  const Clock::time_point arrival = Clock::now();
  const nopspan::Context parent = nopspan::extract(http.headers);
  nopspan::AsyncSpan span = begin_span(http, parent, arrival);
  const nopspan::Context context = span.context_or(parent);
  const std::string request_id = context.empty() ? new_id("req-") : std::string(context.request_id());
  response.set_header("x-request-id", request_id);
  try {
    const Fault fault = next_fault();
    if (fault.status != 0) throw ApiError(fault.status, "server_error", "a failure that --fail-rate asked for");
    const ChatRequest request = parse_chat_request(http.body);
    AnswerHead head{new_id("chatcmpl-"), request.model,         request_id,      arrival, ClientWatch(http),
                    tool_calls(request), request.include_usage, fault.cut_stream};
    const std::shared_ptr<Answer> answer = start(request, std::move(head), span);
    if (request.stream) {
      response.set_chunked_content_provider(
          "text/event-stream", [answer](std::size_t, httplib::DataSink& sink) { return answer->stream(sink); });
    } else {
      response.set_content(answer->whole(), kJsonType);
    }
  } catch (const ApiError& error) {
    response.status = error.status();
    response.set_content(error.body(), kJsonType);
    span.set("http.response.status_code", error.status());  // does nothing if the engine has taken the span
    span.fail(error.type(), error.what());
  }
}

std::shared_ptr<Answer> ChatService::start(const ChatRequest& request, AnswerHead head, nopspan::AsyncSpan& span) {
  if (request.model != engine_.options().model) {
    throw ApiError(404, "invalid_request_error", "no such model: " + request.model);
  }
  GenerationRequest wanted;
  wanted.prompt = prompt_of(request);
  wanted.given = tokens_of(given_text(request, head.calls));
  wanted.max_tokens = head.calls.empty() ? request.max_tokens : wanted.given.size();
  wanted.temperature = request.temperature;
  wanted.seed = request.seed.value_or(options_.seed + requests_);
  wanted.ignore_end = request.ignore_eos;
  if (wanted.prompt.size() + wanted.given.size() >= engine_.options().context_tokens) {
    throw ApiError(400, "invalid_request_error", "the prompt has more tokens than --context allows");
  }
  auto generation = std::make_shared<Generation>(std::move(wanted), span.context());
  if (!engine_.submit(generation, span)) {
    throw ApiError(503, "server_error", "too many requests wait for the engine");
  }
  return std::make_shared<Answer>(std::move(head), std::move(generation), engine_.options().books);
}

// The tool calls that a prompt asks for. Rules decide this instead of the model, so that tests can predict it: an
// operation of two numbers calls `calculator`, and a text in quotes calls `file_search`.
Json ChatService::tool_calls(const ChatRequest& request) {
  static const std::regex kOperation("[0-9]+ [-+*/] [0-9]+");
  static const std::regex kQuoted("\"([^\"]+)\"");
  Json calls = Json::array();
  const Json& last = request.messages.back();
  if (request.tools.empty() || text_of(last, "role") != "user") return calls;
  const std::string prompt = text_of(last, "content");
  const auto call = [&](const char* tool, const char* argument, const std::string& value) {
    Json json = tool_call_json({new_id("call_"), tool, to_text(Json{{argument, value}})});
    json["index"] = calls.size();  // for streams
    calls.push_back(std::move(json));
  };
  std::smatch found;
  if (std::regex_search(prompt, found, kOperation)) call("calculator", "expression", found[0]);
  if (std::regex_search(prompt, found, kQuoted)) call("file_search", "query", found[1]);
  return calls;
}

// Decides whether a request fails, so that clients have something to retry. Only the seed and n decide this for the
// n-th request.
ChatService::Fault ChatService::next_fault() {
  const std::uint64_t n = requests_++;
  std::seed_seq seed{options_.seed >> 32U, options_.seed & 0xFFFFFFFFU, n >> 32U, n & 0xFFFFFFFFU};
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<> uniform;
  const bool fails = uniform(random) < options_.fail_rate;
  const double kind = uniform(random);
  Fault fault;
  fault.cut_stream = uniform(random) < options_.cut_rate;
  if (fails) fault.status = kind < 1.0 / 3 ? 500 : kind < 2.0 / 3 ? 502 : 503;
  return fault;
}

}  // namespace example
