// SPDX-License-Identifier: Apache-2.0
// The HTTP listener with clients that behave, and with others.
#include "serve/http_server.h"

#include "as_user.h"
#include "base/failure.h"
#include "base/gzip.h"
#include "base/open_file.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <ifaddrs.h>
#include <net/if.h>
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

HttpServerOptions patient_options() {
  HttpServerOptions options;
  options.address = "127.0.0.1:0";
  options.request_time = options.answer_time = options.slow_time = kNever;
  options.reuse = 0ms;
  return options;
}

struct MetricServer : HttpServer {
  MetricServer(const HttpServerOptions& options, SharedRenders::Render render)
      : HttpServer(options, {std::move(render)}) {}
};

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
  explicit Client(const HttpServer& server, int receive_bytes = 0, in_addr_t to = htonl(INADDR_LOOPBACK)) {
    const std::string& address = server.address();
    sockaddr_in name = {};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = to;
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
  void get(const std::string& path, const std::string& headers = "Connection: close\r\n",
           const std::string& method = "GET") const {
    send_all(method + " " + path + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n");
  }
  // Everything until the server closes the connection.
  std::string rest() {
    while (receive()) {
    }
    return std::exchange(unread_, "");
  }
  // What arrives up to this text. The last part may have more.
  std::string until(const std::string& text) {
    while (unread_.find(text) == std::string::npos && receive()) {
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

std::string answer_of(const HttpServer& server, const std::string& path, const std::string& headers = "",
                      const std::string& method = "GET") {
  Client client(server);
  client.get(path, headers + "Connection: close\r\n", method);
  return client.rest();
}

std::string body_of(const std::string& answer) { return answer.substr(answer.find("\r\n\r\n") + 4); }

TEST(HttpServer, ServesTheFormatThatIsAskedFor) {
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

TEST(HttpServer, CompressesIfTheClientAsks) {
  const std::string text = big_text();
  const MetricServer server(patient_options(), [&](MetricFormat) { return text; });
  const std::string answer = answer_of(server, "/metrics", "Accept-Encoding: gzip\r\n");
  EXPECT_THAT(answer.substr(0, 500),
              AllOf(HasSubstr("Content-Encoding: gzip\r\n"), HasSubstr("Vary: Accept, Accept-Encoding\r\n")));
  EXPECT_TRUE(gunzipped(body_of(answer), text.size()) == text);
  EXPECT_TRUE(body_of(answer_of(server, "/metrics", "Accept-Encoding: br, deflate\r\n")) == text);
}

TEST(HttpServer, ServesNoMetricsAsAnEmptyText) {
  const MetricServer server(patient_options(), [](MetricFormat) { return ""; });
  EXPECT_THAT(answer_of(server, "/metrics"), AllOf(StartsWith("HTTP/1.1 200 "), HasSubstr("Content-Length: 0\r\n"),
                                                   HasSubstr("Content-Type: text/plain; version=0.0.4")));
}

TEST(HttpServer, HasAFrontPageAndIsHealthy) {
  const MetricServer server(patient_options(), render_name);
  EXPECT_THAT(answer_of(server, "/"), AllOf(StartsWith("HTTP/1.1 200 "), HasSubstr("<a href=\"/metrics\">")));
  EXPECT_THAT(answer_of(server, "/-/healthy"), AllOf(StartsWith("HTTP/1.1 200 "), HasSubstr("healthy")));
  wait_until_true([&] { return server.counts().other == 2; });
  EXPECT_EQ(server.counts().renders, 0);
}

TEST(HttpServer, SendsAPageWhatItFollows) {
  LiveFrames lines(100);
  HttpServerOptions options = patient_options();
  options.followers = 2;
  const HttpServer server(options, {render_name, "<p>", {{"/live", &lines}}});
  EXPECT_THAT(answer_of(server, "/"), AllOf(HasSubstr("frame-ancestors 'none'\r\n"), EndsWith("\r\n\r\n<p>")));
  lines.add("a", "first");
  lines.set(LiveFrames::State::rates, "old");
  lines.set(LiveFrames::State::rates, "new");
  Client client(server);
  client.get("/live", "");
  wait_until_true([&] { return lines.readers() == 1; });
  const std::string begin = client.until("rates 3 new\n");
  EXPECT_THAT(begin, AllOf(HasSubstr("\r\nsession 0 "), HasSubstr("a 1 first\n"), Not(HasSubstr("old"))));
  lines.add("b", "second");
  EXPECT_THAT(client.until("b 4 second\n"), HasSubstr("b 4 second\n"));

  // A page that was cut off goes on.
  const std::string session =
      begin.substr(begin.find("session 0 ") + 10, begin.find("a 1 ") - begin.find("session 0 ") - 14);
  const std::string id = session.substr(0, session.find_first_not_of("0123456789"));
  Client again(server);
  again.get("/live?session=" + id + "&next=4", "");
  EXPECT_THAT(again.until("second\n"), AllOf(Not(HasSubstr("session")), Not(HasSubstr("first"))));
  EXPECT_THAT(answer_of(server, "/live"), StartsWith("HTTP/1.1 503 "));
  again.reset();
  lines.add("c", std::string(90, 'x'));  // removes the others
  wait_until_true([&] { return lines.readers() == 1; });
  Client late(server);
  late.get("/live?session=" + id + "&next=2");
  EXPECT_THAT(late.until("x\n"), AllOf(HasSubstr("missed 0 \n"), Not(HasSubstr("second"))));
  lines.clear();
  lines.add("d", "third");
  EXPECT_THAT(late.until("third\n"), AllOf(HasSubstr("session 0 "), HasSubstr("d 1 third\n")));
  EXPECT_EQ(server.counts().followed, 3U);
  lines.add("end", "");
  EXPECT_THAT(late.rest(), EndsWith("end 2 \n\r\n0\r\n\r\n"));
}

TEST(LiveFrames, GivesNewReadersAllStates) {
  LiveFrames lines(100);
  lines.set(LiveFrames::State::open, "a problem");
  lines.add("a", std::string(80, 'x'));
  lines.add("b", std::string(80, 'y'));  // removes the first one
  LiveFrames::Place place;
  std::string read;
  while (const LiveFrames::Line line = lines.next(place)) read += *line;
  EXPECT_THAT(read, AllOf(MatchesRegex("session 0 [0-9]+\nb 3 y+\nopen 4 a problem\n"), Not(HasSubstr("missed"))));
}

TEST(LiveFrames, SaysThatAReaderWhoNeedsAllHasMissedSome) {
  LiveFrames lines(100, true);
  lines.add("a", std::string(80, 'x'));
  lines.add("b", std::string(80, 'y'));
  LiveFrames::Place place;
  EXPECT_THAT(*lines.next(place), StartsWith("session 0 "));
  EXPECT_EQ(*lines.next(place), "missed 0 \n");
}

TEST(HttpServer, NoticesAPageThatLeavesWhileThereIsNoLine) {
  LiveFrames lines(100);
  const HttpServer server(patient_options(), {render_name, "", {{"/live", &lines}}});
  Client client(server);
  client.get("/live", "");
  client.until("session 0 ");
  wait_until_true([&] { return lines.readers() == 1; });
  client.reset();
  wait_until_true([&] { return lines.readers() == 0; });
}

TEST(HttpServer, RefusesOtherSites) {
  LiveFrames lines(100);
  const HttpServer server(patient_options(), {render_name, "<b>", {{"/live", &lines}}});
  EXPECT_THAT(answer_of(server, "/live", "Sec-Fetch-Site: cross-site\r\n"), StartsWith("HTTP/1.1 403 "));
  EXPECT_THAT(answer_of(server, "/", "Sec-Fetch-Site: cross-site\r\n"), EndsWith("<b>")) << "a link elsewhere";
}

// A page and what it follows, with the words by which a client shows who it is.
struct PageServer {
  explicit PageServer(const HttpServerOptions& options = patient_options())
      : server(options, {render_name, "<b>", {{"/live", &lines}, {"/capture", &lines}}}) {}
  [[nodiscard]] std::string token() const {
    const std::string url = server.page_url();
    return url.substr(url.find('=') + 1);
  }
  [[nodiscard]] std::string cookie() const { return "Cookie: other=1; nopspan-80=" + token() + "\r\n"; }
  // Of a client with these headers, whether it gets the page and what it follows.
  [[nodiscard]] bool lets_in(const std::string& headers) const {
    std::size_t count = 0;
    for (const char* path : kPaths) count += answer_of(server, path, headers, "HEAD").starts_with("HTTP/1.1 200 ");
    EXPECT_THAT(count, AnyOf(0, std::size(kPaths))) << "all have the same rule";
    return count > 0;
  }

  static constexpr const char* kPaths[] = {"/", "/perfetto", "/live", "/capture"};
  LiveFrames lines{100};
  HttpServer server;
};

constexpr char kByProxy[] = "X-Forwarded-For: 10.0.0.7\r\n";

TEST(HttpServer, ShowsThePageToItsUserAndToClientsWithTheToken) {
  const PageServer page;
  EXPECT_TRUE(page.lets_in(""));
  EXPECT_FALSE(page.lets_in(kByProxy));
  EXPECT_TRUE(page.lets_in(page.cookie() + kByProxy));
  EXPECT_THAT(answer_of(page.server, "/", kByProxy),
              AllOf(StartsWith("HTTP/1.1 403 "), HasSubstr("because a proxy has forwarded the request"),
                    HasSubstr("Open the address that nopspan printed"), Not(HasSubstr(page.token()))));
  EXPECT_THAT(answer_of(page.server, "/metrics", kByProxy), EndsWith("a text\n"));
  wait_until_true([&] { return page.server.counts().refused == std::size(PageServer::kPaths) + 1; });
}

TEST(HttpServer, TakesTheTokenFromTheAddressIntoACookie) {
  const PageServer page;
  for (const std::string path : {"/", "/perfetto"}) {
    EXPECT_THAT(answer_of(page.server, path + "?token=" + page.token(), kByProxy),
                AllOf(StartsWith("HTTP/1.1 303 "), HasSubstr("Location: " + path + "\r\n"), Not(HasSubstr("<b>")),
                      HasSubstr("Set-Cookie: nopspan-80=" + page.token() + "; Path=/; HttpOnly; SameSite=Strict\r\n")));
  }
  // The name of the cookie has the port that the client uses, which may have been forwarded.
  Client client(page.server);
  client.send_all("GET /?token=" + page.token() + " HTTP/1.1\r\nConnection: close\r\nHost: localhost:8001\r\n\r\n");
  EXPECT_THAT(client.rest(), HasSubstr("Set-Cookie: nopspan-8001="));
  Client script(page.server);
  script.get("/live?token=" + page.token(), kByProxy);
  EXPECT_THAT(script.until("session 0 "), StartsWith("HTTP/1.1 200 "));
}

TEST(HttpServer, RefusesOtherTokens) {
  const PageServer page;
  const PageServer before;  // what a browser has of a server that was restarted
  std::string almost = page.token();
  almost.back() = almost.back() == '0' ? '1' : '0';
  EXPECT_EQ(page.token().size(), 32U) << "128 bits";
  for (const std::string& token : {before.token(), almost, page.token().substr(1), page.token() + "0", ""s}) {
    EXPECT_FALSE(page.lets_in("Cookie: nopspan-80=" + token + "\r\n" + kByProxy)) << token;
    EXPECT_THAT(answer_of(page.server, "/?token=" + token, kByProxy), StartsWith("HTTP/1.1 403 ")) << token;
    EXPECT_THAT(answer_of(page.server, "/live?token=" + token, kByProxy, "HEAD"), StartsWith("HTTP/1.1 403 ")) << token;
  }
  EXPECT_FALSE(page.lets_in("Cookie: nopspan-81=" + page.token() + "\r\n" + kByProxy));
  EXPECT_TRUE(page.lets_in(before.cookie())) << "its user needs none";
}

TEST(HttpServer, NeedsTheTokenOfOtherUsers) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const PageServer page;
  const AsUser other(12345);
  EXPECT_FALSE(page.lets_in(""));
  EXPECT_TRUE(page.lets_in(page.cookie()));
  EXPECT_THAT(answer_of(page.server, "/"), AllOf(StartsWith("HTTP/1.1 403 "), Not(HasSubstr("<b>")),
                                                 HasSubstr("because the connection is one of user 12345.\nOpen")));
  EXPECT_THAT(answer_of(page.server, "/metrics"), EndsWith("a text\n"));
  EXPECT_THAT(answer_of(page.server, "/-/healthy"), StartsWith("HTTP/1.1 200 "));
}

TEST(HttpServer, NeedsTheTokenOfOtherHosts) {
  HttpServerOptions options = patient_options();
  options.address = "0.0.0.0:0";
  options.hosts = {"node7"};
  const PageServer page(options);
  EXPECT_THAT(page.server.page_url(), StartsWith("http://localhost:"));
  ifaddrs* all = nullptr;
  ASSERT_EQ(getifaddrs(&all), 0);
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(all, freeifaddrs);
  const auto is_other = [](const ifaddrs& one) {
    return one.ifa_addr != nullptr && one.ifa_addr->sa_family == AF_INET && (one.ifa_flags & IFF_LOOPBACK) == 0;
  };
  while (all != nullptr && !is_other(*all)) all = all->ifa_next;
  if (all == nullptr) GTEST_SKIP() << "no address but that of the loopback";
  const auto answer = [&](const std::string& path, const std::string& headers) {
    Client client(page.server, 0, reinterpret_cast<const sockaddr_in*>(all->ifa_addr)->sin_addr.s_addr);
    client.send_all("GET " + path + " HTTP/1.1\r\nConnection: close\r\nHost: node7\r\n" + headers + "\r\n");
    return client.rest();
  };
  EXPECT_THAT(answer("/", ""), AllOf(StartsWith("HTTP/1.1 403 "), HasSubstr("does not begin on this host")));
  EXPECT_THAT(answer("/live", ""), StartsWith("HTTP/1.1 403 "));
  EXPECT_THAT(answer("/metrics", ""), EndsWith("a text\n"));
  EXPECT_THAT(answer("/", page.cookie()), EndsWith("\r\n\r\n<b>"));
  EXPECT_THAT(answer_of(page.server, "/"), EndsWith("\r\n\r\n<b>"));
}

// While it reads nothing, others are served, and its time is bounded.
TEST(HttpServer, EndsAPageThatDoesNotRead) {
  LiveFrames lines(std::size_t{64} << 20U);
  HttpServerOptions options = patient_options();
  options.answer_time = 200ms;
  const HttpServer server(options, {render_name, "", {{"/live", &lines}}});
  Client silent(server, 4096);
  silent.get("/live", "");
  wait_until_true([&] { return lines.readers() == 1; });
  lines.add("a", big_text());
  EXPECT_THAT(answer_of(server, "/metrics"), EndsWith("a text\n"));
  wait_until_true([&] { return lines.readers() == 0; });
}

TEST(HttpServer, HasNothingElse) {
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

TEST(HttpServer, AnswersHeadWithoutABody) {
  const MetricServer server(patient_options(), render_name);
  EXPECT_THAT(answer_of(server, "/metrics", "", "HEAD"),
              AllOf(StartsWith("HTTP/1.1 200 "), HasSubstr("Content-Length: 7\r\n"), EndsWith("\r\n\r\n")));
}

TEST(HttpServer, AnswersSeveralRequestsOfAConnection) {
  const MetricServer server(patient_options(), render_name);
  Client client(server);
  client.get("/metrics", "");
  client.get("/-/healthy", "Range: bytes=0-1\r\n");
  client.get("/metrics");
  client.finish();
  EXPECT_THAT(client.rest(), testing::ContainsRegex("a text\nHTTP/1.1 200 (.|\r|\n)*healthy.\n(.|\r|\n)*a text\n$"));
}

TEST(HttpServer, AnswersARequestWithABody) {
  const MetricServer server(patient_options(), render_name);
  Client client(server);
  client.get("/-/healthy", "Connection: close\r\nContent-Length: 42\r\nExpect: 100-continue\r\n");
  client.send_all("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
  EXPECT_THAT(client.rest(),
              AllOf(HasSubstr("HTTP/1.1 200 "), Not(HasSubstr("a text")), EndsWith("\r\n\r\nnopspan is healthy.\n")));
}

TEST(HttpServer, RefusesHostsOfOthers) {
  HttpServerOptions options = patient_options();
  options.hosts = {"node7"};
  const MetricServer server(options, render_name);
  const auto status_for = [&](const std::string& headers, const std::string& version = "1.1") {
    Client client(server);
    client.send_all("GET /metrics HTTP/" + version + "\r\nConnection: close\r\n" + headers + "\r\n");
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

TEST(HttpServer, KnowsTheAddressByWhichItIsReached) {
  HttpServerOptions options = patient_options();
  options.address = "[::]:0";  // takes IPv4 too
  try {
    const MetricServer server(options, render_name);
    for (const auto& [host, status] :
         {std::pair("127.0.0.1", "HTTP/1.1 200 "), std::pair("127.0.0.9", "HTTP/1.1 421 ")}) {
      Client client(server);
      client.send_all("GET / HTTP/1.1\r\nConnection: close\r\nHost: " + std::string(host) + "\r\n\r\n");
      EXPECT_THAT(client.rest(), StartsWith(status));
    }
  } catch (const Failure& failure) {
    GTEST_SKIP() << "no IPv6: " << failure.what();
  }
}

TEST(HttpServer, RefusesRequestsThatAreTooLarge) {
  const MetricServer server(patient_options(), render_name);
  const std::string line(8000, 'a');
  EXPECT_THAT(answer_of(server, "/metrics", "A: " + line + "\r\n"), StartsWith("HTTP/1.1 200 "));
  std::string lines;
  for (int i = 0; i < 5; ++i) lines += "A: " + line + "\r\n";
  EXPECT_THAT(answer_of(server, "/metrics", lines), StartsWith("HTTP/1.1 431 "));
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

TEST(HttpServer, SurvivesGarbage) {
  HttpServerOptions options = patient_options();
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

TEST(HttpServer, SurvivesClientsThatLeave) {
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

TEST(HttpServer, EndsRequestsThatTakeTooLong) {
  HttpServerOptions options = patient_options();
  options.request_time = 50ms;
  const MetricServer server(options, render_name);
  EXPECT_EQ(Client(server).rest(), "");
  Client answered(server);
  answered.get("/metrics", "");  // may send another request
  EXPECT_THAT(answered.rest(), EndsWith("a text\n"));
  // A byte now and then does not give it more time.
  Client slow(server);
  slow.send_all("GET /metrics HTTP/1.1\r\nA: ");
  while (!slow.has_answer() && slow.send_all("a")) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(slow.rest(), "");
}

TEST(HttpServer, EndsAnswersThatAreNotRead) {
  HttpServerOptions options = patient_options();
  options.answer_time = 50ms;
  const std::string text = big_text();
  const MetricServer server(options, [&](MetricFormat) { return text; });
  Client silent(server, 4096);
  silent.get("/metrics");
  wait_until_true([&] { return server.counts().cut == 1; });
  EXPECT_LT(silent.rest().size(), text.size());
  EXPECT_EQ(server.counts().scrapes, 0U) << "each request has one result";
}

TEST(HttpServer, MakesRoomForNewConnections) {
  HttpServerOptions options = patient_options();
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

// Another user, whose clients do not read, has all connections. Its oldest ones make room, and nobody else's.
TEST(HttpServer, MakesRoomForOthersThanTheClientWhoReadsSlowly) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  HttpServerOptions options = patient_options();
  options.connections = 6;
  options.slow_time = 0ms;
  const MetricServer server(options, [](MetricFormat) { return big_text(); });
  Client own(server, 4096);
  own.get("/metrics");
  wait_until_true([&] { return own.has_answer(); });
  std::vector<std::unique_ptr<Client>> others;
  for (int i = 0; i < 12; ++i) {
    const AsUser other(65534);
    others.push_back(std::make_unique<Client>(server, 4096));
    others.back()->get("/metrics");
    wait_until_true([&] { return others.back()->has_answer(); });
  }
  EXPECT_THAT(answer_of(server, "/metrics"), StartsWith("HTTP/1.1 200 "));
  EXPECT_GE(server.counts().cut, 8U);
  EXPECT_GT(own.rest().size(), big_text().size()) << "it is slow too, but has one connection";
}

// The limit leaves one descriptor, which the last client takes.
TEST(HttpServer, MakesRoomIfThereAreNoMoreDescriptors) {
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

TEST(HttpServer, KeepsFewTextsForSlowClients) {
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

TEST(HttpServer, KeepsNoTextsOfTheClientWhoReadsSlowlyAsLongAsOthersNeedThem) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  HttpServerOptions options = patient_options();
  options.slow_time = 0ms;
  const MetricServer server(options, [](MetricFormat) { return big_text(1U << 20U); });
  std::vector<std::unique_ptr<Client>> others;
  for (int i = 0; i < 30; ++i) {
    const AsUser other(65534);
    others.push_back(std::make_unique<Client>(server, 4096));
    others.back()->get("/metrics");
    wait_until_true([&] { return others.back()->has_answer(); });
  }
  EXPECT_THAT(answer_of(server, "/metrics"), StartsWith("HTTP/1.1 200 "));
  EXPECT_EQ(server.counts().busy, 0U);
}

TEST(HttpServer, RendersOnceForAStorm) {
  HttpServerOptions options = patient_options();
  options.reuse = kNever;
  const MetricServer server(options, [&](MetricFormat) { return std::string("rendered\n"); });
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(std::make_unique<Client>(server));
    clients.back()->get("/metrics");
  }
  for (const auto& client : clients) EXPECT_THAT(client->rest(), EndsWith("\r\n\r\nrendered\n"));
  EXPECT_EQ(server.counts().renders, 1);
  wait_until_true([&] { return server.counts().scrapes == 20; });
}

TEST(HttpServer, ReportsThatMetricsCannotBeRendered) {
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

TEST(HttpServer, StopsWithOpenConnections) {
  const std::string text = big_text();
  LiveFrames lines(100);
  auto server = std::make_unique<HttpServer>(
      patient_options(), HttpServer::Content{[&](MetricFormat) { return text; }, "", {{"/live", &lines}}});
  const Client idle(*server);
  const Client half(*server);
  half.send_all("GET /metrics");
  const Client silent(*server, 4096);
  silent.get("/metrics");
  const Client follower(*server);
  follower.get("/live", "");
  wait_until_true([&] { return silent.has_answer() && lines.readers() == 1 && server->counts().connections == 4; });
  server.reset();  // would wait for an hour
}

}  // namespace
}  // namespace nopspan::collector
