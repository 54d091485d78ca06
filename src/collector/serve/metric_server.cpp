// SPDX-License-Identifier: Apache-2.0
#include "serve/metric_server.h"

#include "base/open_file.h"
#include "base/text.h"
#include "base/wake_up.h"
#include "serve/bounded_stream.h"
#include "serve/listen_address.h"
#include "serve/shared_renders.h"

#include <httplib.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <mutex>
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

// The values of all headers of this name.
std::string header_values(const httplib::Request& request, const std::string& name) {
  std::string values;
  const auto [first, last] = request.headers.equal_range(name);
  for (auto at = first; at != last; ++at) values += (values.empty() ? "" : ",") + at->second;
  return values;
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

  [[nodiscard]] bool is_crowded() const { return active * 2 > options.connections; }

  const MetricServerOptions options;
  const Listener listener;
  const WakeUp stop;   // readable once the server stops
  const WakeUp freed;  // readable after a connection has ended
  SharedRenders renders;
  std::atomic<std::size_t> active = 0;
  std::atomic<std::uint64_t> accepted = 0, displaced = 0, scrapes = 0, other = 0, busy = 0, wrong_host = 0,
                             bad_requests = 0, failed = 0, cut = 0;

 private:
  void run();
  [[nodiscard]] Connection* free_connection() const;
  void make_room();

  std::vector<std::unique_ptr<Connection>> connections_;
  std::thread acceptor_;
};

