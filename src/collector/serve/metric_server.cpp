// SPDX-License-Identifier: Apache-2.0
#include "serve/metric_server.h"

#include "base/open_file.h"
#include "base/text.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <optional>
#include <string_view>
#include <system_error>
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

// A connection for one request, which ends if the request is too long, or takes too long to arrive or to answer.
class BoundedStream {
 public:
  // `connection` must not block. All waiting ends as soon as `stop` is readable. `limits` must outlive this object.
  BoundedStream(int connection, int stop, const MetricServerOptions& limits)
      : connection_(connection), stop_(stop), limits_(limits) {}

  // `none`: the client sent nothing in time or has left, or the server stops.
  enum class Arrival : std::uint8_t { complete, too_large, too_slow, none };
  // Reads the request line and the headers.
  Arrival read_request() {
    const ServeClock::time_point until = ServeClock::now() + limits_.request_time;
    for (std::size_t from = 0;;) {
      const std::size_t end = request_.find(kEndOfHeaders, from);
      if (end < limits_.request_bytes) {
        request_.resize(end);
        return Arrival::complete;
      }
      if (request_.size() >= limits_.request_bytes) return Arrival::too_large;
      from = request_.size() - std::min(request_.size(), kEndOfHeaders.size() - 1);
      // A byte now and then does not give the client more time.
      const ssize_t received = ServeClock::now() < until ? receive(until) : -1;
      if (received < 0 && ServeClock::now() >= until && !request_.empty()) return Arrival::too_slow;
      if (received <= 0) return Arrival::none;
      request_.append(buffer_.data(), static_cast<std::size_t>(received));
    }
  }
  // What has arrived. If it is complete, without the line that ends it. A body is not read.
  [[nodiscard]] const std::string& request() const { return request_; }
  // Writes a part of the answer. Returns false if the client does not read the whole answer in time.
  bool write(std::string_view bytes) {
    if (answer_end_ == ServeClock::time_point()) answer_end_ = ServeClock::now() + limits_.answer_time;
    while (!bytes.empty()) {
      // A client that reads slowly does not get more time.
      if (ServeClock::now() >= answer_end_) return false;
      const ssize_t sent = send(connection_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent >= 0) {
        bytes.remove_prefix(static_cast<std::size_t>(sent));
      } else if (errno != EINTR && (errno != EAGAIN || !wait(POLLOUT, answer_end_))) {
        return false;
      }
    }
    return true;
  }
  // After the answer: announces the end, and discards what the client still sends. If a connection is closed earlier,
  // the client may lose the answer.
  void linger() {
    if (shutdown(connection_, SHUT_WR) != 0) return;
    const ServeClock::time_point until = ServeClock::now() + kLinger;
    std::size_t discarded = 0;
    while (discarded < kMostDiscarded && ServeClock::now() < until) {
      const ssize_t received = receive(until);
      if (received <= 0) return;
      discarded += static_cast<std::size_t>(received);
    }
  }

 private:
  static constexpr std::chrono::milliseconds kLinger{500};
  static constexpr std::size_t kMostDiscarded = 256U << 10U;
  static constexpr std::string_view kEndOfHeaders = "\r\n\r\n";

  // Returns false if the time is over, or the server stops.
  [[nodiscard]] bool wait(short events, ServeClock::time_point until) const {
    for (;;) {
      std::array<pollfd, 2> files = {pollfd{connection_, events, 0}, pollfd{stop_, POLLIN, 0}};
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - ServeClock::now()).count();
      const int ready = poll(files.data(), files.size(), static_cast<int>(std::max<std::int64_t>(left, 0)));
      if (ready < 0 && errno == EINTR) continue;
      return ready > 0 && files[1].revents == 0;
    }
  }
  // Into the buffer.
  ssize_t receive(ServeClock::time_point until) {
    for (;;) {
      const ssize_t received = recv(connection_, buffer_.data(), buffer_.size(), 0);
      if (received >= 0) return received;
      if (errno == EINTR) continue;
      if (errno != EAGAIN || !wait(POLLIN, until)) return -1;
    }
  }

  const int connection_, stop_;
  const MetricServerOptions& limits_;
  std::array<char, 4096> buffer_ = {};
  std::string request_;
  ServeClock::time_point answer_end_;  // set by the first write()
};

}  // namespace

// One connection at a time, on a thread of its own. Each has one request, as Prometheus needs no more.
class MetricServer::Connection {
 public:
  explicit Connection(MetricServer& owner) : owner_(owner) {}
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

  MetricServer& owner_;
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
    BoundedStream stream(socket_.get(), owner_.stop_.fd(), owner_.options_);
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
  owner_.freed_.wake();
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
  if (hosts == 1 && !is_own_host(host, local_address(socket_.get()), owner_.options_.hosts)) {
    return Page{421, "Misdirected Request",
                "This is nopspan at " + owner_.listener_.address + ", which does not know the host " +
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
    rendered = owner_.renders_.get(format);
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

MetricServer::MetricServer(const MetricServerOptions& options, Render render)
    : options_(options), listener_(listen_on(options.address)), renders_(std::move(render), options.reuse) {
  for (std::size_t i = 0; i < options_.connections; ++i) connections_.push_back(std::make_unique<Connection>(*this));
  acceptor_ = thread_without_signals([this] { run(); });
  if (!acceptor_.joinable()) throw Failure("cannot serve metrics: no more threads are allowed");
}

MetricServer::~MetricServer() {
  stop_.wake();
  acceptor_.join();
  connections_.clear();
}

void MetricServer::count(std::uint64_t MetricServerCounts::*what) {
  const std::lock_guard lock(mutex_);
  ++(counts_.*what);
}

MetricServerCounts MetricServer::counts() const {
  const std::lock_guard lock(mutex_);
  MetricServerCounts now = counts_;
  now.renders = renders_.renders();
  return now;
}

void MetricServer::run() {
  // Returns whether `fd` is readable. Ends the loop below if the server stops.
  const auto await = [this](int fd, int timeout_ms) {
    std::array<pollfd, 2> files = {pollfd{stop_.fd(), POLLIN, 0}, pollfd{fd, POLLIN, 0}};
    poll(files.data(), files.size(), timeout_ms);
    return files[0].revents == 0;
  };
  while (await(listener_.socket.get(), -1)) {
    Connection* const connection = free_connection();
    if (connection != nullptr) {
      OpenFile socket(accept4(listener_.socket.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (socket) {
        count(&MetricServerCounts::connections);
        connection->start(std::move(socket));
        continue;
      }
      if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM) continue;
    }
    // Meanwhile the kernel keeps a bounded number of new connections.
    make_room();
    if (!await(freed_.fd(), kLookMs)) return;
    freed_.clear();
  }
}

MetricServer::Connection* MetricServer::free_connection() const {
  const auto found = std::find_if(connections_.begin(), connections_.end(),
                                  [](const auto& connection) { return connection->is_free(); });
  return found == connections_.end() ? nullptr : found->get();
}

// Ends the connection that has waited longest, so that clients that send nothing do not keep others away.
void MetricServer::make_room() {
  const auto longest = std::min_element(connections_.begin(), connections_.end(), [](const auto& a, const auto& b) {
    return a->waiting_since() < b->waiting_since();
  });
  if ((*longest)->waiting_since() > ServeClock::now() - kGrace) return;
  count(&MetricServerCounts::displaced);
  (*longest)->end();
}

}  // namespace nopspan::collector
