// SPDX-License-Identifier: Apache-2.0
#include "serve/metric_server.h"

#include "base/open_file.h"
#include "base/stopping.h"
#include "base/text.h"
#include "serve/bounded_stream.h"
#include "serve/listen_address.h"
#include "serve/shared_renders.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <mutex>
#include <optional>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

namespace nopspan::collector {

namespace {

using ServeClock = std::chrono::steady_clock;

// A connection that waits for less than this is not displaced: its request is probably on the way.
constexpr std::chrono::milliseconds kGrace{100};
// How long to wait for a free connection, or for resources, before the next look.
constexpr int kLookMs = 100;

constexpr char kPlainText[] = "text/plain; charset=utf-8";
constexpr char kFrontPage[] =
    "<!DOCTYPE html>\n<title>nopspan</title>\n"
    "<p>nopspan serves the metrics of traced programs for Prometheus at <a href=\"/metrics\">/metrics</a>.</p>\n";

// An answer that is not the metrics.
struct Page {
  int status;
  const char* reason;
  std::string text;
  const char* type = kPlainText;
  const char* more_headers = "";
};

// What a client asks for. Texts are views of the request.
struct HttpRequest {
  std::string_view method, path, version;
  std::vector<std::pair<std::string_view, std::string_view>> headers = {};

