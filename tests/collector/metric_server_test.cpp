// SPDX-License-Identifier: Apache-2.0
// The HTTP listener with clients that behave, and with others.
#include "serve/metric_server.h"

#include "base/failure.h"
#include "base/gzip.h"
#include "base/open_file.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace nopspan::collector {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;
using testing::AllOf;
using testing::AnyOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// So long that a test that depends on it fails by its timeout.
constexpr auto kNever = std::chrono::milliseconds(1h);

MetricServerOptions patient_options() {
  MetricServerOptions options;
  options.address = "127.0.0.1:0";
  options.request_time = options.answer_time = kNever;
  options.reuse = 0ms;
  return options;
}

std::string render_name(MetricFormat format) { return format == MetricFormat::text ? "a text\n" : "a metric\n"; }

std::string big_text(std::size_t bytes = 4U << 20U) { return std::string(bytes, 'x'); }

void wait_until_true(const std::function<bool()>& condition) {
  const auto until = std::chrono::steady_clock::now() + 60s;
  while (!condition() && std::chrono::steady_clock::now() < until) std::this_thread::sleep_for(1ms);
  EXPECT_TRUE(condition());
}

class Client {
 public:
  // A client with a small receive buffer soon stops a server whose answers it does not read.
  explicit Client(const MetricServer& server, int receive_bytes = 0) {
    const std::string& address = server.address();
    sockaddr_in name = {};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    name.sin_port = htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
    if (receive_bytes > 0) setsockopt(socket_.get(), SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
    EXPECT_EQ(connect(socket_.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)), 0);
  }
  // Returns false if the server has closed the connection.
  bool send_all(std::string_view text) const {
    while (!text.empty()) {
      const ssize_t sent = send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (sent < 0) return false;
      text.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  void get(const std::string& path, const std::string& headers = "", const std::string& method = "GET") const {
    send_all(method + " " + path + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n");
  }
  // Everything until the server closes the connection.
  std::string rest() {
    while (receive()) {
    }
    return std::exchange(unread_, "");
  }
  bool has_answer() const {
    pollfd file = {socket_.get(), POLLIN, 0};
    return poll(&file, 1, 0) == 1;
  }
  void finish() const { shutdown(socket_.get(), SHUT_WR); }
  void reset() {
    const linger now = {1, 0};
    setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    socket_.reset();
  }

 private:
  bool receive() {
    std::array<char, 65536> bytes;
    const ssize_t size = recv(socket_.get(), bytes.data(), bytes.size(), 0);
    if (size <= 0) return false;
    unread_.append(bytes.data(), static_cast<std::size_t>(size));
    return true;
  }
  OpenFile socket_{socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  std::string unread_;
};

std::string answer_of(const MetricServer& server, const std::string& path, const std::string& headers = "",
                      const std::string& method = "GET") {
  Client client(server);
  client.get(path, headers, method);
  return client.rest();
}

std::string body_of(const std::string& answer) { return answer.substr(answer.find("\r\n\r\n") + 4); }

TEST(MetricServer, ServesTheFormatThatIsAskedFor) {
  const MetricServer server(patient_options(), render_name);
  EXPECT_THAT(answer_of(server, "/metrics"),
              AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), EndsWith("\r\n\r\na text\n"),
                    HasSubstr("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n")));
  // A header may be in several lines.
  EXPECT_THAT(answer_of(server, "/metrics?x=y",
                        "Accept: text/plain;q=0.5\r\naccept: application/openmetrics-text;version=1.0.0;q=0.7\r\n"),
              AllOf(EndsWith("\r\n\r\na metric\n"),
                    HasSubstr("Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n")));
  wait_until_true([&] { return server.counts().scrapes == 2; });
  EXPECT_EQ(server.counts().renders, 2);
}

TEST(MetricServer, CompressesIfTheClientAsks) {
  const std::string text = big_text();
  const MetricServer server(patient_options(), [&](MetricFormat) { return text; });
  const std::string answer = answer_of(server, "/metrics", "Accept-Encoding: gzip\r\n");
  EXPECT_THAT(answer.substr(0, 500),
              AllOf(HasSubstr("Content-Encoding: gzip\r\n"), HasSubstr("Vary: Accept, Accept-Encoding\r\n")));
  EXPECT_TRUE(gunzipped(body_of(answer), text.size()) == text);
  EXPECT_TRUE(body_of(answer_of(server, "/metrics", "Accept-Encoding: br, deflate\r\n")) == text);
}

TEST(MetricServer, ServesNoMetricsAsAnEmptyText) {
  const MetricServer server(patient_options(), [](MetricFormat) { return ""; });
  EXPECT_THAT(answer_of(server, "/metrics"), AllOf(StartsWith("HTTP/1.1 200 "), HasSubstr("Content-Length: 0\r\n"),
                                                   HasSubstr("Content-Type: text/plain; version=0.0.4")));
}

TEST(MetricServer, HasAFrontPageAndIsHealthy) {
  const MetricServer server(patient_options(), render_name);
  EXPECT_THAT(answer_of(server, "/"), AllOf(StartsWith("HTTP/1.1 200 "), HasSubstr("<a href=\"/metrics\">")));
  EXPECT_THAT(answer_of(server, "/-/healthy"), AllOf(StartsWith("HTTP/1.1 200 "), HasSubstr("healthy")));
  wait_until_true([&] { return server.counts().other == 2; });
  EXPECT_EQ(server.counts().renders, 0);
}

TEST(MetricServer, HasNothingElse) {
  const MetricServer server(patient_options(), render_name);
  for (const char* path : {"/metric", "/metrics/", "//metrics", "/../etc/passwd", "/%2e%2e/etc/passwd", "/-/ready", "*",
                           "http://localhost/metrics"}) {
    EXPECT_THAT(answer_of(server, path), AllOf(StartsWith("HTTP/1.1 404 "), HasSubstr("at /metrics"))) << path;
  }
  for (const char* method : {"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"}) {
    EXPECT_THAT(answer_of(server, "/metrics", "Origin: http://a.example\r\nContent-Length: 9\r\n", method),
                AllOf(StartsWith("HTTP/1.1 405 "), HasSubstr("Allow: GET, HEAD\r\n"), Not(HasSubstr("Access-Control"))))
        << method;
  }
  wait_until_true([&] { return server.counts().bad_requests == 15; });
}

TEST(MetricServer, AnswersHeadWithoutABody) {
  const MetricServer server(patient_options(), render_name);
  EXPECT_THAT(answer_of(server, "/metrics", "", "HEAD"),
              AllOf(StartsWith("HTTP/1.1 200 "), HasSubstr("Content-Length: 7\r\n"), EndsWith("\r\n\r\n")));
}

TEST(MetricServer, EndsTheConnectionAfterOneAnswer) {
  const MetricServer server(patient_options(), render_name);
  for (const char* more : {"", "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"}) {
    Client client(server);
    client.get("/-/healthy", "Content-Length: 44\r\nExpect: 100-continue\r\nRange: bytes=0-1\r\n");
    client.send_all(more);
    EXPECT_THAT(client.rest(), AllOf(StartsWith("HTTP/1.1 200 "), HasSubstr("Connection: close\r\n"),
                                     EndsWith("\r\n\r\nnopspan is healthy.\n")));
  }
}

TEST(MetricServer, RefusesHostsOfOthers) {
  MetricServerOptions options = patient_options();
  options.hosts = {"node7"};
  const MetricServer server(options, render_name);
  const auto status_for = [&](const std::string& headers, const std::string& version = "1.1") {
    Client client(server);
    client.send_all("GET /metrics HTTP/" + version + "\r\n" + headers + "\r\n");
    return client.rest();
  };
  for (const std::string host : {"localhost", "127.0.0.1", "node7:9464"}) {
    EXPECT_THAT(status_for("Host: " + host + "\r\n"), StartsWith("HTTP/1.1 200 ")) << host;
  }
  EXPECT_THAT(status_for("Host: evil.example\r\n"),
              AllOf(StartsWith("HTTP/1.1 421 "), HasSubstr("does not know the host evil.example"),
                    HasSubstr("--host NAME"), Not(HasSubstr("a text"))));
  EXPECT_THAT(status_for("Host: evil\x1b[31m\r\n"), AllOf(StartsWith("HTTP/1.1 421 "), Not(HasSubstr("\x1b"))));
  EXPECT_THAT(status_for(""), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(status_for("Host: localhost\r\nHost: evil.example\r\n"), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(status_for("", "1.0"), StartsWith("HTTP/1.1 200 "));
  wait_until_true([&] { return server.counts().wrong_host == 2; });
  wait_until_true([&] { return server.counts().bad_requests == 2; });
}

TEST(MetricServer, KnowsTheAddressByWhichItIsReached) {
  MetricServerOptions options = patient_options();
  options.address = "[::]:0";  // takes IPv4 too
  try {
    const MetricServer server(options, render_name);
    for (const auto& [host, status] :
         {std::pair("127.0.0.1", "HTTP/1.1 200 "), std::pair("127.0.0.9", "HTTP/1.1 421 ")}) {
      Client client(server);
      client.send_all("GET / HTTP/1.1\r\nHost: " + std::string(host) + "\r\n\r\n");
      EXPECT_THAT(client.rest(), StartsWith(status));
    }
  } catch (const Failure& failure) {
    GTEST_SKIP() << "no IPv6: " << failure.what();
  }
}

TEST(MetricServer, RefusesRequestsThatAreTooLarge) {
  const MetricServer server(patient_options(), render_name);
  const std::string line(8000, 'a');
  EXPECT_THAT(answer_of(server, "/metrics", "A: " + line + "\r\nB: " + line + "\r\nC: " + line + "\r\n"),
              StartsWith("HTTP/1.1 431 "));
  EXPECT_THAT(answer_of(server, "/" + std::string(100'000, 'a')), StartsWith("HTTP/1.1 414 "));
  wait_until_true([&] { return server.counts().bad_requests == 2; });
  std::string many;
  for (int i = 0; i < 10'000; ++i) many += "A: b\r\n";
  EXPECT_THAT(answer_of(server, "/metrics", many), AnyOf("", StartsWith("HTTP/1.1 431 ")));
  // A line without an end.
  Client client(server);
  client.send_all("GET /metrics HTTP/1.1\r\nHost: ");
  while (client.send_all(line) && !client.has_answer()) {
  }
  EXPECT_THAT(client.rest(), AnyOf("", StartsWith("HTTP/1.1 431 ")));
  EXPECT_THAT(answer_of(server, "/metrics"), StartsWith("HTTP/1.1 200 "));
}

TEST(MetricServer, SurvivesGarbage) {
  MetricServerOptions options = patient_options();
  const MetricServer server(options, render_name);
  std::vector<std::string> requests = {"\r\n",
                                       "\n",
                                       " \r\n\r\n",
                                       "GET\r\n\r\n",
                                       "GET /metrics\r\n\r\n",
                                       "GET /metrics HTTP/2.0\r\n\r\n",
                                       "get /metrics HTTP/1.1\r\n\r\n",
                                       "GET  /metrics HTTP/1.1\r\n\r\n",
                                       "GET /metrics HTTP/1.1\r\nHost\r\n\r\n",
                                       "GET /metrics HTTP/1.1\r\n: x\r\n\r\n",
                                       "GET /%zz%00%u12 HTTP/1.1\r\nHost: localhost\r\n\r\n",
                                       "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                                       "GET /\0metrics HTTP/1.1\r\n\0\r\n\r\n"s,
                                       "\x16\x03\x01\x02"};
  std::minstd_rand random(1);
  for (int i = 0; i < 500; ++i) {
    std::string bytes = i % 2 == 0 ? "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: " : "";
    for (std::size_t size = random() % 200; size > 0; --size) bytes += static_cast<char>(random());
    requests.push_back(bytes + (i % 3 == 0 ? "\r\n\r\n" : ""));
  }
  for (const std::string& request : requests) {
    Client client(server);
    client.send_all(request);
    client.finish();
    EXPECT_THAT(client.rest(), AnyOf("", StartsWith("HTTP/1.1 ")));
  }
  EXPECT_THAT(answer_of(server, "/metrics"), StartsWith("HTTP/1.1 200 "));
}

TEST(MetricServer, SurvivesClientsThatLeave) {
  const std::string text = big_text();
  const MetricServer server(patient_options(), [&](MetricFormat) { return text; });
  for (int i = 0; i < 100; ++i) {
    Client client(server, 4096);
    if (i % 2 == 0) client.get("/metrics");
    if (i % 4 == 0) wait_until_true([&] { return client.has_answer(); });
    client.reset();
  }
  EXPECT_THAT(answer_of(server, "/metrics"), StartsWith("HTTP/1.1 200 "));
  wait_until_true([&] { return server.counts().cut >= 25; });
}

TEST(MetricServer, EndsRequestsThatTakeTooLong) {
  MetricServerOptions options = patient_options();
  options.request_time = 50ms;
  const MetricServer server(options, render_name);
  EXPECT_EQ(Client(server).rest(), "");
  Client half(server);
  half.send_all("GET /metrics HTTP/1.1\r\nHost:");
  EXPECT_THAT(half.rest(), AllOf(StartsWith("HTTP/1.1 408 "), HasSubstr("Connection: close\r\n")));
  // A byte now and then does not give it more time.
  Client slow(server);
  slow.send_all("GET /metrics HTTP/1.1\r\nA: ");
  while (!slow.has_answer() && slow.send_all("a")) std::this_thread::sleep_for(1ms);
  EXPECT_THAT(slow.rest(), AnyOf("", StartsWith("HTTP/1.1 408 ")));
}

TEST(MetricServer, EndsAnswersThatAreNotRead) {
  MetricServerOptions options = patient_options();
  options.answer_time = 50ms;
  const std::string text = big_text();
  const MetricServer server(options, [&](MetricFormat) { return text; });
  Client silent(server, 4096);
  silent.get("/metrics");
  wait_until_true([&] { return server.counts().cut == 1; });
  EXPECT_LT(silent.rest().size(), text.size());
  EXPECT_EQ(server.counts().scrapes, 0U) << "each request has one result";
}

TEST(MetricServer, MakesRoomForNewConnections) {
  MetricServerOptions options = patient_options();
  options.connections = 4;
  const MetricServer server(options, render_name);
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 40; ++i) {
    clients.push_back(std::make_unique<Client>(server));
    if (i % 2 == 0) clients.back()->send_all("GET /metrics HTTP/1.1\r\n");
  }
  EXPECT_THAT(answer_of(server, "/metrics"), StartsWith("HTTP/1.1 200 "));
  EXPECT_GE(server.counts().displaced, 37);
}

// The limit leaves one descriptor, which the last client takes.
TEST(MetricServer, MakesRoomIfThereAreNoMoreDescriptors) {
  const MetricServer server(patient_options(), render_name);
  const Client silent(server);
  wait_until_true([&] { return server.counts().connections == 1; });
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = dup(STDERR_FILENO);
  close(next);
  const rlimit limit = {static_cast<rlim_t>(next) + 1, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_THAT(answer_of(server, "/metrics"), StartsWith("HTTP/1.1 200 "));
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(server.counts().displaced, 1U);
}

TEST(MetricServer, KeepsFewTextsForSlowClients) {
  std::atomic<int> renders = 0;
  const MetricServer server(patient_options(), [&](MetricFormat) {
    ++renders;
    return big_text();
  });
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 16; ++i) {
    clients.push_back(std::make_unique<Client>(server, 4096));
    clients.back()->get("/metrics");
    wait_until_true([&] { return clients.back()->has_answer(); });
  }
  EXPECT_THAT(answer_of(server, "/metrics"), AllOf(StartsWith("HTTP/1.1 503 "), HasSubstr("Retry-After: ")));
  EXPECT_EQ(renders, 16);
  wait_until_true([&] { return server.counts().busy == 1; });
  EXPECT_THAT(answer_of(server, "/"), StartsWith("HTTP/1.1 200 "));
  clients.resize(8);
  wait_until_true([&] { return answer_of(server, "/metrics").starts_with("HTTP/1.1 200 "); });
}

TEST(MetricServer, RendersOnceForAStorm) {
  MetricServerOptions options = patient_options();
  options.reuse = kNever;
  std::atomic<bool> may_end = false;
  const MetricServer server(options, [&](MetricFormat) {
    wait_until_true([&] { return may_end.load(); });
    return std::string("rendered\n");
  });
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(std::make_unique<Client>(server));
    clients.back()->get("/metrics");
  }
  wait_until_true([&] { return server.counts().connections == 20; });
  EXPECT_THAT(answer_of(server, "/-/healthy"), StartsWith("HTTP/1.1 200 "));
  may_end = true;
  for (const auto& client : clients) EXPECT_THAT(client->rest(), EndsWith("\r\n\r\nrendered\n"));
  EXPECT_EQ(server.counts().renders, 1);
  wait_until_true([&] { return server.counts().scrapes == 20; });
}

TEST(MetricServer, ReportsThatMetricsCannotBeRendered) {
  std::atomic<bool> fails = true;
  const MetricServer server(patient_options(), [&](MetricFormat) -> std::string {
    if (fails) throw std::runtime_error("secret");
    return "better\n";
  });
  EXPECT_THAT(answer_of(server, "/metrics"),
              AllOf(StartsWith("HTTP/1.1 500 "), HasSubstr("could not be rendered"), Not(HasSubstr("secret"))));
  fails = false;
  EXPECT_THAT(answer_of(server, "/metrics"), EndsWith("\r\n\r\nbetter\n"));
  wait_until_true([&] { return server.counts().failed == 1; });
}

TEST(MetricServer, StopsWithOpenConnections) {
  const std::string text = big_text();
  auto server = std::make_unique<MetricServer>(patient_options(), [&](MetricFormat) { return text; });
  const Client idle(*server);
  const Client half(*server);
  half.send_all("GET /metrics");
  const Client silent(*server, 4096);
  silent.get("/metrics");
  wait_until_true([&] { return silent.has_answer() && server->counts().connections == 3; });
  server.reset();  // would wait for an hour
}

}  // namespace
}  // namespace nopspan::collector
