// SPDX-License-Identifier: Apache-2.0
#include "chat_client.h"

#include <nopspan/context.h>

#include <chrono>
#include <cstdlib>
#include <utility>

#include "chat_reply_reader.h"

namespace example {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// "http://host:port/v1/" is a server, "http://host:port", and a prefix of paths, "/v1".
struct BaseUrl {
  std::string server;
  std::string prefix;
  std::string host;
  int port;
};

BaseUrl split_base_url(const std::string& url) {
  std::size_t host = std::string::npos;
  for (const char* scheme : {"http://", "https://"}) {
    if (url.rfind(scheme, 0) == 0) host = std::string(scheme).size();
  }
  if (host == std::string::npos || host == url.size() || url[host] == '/') {
    throw std::invalid_argument("not a base URL (http://host:port): " + url);
  }
  const std::size_t path = std::min(url.find('/', host), url.size());
  BaseUrl base{url.substr(0, path), url.substr(path), url.substr(host, path - host), host == 8 ? 443 : 80};
  const std::size_t colon = base.host.rfind(':');
  if (colon != std::string::npos && base.host.back() != ']') {  // the colons of an IPv6 address are inside brackets
    base.port = std::atoi(base.host.c_str() + colon + 1);
    base.host.resize(colon);
  }
  while (!base.prefix.empty() && base.prefix.back() == '/') base.prefix.pop_back();
  if (base.prefix.empty()) base.prefix = "/v1";
  return base;
}

}  // namespace

ChatClient::ChatClient(const ClientOptions& options)
    : options_(options),
      path_prefix_(split_base_url(options.base_url).prefix),
      host_(split_base_url(options.base_url).host),
      port_(split_base_url(options.base_url).port),
      http_(split_base_url(options.base_url).server) {
  if (!http_.is_valid()) throw std::invalid_argument("not a base URL (http://host:port): " + options.base_url);
  http_.set_keep_alive(true);
  http_.set_tcp_nodelay(true);
  http_.set_connection_timeout(options.timeout_s);
  http_.set_read_timeout(options.timeout_s);
  http_.set_write_timeout(options.timeout_s);
}

httplib::Headers ChatClient::headers() const {
  httplib::Headers headers;
  if (!options_.api_key.empty()) headers.emplace("Authorization", "Bearer " + options_.api_key);
  if (!options_.organization.empty()) headers.emplace("OpenAI-Organization", options_.organization);
  if (!options_.route.empty()) headers.emplace("X-Route", options_.route);
  const nopspan::Context context = nopspan::Context::current();
  if (!context.empty()) {
    headers.emplace("traceparent", context.traceparent());
    const auto state = context.tracestate();
    if (!state.empty()) headers.emplace("tracestate", state);
  }
  return headers;
}

Attempt ChatClient::attempt(const Json& body, const std::function<void()>& on_first_token) {
  httplib::Request request;
  request.method = "POST";
  request.path = path_prefix_ + "/chat/completions";
  request.headers = headers();
  request.set_header("Content-Type", "application/json");
  request.body = to_text(body);

  StreamedReply streamed(on_first_token);
  std::string received;  // a complete answer, or the body of an error
  std::string bad_reply;
  bool as_stream = body.value("stream", false);
  request.response_handler = [&](const httplib::Response& response) {
    as_stream = as_stream && response.status == 200;
    return true;
  };
  request.content_receiver = [&](const char* data, std::size_t size, std::uint64_t, std::uint64_t) {
    try {
      if (as_stream)
        streamed.feed({data, size});
      else
        received.append(data, size);
    } catch (const BadReply& error) {
      bad_reply = error.what();
    }
    return bad_reply.empty();
  };

  const Clock::time_point start = Clock::now();
  const httplib::Result result = http_.send(request);
  Attempt attempt;
  attempt.failure = failure_of(result, received, seconds_since(start));
  if (!bad_reply.empty()) attempt.failure.message = bad_reply;
  if (!result || result->status != 200) return attempt;
  try {
    attempt.reply = as_stream ? streamed.finish() : read_reply(received);
    attempt.ok = true;
  } catch (const BadReply& error) {
    attempt.failure = HttpFailure{};
    attempt.failure.message = error.what();
  }
  return attempt;
}

HttpFailure ChatClient::failure_of(const httplib::Result& result, const std::string& body, double elapsed_s) const {
  HttpFailure failure;
  if (!result) {
    const bool timed_out = result.error() == httplib::Error::ConnectionTimeout ||
                           (result.error() == httplib::Error::Read && elapsed_s >= options_.timeout_s);
    if (timed_out) failure.reason = "timeout";
    failure.message = "HTTP: " + httplib::to_string(result.error());
    return failure;
  }
  failure.status = result->status;
  if (failure.status == 429) failure.reason = "rate_limit";
  if (failure.status == 408 || failure.status == 504) failure.reason = "timeout";
  failure.message = "HTTP status " + std::to_string(failure.status) + ": " + read_error_message(body);
  failure.retry_after = parse_retry_after(result->get_header_value("Retry-After"));
  if (result->has_header("retry-after-ms")) {
    failure.retry_after = parse_retry_after(result->get_header_value("retry-after-ms")) / 1000;
  }
  return failure;
}

std::string ChatClient::first_model() {
  const httplib::Result result = http_.Get(path_prefix_ + "/models", headers());
  if (!result)
    throw std::runtime_error("cannot reach " + options_.base_url + ": " + httplib::to_string(result.error()));
  const Json json = Json::parse(result->body, nullptr, /*allow_exceptions=*/false);
  if (result->status == 200 && json.is_object() && json.contains("data") && json["data"].is_array()) {
    for (const Json& model : json["data"]) {
      if (model.is_object() && model.contains("id") && model["id"].is_string()) return model["id"].get<std::string>();
    }
  }
  throw std::runtime_error(options_.base_url + " names no model (HTTP status " + std::to_string(result->status) +
                           "); give --model");
}

}  // namespace example
