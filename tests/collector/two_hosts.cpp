// SPDX-License-Identifier: Apache-2.0
// Requests that cross two processes, which record themselves: two_hosts FOLDER REQUESTS. "Host" a sends each request to
// host b in headers. The first third of the requests has ids of the library, the second ids of the application. The
// last third comes from a gateway, which has sampled a quarter: "ot=th:c".
#include <nopspan/propagation.h>
#include <nopspan/recording.h>
#include <nopspan/span.h>

#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>

namespace {

using Headers = std::map<std::string, std::string>;

void open(nopspan::recording::Writer& recording, const std::string& path) {
  if (const std::string error = recording.open(path); !error.empty()) {
    std::cerr << error << "\n";
    std::exit(1);
  }
}

// A context of the gateway. The first byte of the trace's randomness decides.
nopspan::Context from_gateway(int request) {
  char trace_id[33];
  const unsigned random = static_cast<unsigned>(request) * 37U % 256U;
  std::snprintf(trace_id, sizeof(trace_id), "%018x%02x%012x", 4711, random, request + 1);
  const bool is_sampled = random >= 0xc0U;
  const std::string parent = std::string("00-") + trace_id + "-00000000000000aa-" + (is_sampled ? "01" : "00");
  return nopspan::Context::from_traceparent(parent.c_str(), is_sampled ? "ot=th:c,vendor=1" : "vendor=1");
}

void serve(const std::string& path, int requests) {
  nopspan::recording::Writer recording;
  open(recording, path);
  for (int i = 0; i < requests; ++i) {
    Headers headers;
    std::string line;
    while (std::getline(std::cin, line) && !line.empty()) {
      const std::size_t end = line.find(' ');
      headers[line.substr(0, end)] = line.substr(end + 1);
    }
    nopspan::span("b.serve", nopspan::extract(headers), nopspan::SpanKind::server, [&](nopspan::Span& span) {
      const nopspan::Span query{"b.query"};
      if (i % 2 == 1) span.fail("timeout");
    });
  }
}

void call(int to, const nopspan::Context& request) {
  const nopspan::ContextScope here{request};
  const nopspan::Span root{"a.request"};
  const nopspan::Span client{"a.call", nopspan::SpanKind::client};
  Headers headers;
  nopspan::inject(headers);
  std::string text;
  for (const auto& [key, value] : headers) ((text += key) += " ").append(value) += "\n";
  text += "\n";
  if (write(to, text.data(), text.size()) != static_cast<ssize_t>(text.size())) std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: two_hosts FOLDER REQUESTS\n";
    return 2;
  }
  const std::string folder = argv[1];
  const int requests = std::atoi(argv[2]);
  int ends[2];
  if (pipe(ends) != 0) return 1;
  if (fork() == 0) {
    dup2(ends[0], STDIN_FILENO);
    close(ends[0]);
    close(ends[1]);
    serve(folder + "/b.rec", requests);
    return 0;
  }
  close(ends[0]);
  nopspan::recording::Writer recording;
  open(recording, folder + "/a.rec");
  for (int i = 0; i < requests; ++i) {
    switch (i % 3) {
      case 0:
        call(ends[1], nopspan::Context::make());
        break;
      case 1:
        call(ends[1], nopspan::Context::with_request_id("order-" + std::to_string(i)));
        break;
      default:
        call(ends[1], from_gateway(i));
    }
  }
  close(ends[1]);
  int status = 0;
  wait(&status);
  return status == 0 ? 0 : 1;
}
