// SPDX-License-Identifier: Apache-2.0
#include "service.h"

#include <nopspan/propagation.h>
#include <nopspan/span.h>
#include <sys/socket.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>
#include <thread>
#include <utility>

namespace shop {

std::optional<int> read_options(int argc, char** argv, const char* description, const std::vector<Option>& options) {
  CLI::App app(description);
  for (const auto& [name, variable, least, help] : options) {
    app.add_option(name, *variable, help)->check(CLI::Range(least, 65535))->capture_default_str();
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return std::nullopt;
}

Server::Server() {
  sigemptyset(&ending_signals_);
  sigaddset(&ending_signals_, SIGINT);
  sigaddset(&ending_signals_, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &ending_signals_, nullptr);
  // The library sets SO_REUSEPORT by default, which would let two servers share one port.
  http_.set_socket_options([](int socket) {
    const int on = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  });
}

void Server::post(const std::string& path, std::function<Reply(const httplib::Request&)> answer) {
  http_.Post(path, [path, answer = std::move(answer)](const httplib::Request& request, httplib::Response& response) {
    Reply reply;
    nopspan::Context caller = nopspan::extract(request.headers);
    if (request.has_header("X-Tenant")) caller = caller.with_label("tenant", request.get_header_value("X-Tenant"));
    nopspan::span(path, caller, nopspan::SpanKind::server, [&](nopspan::Span& span) {
      try {
        reply = answer(request);
      } catch (const std::exception& error) {
        span.caught();
        reply = {500, error.what()};
      }
      span.set("http.response.status_code", reply.status);
      if (reply.status >= 500) span.fail(std::to_string(reply.status));  // does nothing after caught()
    });
    response.status = reply.status;
    response.set_content(reply.body, "text/plain");
  });
}

int Server::serve(int port) {
  const int bound = port == 0 ? http_.bind_to_any_port("127.0.0.1") : http_.bind_to_port("127.0.0.1", port) ? port : -1;
  if (bound < 0) {
    std::cerr << "cannot listen on 127.0.0.1:" << port << "\n";
    return 2;
  }
  std::thread listening([this] { http_.listen_after_bind(); });
  std::cout << "listening on http://127.0.0.1:" << bound << std::endl;
  int signal = 0;
  sigwait(&ending_signals_, &signal);
  while (!http_.is_running()) std::this_thread::yield();  // before that, stop() has no effect
  http_.stop();
  listening.join();
  return 0;
}

}  // namespace shop