  // The values of all headers of this name, and their number.
  std::string values(std::string_view name, std::size_t* count = nullptr) const {
    std::string values;
    for (const auto& [key, value] : headers) {
      if (!is_same_word(key, name)) continue;
      (values += values.empty() ? "" : ",") += value;
      if (count != nullptr) ++*count;
    }
    return values;
  }
};

std::string_view take_line(std::string_view& rest) {
  std::string_view line = take_before(rest, '\n');
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

// Nothing if the request is malformed.
std::optional<HttpRequest> parsed(std::string_view text) {
  std::string_view line = take_line(text);
  const std::string_view method = take_before(line, ' ');
  std::string_view target = take_before(line, ' ');
  HttpRequest request{method, take_before(target, '?'), line};
  if (method.empty() || request.path.empty() || (line != "HTTP/1.1" && line != "HTTP/1.0")) return std::nullopt;
  while (!text.empty()) {
    line = take_line(text);
    const bool has_value = line.find(':') != std::string_view::npos;
    const std::string_view name = take_before(line, ':');
    if (!has_value || name.empty() || name != trimmed(name)) return std::nullopt;
    request.headers.emplace_back(name, trimmed(line));
  }
  return request;
}

// Creates a thread that receives no signals, so that a signal of the user interrupts the main thread.
template <class Run>
std::thread thread_without_signals(Run run) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread;
  try {
    thread = std::thread(std::move(run));
  } catch (const std::system_error&) {
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

}  // namespace

// The state that the connections share.
class MetricServer::Listening {
 public:
  Listening(const MetricServerOptions& given, Render render);
  ~Listening();

  const MetricServerOptions options;
  const Listener listener;
  const WakeUp stop;   // readable once the server stops
  const WakeUp freed;  // readable after a connection has ended
  SharedRenders renders;

  void count(std::uint64_t MetricServerCounts::*what) {
    const std::lock_guard lock(mutex_);
    ++(counts_.*what);
  }
  [[nodiscard]] MetricServerCounts counts() const {
    const std::lock_guard lock(mutex_);
    MetricServerCounts now = counts_;
    now.renders = renders.renders();
    return now;
  }

 private:
  void run();
  [[nodiscard]] Connection* free_connection() const;
  void make_room();

  mutable std::mutex mutex_;  // of `counts_`
  MetricServerCounts counts_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::thread acceptor_;
};

// One connection at a time, on a thread of its own. Each has one request, as Prometheus needs no more.
class MetricServer::Connection {
 public:
  explicit Connection(Listening& owner) : owner_(owner) {}
  ~Connection() {
    if (thread_.joinable()) thread_.join();
  }

  [[nodiscard]] bool is_free() const { return !is_busy_; }
  // Since when a request has been awaited or incomplete; time_point::max() while a request is answered.
  [[nodiscard]] ServeClock::time_point waiting_since() const {
    return is_busy_ ? waiting_since_.load() : ServeClock::time_point::max();
  }
  // Closes the socket if no further thread is allowed.
  void start(OpenFile socket);
  // Ends the connection. Its thread notices.
  void end();

 private:
  void run();
  void serve_request(BoundedStream& stream);
  [[nodiscard]] std::optional<Page> refusal(const HttpRequest& request) const;
  void answer(BoundedStream& stream, const HttpRequest& request);
  void answer_with(BoundedStream& stream, const Page& page, bool has_body);
  bool write(BoundedStream& stream, const std::string& head, std::string_view body, bool has_body);

  Listening& owner_;
  std::thread thread_;
  std::atomic<bool> is_busy_ = false;
  std::atomic<ServeClock::time_point> waiting_since_ = ServeClock::time_point::max();
  std::mutex mutex_;  // of `socket_`, which another thread uses only in end()
  OpenFile socket_;
  bool is_answered_ = false;  // the current request, with a whole answer
};

void MetricServer::Connection::start(OpenFile socket) {
  if (thread_.joinable()) thread_.join();
  socket_ = std::move(socket);
  waiting_since_ = ServeClock::now();
  is_busy_ = true;
  thread_ = thread_without_signals([this] { run(); });
  if (thread_.joinable()) return;
  owner_.count(&MetricServerCounts::displaced);
  socket_.reset();
  is_busy_ = false;
}

void MetricServer::Connection::end() {
  const std::lock_guard lock(mutex_);
  if (socket_) shutdown(socket_.get(), SHUT_RDWR);
}

void MetricServer::Connection::run() {
  try {
    BoundedStream stream(socket_.get(), owner_.stop.fd(), owner_.options);
    is_answered_ = false;
    serve_request(stream);
    waiting_since_ = ServeClock::now();  // a client that does not leave may be displaced
    if (is_answered_) stream.linger();
  } catch (const std::exception&) {  // no memory: the connection ends
  }
  {
    const std::lock_guard lock(mutex_);
    socket_.reset();
  }
  is_busy_ = false;
  owner_.freed.wake();
}

void MetricServer::Connection::serve_request(BoundedStream& stream) {
  const BoundedStream::Arrival arrival = stream.read_request();
  waiting_since_ = ServeClock::time_point::max();
  switch (arrival) {
    case BoundedStream::Arrival::complete:
      if (const std::optional<HttpRequest> request = parsed(stream.request())) return answer(stream, *request);
      return answer_with(stream, {400, "Bad Request", "The request is malformed.\n"}, true);
    case BoundedStream::Arrival::too_slow:
      return answer_with(stream, {408, "Request Timeout", "The request took too long to arrive.\n"}, true);
    case BoundedStream::Arrival::too_large:
      if (stream.request().find('\n') == std::string::npos) {
        return answer_with(stream, {414, "URI Too Long", "The request is too large.\n"}, true);
      }
      return answer_with(stream, {431, "Request Header Fields Too Large", "The request is too large.\n"}, true);
    case BoundedStream::Arrival::none:
      return;
  }
}

// The answer to a request that is not for the metrics.
std::optional<Page> MetricServer::Connection::refusal(const HttpRequest& request) const {
  std::size_t hosts = 0;
  const std::string host = request.values("Host", &hosts);
  // Only HTTP/1.0 may leave Host out. No browser of today does.
  if (hosts > 1 || (hosts == 0 && request.version != "HTTP/1.0")) {
    return Page{400, "Bad Request", "The request is malformed.\n"};
  }
  if (hosts == 1 && !is_own_host(host, local_address(socket_.get()), owner_.options.hosts)) {
    return Page{421, "Misdirected Request",
                "This is nopspan at " + owner_.listener.address + ", which does not know the host " +
                    printable(host, 100) +
                    ". If that is a name of this server, start nopspan serve with --host NAME.\n"};
  }
  if (request.method != "GET" && request.method != "HEAD") {
    return Page{405, "Method Not Allowed", "Only GET and HEAD are supported.\n", kPlainText, "Allow: GET, HEAD\r\n"};
  }
  if (request.path == "/") return Page{200, "OK", kFrontPage, "text/html; charset=utf-8"};
  if (request.path == "/-/healthy") return Page{200, "OK", "nopspan is healthy.\n"};
  if (request.path != "/metrics") return Page{404, "Not Found", "Not found. The metrics are at /metrics.\n"};
  return std::nullopt;
}

void MetricServer::Connection::answer(BoundedStream& stream, const HttpRequest& request) {
  const bool has_body = request.method != "HEAD";
  if (const std::optional<Page> page = refusal(request)) return answer_with(stream, *page, has_body);
  const MetricFormat format = format_for(request.values("Accept"));
  std::shared_ptr<const Rendered> rendered;
  try {
    rendered = owner_.renders.get(format);
  } catch (const std::exception&) {
    return answer_with(stream, {500, "Internal Server Error", "The metrics could not be rendered.\n"}, has_body);
  }
  if (!rendered) {
    return answer_with(
        stream,
        {503, "Service Unavailable", "Too many slow clients read metrics.\n", kPlainText, "Retry-After: 10\r\n"},
        has_body);
  }
  const bool is_compressed = accepts_gzip(request.values("Accept-Encoding")) && !rendered->gzip().empty();
  std::string head = "HTTP/1.1 200 OK\r\nVary: Accept, Accept-Encoding\r\n";
  if (is_compressed) head += "Content-Encoding: gzip\r\n";
  head += std::string("Content-Type: ") + content_type(format);
  // The text is not copied for each connection.
  if (write(stream, head, is_compressed ? rendered->gzip() : rendered->text(), has_body)) {
    owner_.count(&MetricServerCounts::scrapes);
  }
}

void MetricServer::Connection::answer_with(BoundedStream& stream, const Page& page, bool has_body) {
  const std::string head = "HTTP/1.1 " + std::to_string(page.status) + " " + page.reason + "\r\n" + page.more_headers +
                           "Content-Type: " + page.type;
  if (!write(stream, head, page.text, has_body)) return;
  owner_.count(page.status < 400    ? &MetricServerCounts::other
               : page.status == 503 ? &MetricServerCounts::busy
               : page.status == 421 ? &MetricServerCounts::wrong_host
               : page.status < 500  ? &MetricServerCounts::bad_requests
                                    : &MetricServerCounts::failed);
}

// Adds the headers of all answers. Returns false if the answer was cut, and counts that.
bool MetricServer::Connection::write(BoundedStream& stream, const std::string& head, std::string_view body,
                                     bool has_body) {
  const std::string whole_head = head + "\r\nContent-Length: " + std::to_string(body.size()) +
                                 "\r\nConnection: close\r\nCache-Control: no-store\r\n"
                                 "X-Content-Type-Options: nosniff\r\n\r\n";
  is_answered_ = stream.write(whole_head) && (!has_body || stream.write(body));
  if (!is_answered_) owner_.count(&MetricServerCounts::cut);
  return is_answered_;
}

MetricServer::Listening::Listening(const MetricServerOptions& given, Render render)
    : options(given), listener(listen_on(given.address)), renders(std::move(render), given.reuse) {
  for (std::size_t i = 0; i < options.connections; ++i) connections_.push_back(std::make_unique<Connection>(*this));
  acceptor_ = thread_without_signals([this] { run(); });
  if (!acceptor_.joinable()) throw Failure("cannot serve metrics: no more threads are allowed");
}

MetricServer::Listening::~Listening() {
  stop.wake();
  acceptor_.join();
  connections_.clear();
}

void MetricServer::Listening::run() {
  // Returns whether `fd` is readable. Ends the loop below if the server stops.
  const auto await = [this](int fd, int timeout_ms) {
    std::array<pollfd, 2> files = {pollfd{stop.fd(), POLLIN, 0}, pollfd{fd, POLLIN, 0}};
    poll(files.data(), files.size(), timeout_ms);
    return files[0].revents == 0;
  };
  while (await(listener.socket.get(), -1)) {
    Connection* const connection = free_connection();
    if (connection != nullptr) {
      OpenFile socket(accept4(listener.socket.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (socket) {
        count(&MetricServerCounts::connections);
        connection->start(std::move(socket));
        continue;
      }
      if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM) continue;
    }
    // Meanwhile the kernel keeps a bounded number of new connections.
    make_room();
    if (!await(freed.fd(), kLookMs)) return;
    freed.clear();
  }
}

MetricServer::Connection* MetricServer::Listening::free_connection() const {
  const auto found = std::find_if(connections_.begin(), connections_.end(),
                                  [](const auto& connection) { return connection->is_free(); });
  return found == connections_.end() ? nullptr : found->get();
}

// Ends the connection that has waited longest, so that clients that send nothing do not keep others away.
void MetricServer::Listening::make_room() {
  const auto longest = std::min_element(connections_.begin(), connections_.end(), [](const auto& a, const auto& b) {
    return a->waiting_since() < b->waiting_since();
  });
  if ((*longest)->waiting_since() > ServeClock::now() - kGrace) return;
  count(&MetricServerCounts::displaced);
  (*longest)->end();
}

MetricServer::MetricServer(const MetricServerOptions& options, Render render)
    : listening_(std::make_unique<Listening>(options, std::move(render))) {}

MetricServer::~MetricServer() = default;

const std::string& MetricServer::address() const { return listening_->listener.address; }

MetricServerCounts MetricServer::counts() const { return listening_->counts(); }

}  // namespace nopspan::collector