// One connection at a time, on a thread of its own. cpp-httplib 0.11 parses requests and writes answers. Its server
// would read a line of any length and any number of headers, would grant each byte a new timeout, would write for ever
// to a client that reads slowly, would queue any number of connections, would lose requests that arrive together, and
// would end when accept() fails. Therefore connections are accepted here and bounded by BoundedStream.
class MetricServer::Connection : private httplib::Server {
 public:
  explicit Connection(Listening& owner);
  ~Connection() override {
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
  void serve_requests(BoundedStream& stream);
  void refuse_line(BoundedStream& stream);
  void answer(const httplib::Request& request, httplib::Response& response);
  void answer_with_metrics(const httplib::Request& request, httplib::Response& response);
  void describe_error(httplib::Response& response) const;
  void count(bool is_cut);

  Listening& owner_;
  std::thread thread_;
  std::atomic<bool> is_busy_ = false;
  std::atomic<ServeClock::time_point> waiting_since_ = ServeClock::time_point::max();
  std::mutex mutex_;  // of `socket_`, which another thread uses only in end()
  OpenFile socket_;
  const BoundedStream* stream_ = nullptr;
  in6_addr local_ = {};
  // State of the current request:
  std::string accept_encoding_;
  int status_ = 0;
  bool is_scrape_ = false, is_last_ = false;
};

MetricServer::Connection::Connection(Listening& owner) : owner_(owner) {
  // If this were not set, cpp-httplib would think that its server stops, and would not write bodies.
  svr_sock_ = owner.listener.socket.get();
  set_default_headers({{"Cache-Control", "no-store"}, {"X-Content-Type-Options", "nosniff"}});
  set_pre_routing_handler([this](const httplib::Request& request, httplib::Response& response) {
    answer(request, response);
    return HandlerResponse::Handled;
  });
  set_error_handler(HandlerWithResponse([this](const httplib::Request&, httplib::Response& response) {
    if (response.body.empty()) describe_error(response);
    return HandlerResponse::Handled;
  }));
  set_exception_handler([](const httplib::Request&, httplib::Response& response, const std::exception_ptr&) {
    response.status = 500;
    response.set_content("The metrics could not be rendered.\n", kPlainText);
  });
  set_post_routing_handler([this](const httplib::Request&, httplib::Response& response) {
    status_ = response.status;
    // After an error it is not known where the next request begins.
    if (status_ >= 400 || owner_.is_crowded()) is_last_ = true;
    if (is_last_) response.set_header("Connection", "close");
    response.headers.erase("Keep-Alive");  // limits of cpp-httplib's own server
  });
}

void MetricServer::Connection::start(OpenFile socket) {
  if (thread_.joinable()) thread_.join();
  socket_ = std::move(socket);
  waiting_since_ = ServeClock::now();
  is_busy_ = true;
  ++owner_.active;
  thread_ = thread_without_signals([this] { run(); });
  if (thread_.joinable()) return;
  ++owner_.displaced;
  socket_.reset();
  --owner_.active;
  is_busy_ = false;
}

void MetricServer::Connection::end() {
  const std::lock_guard lock(mutex_);
  if (socket_) shutdown(socket_.get(), SHUT_RDWR);
}

void MetricServer::Connection::run() {
  BoundedStream stream(socket_.get(), owner_.stop.fd(), owner_.options);
  stream_ = &stream;
  local_ = local_address(socket_.get());
  try {
    serve_requests(stream);
    if (!stream.is_cut()) stream.linger();
  } catch (const std::exception&) {  // no memory: the connection ends
  }
  stream_ = nullptr;
  {
    const std::lock_guard lock(mutex_);
    socket_.reset();
  }
  --owner_.active;
  is_busy_ = false;
  owner_.freed.wake();
}

void MetricServer::Connection::serve_requests(BoundedStream& stream) {
  const auto prepare = [this](httplib::Request& request) {
    // Otherwise cpp-httplib would compress, and send parts: several ones of the whole, if Range asks for that.
    accept_encoding_ = header_values(request, "Accept-Encoding");
    request.headers.erase("Accept-Encoding");
    // Otherwise it would send an answer of its own before the answer. A client that waits for 100 gets the answer.
    request.headers.erase("Expect");
    request.ranges.clear();
  };
  is_last_ = false;
  auto patience = owner_.options.request_time;
  while (!is_last_ && stream.await_request(patience)) {
    status_ = 0;
    is_scrape_ = false;
    bool is_closed = false;
    const bool is_answered = process_request(stream, false, is_closed, prepare);
    if (status_ == 0 && stream.is_too_large()) refuse_line(stream);
    count(stream.is_cut());
    if (!is_answered || is_closed || stream.is_cut()) return;
    waiting_since_ = ServeClock::now();
    patience = owner_.options.idle_time;
  }
}

// cpp-httplib does not answer a request whose first line does not end.
void MetricServer::Connection::refuse_line(BoundedStream& stream) {
  httplib::Response response;
  response.status = status_ = 414;
  describe_error(response);
  const std::string answer =
      "HTTP/1.1 414 URI Too Long\r\nConnection: close\r\nContent-Type: " + response.get_header_value("Content-Type") +
      "\r\nContent-Length: " + std::to_string(response.body.size()) + "\r\n\r\n" + response.body;
  for (std::string_view rest = answer; !rest.empty() && !stream.is_cut();) {
    rest.remove_prefix(static_cast<std::size_t>(std::max<ssize_t>(stream.write(rest.data(), rest.size()), 0)));
  }
}

void MetricServer::Connection::answer(const httplib::Request& request, httplib::Response& response) {
  waiting_since_ = ServeClock::time_point::max();
  // Bodies are not read.
  if (request.has_header("Transfer-Encoding") || request.has_header("Content-Length")) is_last_ = true;
  const std::size_t hosts = request.get_header_value_count("Host");
  // Only HTTP/1.0 may leave Host out. No browser of today does.
  if (hosts > 1 || (hosts == 0 && request.version != "HTTP/1.0")) {
    response.status = 400;
  } else if (hosts == 1 && !is_own_host(request.get_header_value("Host"), local_, owner_.options.hosts)) {
    response.status = 421;
    response.set_content("This is nopspan at " + owner_.listener.address + ", which does not know the host " +
                             printable(request.get_header_value("Host"), 100) +
                             ". If that is a name of this server, start nopspan serve with --host NAME.\n",
                         kPlainText);
  } else if (request.method != "GET" && request.method != "HEAD") {
    response.status = 405;
    response.set_header("Allow", "GET, HEAD");
  } else if (request.path == "/metrics") {
    answer_with_metrics(request, response);
  } else if (request.path == "/") {
    response.set_content(kFrontPage, "text/html; charset=utf-8");
  } else if (request.path == "/-/healthy") {
    response.set_content("nopspan is healthy.\n", kPlainText);
  } else {
    response.status = 404;
  }
}

void MetricServer::Connection::answer_with_metrics(const httplib::Request& request, httplib::Response& response) {
  const MetricFormat format = format_for(header_values(request, "Accept"));
  std::shared_ptr<const Rendered> rendered = owner_.renders.get(format);
  if (!rendered) {
    response.status = 503;
    response.set_header("Retry-After", "10");
    response.set_content("Too many slow clients read metrics.\n", kPlainText);
    return;
  }
  is_scrape_ = true;
  response.set_header("Vary", "Accept, Accept-Encoding");
  const bool is_compressed = accepts_gzip(accept_encoding_) && !rendered->gzip().empty();
  if (is_compressed) response.set_header("Content-Encoding", "gzip");
  const std::string& body = is_compressed ? rendered->gzip() : rendered->text();
  if (body.empty()) {
    response.set_header("Content-Type", content_type(format));
    return;
  }
  // The text is not copied for each connection.
  response.set_content_provider(body.size(), content_type(format),
                                [rendered, &body](std::size_t offset, std::size_t size, httplib::DataSink& sink) {
                                  return sink.write(body.data() + offset, size);
                                });
}

// The answers that cpp-httplib makes lack a body. They have the status 400 for each request that it could not read.
void MetricServer::Connection::describe_error(httplib::Response& response) const {
  if (response.status == 400 && stream_->is_too_large()) response.status = 431;
  if (response.status == 400 && stream_->is_too_slow()) response.status = 408;
  const char* text = "The request is malformed.\n";
  if (response.status == 404) text = "Not found. The metrics are at /metrics.\n";
  if (response.status == 405) text = "Only GET and HEAD are supported.\n";
  if (response.status == 408) text = "The request took too long to arrive.\n";
  if (response.status == 414 || response.status == 431) text = "The request is too large.\n";
  response.set_content(text, kPlainText);
}

void MetricServer::Connection::count(bool is_cut) {
  if (is_cut) {
    ++owner_.cut;
    return;
  }
  if (status_ == 0) return;  // the request's first line did not arrive
  if (status_ < 400) {
    ++(is_scrape_ ? owner_.scrapes : owner_.other);
  } else if (status_ == 503) {
    ++owner_.busy;
  } else if (status_ == 421) {
    ++owner_.wrong_host;
  } else if (status_ < 500) {
    ++owner_.bad_requests;
  } else {
    ++owner_.failed;
  }
}

MetricServer::Listening::Listening(const MetricServerOptions& given, Render render)
    : options(given), listener(listen_on(given.address)), renders(std::move(render), given.reuse) {
  // The constructor of httplib::Server changes what SIGPIPE does in the whole process.
  struct sigaction before = {};
  sigaction(SIGPIPE, nullptr, &before);
  for (std::size_t i = 0; i < options.connections; ++i) connections_.push_back(std::make_unique<Connection>(*this));
  sigaction(SIGPIPE, &before, nullptr);
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
        ++accepted;
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
  ++displaced;
  (*longest)->end();
}

MetricServer::MetricServer(const MetricServerOptions& options, Render render)
    : listening_(std::make_unique<Listening>(options, std::move(render))) {}

MetricServer::~MetricServer() = default;

const std::string& MetricServer::address() const { return listening_->listener.address; }

MetricServerCounts MetricServer::counts() const {
  const Listening& now = *listening_;
  return {now.accepted, now.displaced,  now.renders.renders(), now.scrapes, now.other,
          now.busy,     now.wrong_host, now.bad_requests,      now.failed,  now.cut};
}

}  // namespace nopspan::collector
