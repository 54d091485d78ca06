// SPDX-License-Identifier: Apache-2.0
#include "serve/http_server.h"

#include "base/open_file.h"
#include "base/text.h"
#include "base/threads.h"
#include "serve/peer_user.h"

#include <microhttpd.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdarg>
#include <exception>
#include <map>
#include <memory>
#include <string_view>
#include <system_error>
#include <utility>

namespace nopspan::collector {

namespace {

// A connection that waits for less than this is not displaced: its request is probably on the way.
constexpr std::chrono::milliseconds kGrace{100};
// How long to wait for a free connection, or for resources, before the next look.
constexpr int kLookMs = 100;
constexpr std::size_t kMemoryOfConnection = 32U << 10U;  // of which a request has the most
constexpr std::size_t kUsualAnswers = 2;                 // that a client reads at once
constexpr std::size_t kPart = 64U << 10U;                // of what a page follows

constexpr char kPlainText[] = "text/plain; charset=utf-8";
constexpr char kHtml[] = "text/html; charset=utf-8";
constexpr char kFrontPage[] =
    "<!DOCTYPE html>\n<title>nopspan</title>\n"
    "<p>nopspan serves the metrics of traced programs for Prometheus at <a href=\"/metrics\">/metrics</a>.</p>\n";
constexpr char kWayIn[] =
    ".\nOpen the address that nopspan printed when it started. It ends with the token, which changes with each "
    "start.\nThe metrics are at /metrics.\n";

// The values of all headers of this name, and their number.
std::string values_of(MHD_Connection* from, std::string_view name, std::size_t* count = nullptr) {
  struct Values {
    std::string_view name;
    std::string text;
    std::size_t count = 0;
  } values{name, {}};
  const auto add = [](void* to, MHD_ValueKind /*kind*/, const char* key, const char* value) {
    auto& all = *static_cast<Values*>(to);
    if (!is_same_word(key, all.name)) return MHD_YES;
    (all.text += all.count++ == 0 ? "" : ",") += value == nullptr ? "" : value;
    return MHD_YES;
  };
  MHD_get_connection_values(from, MHD_HEADER_KIND, add, &values);
  if (count != nullptr) *count = values.count;
  return values.text;
}

// The value of this argument or cookie, or "".
std::string_view value_of(MHD_Connection* from, MHD_ValueKind kind, const char* name) {
  const char* const value = MHD_lookup_connection_value(from, kind, name);
  return value == nullptr ? "" : value;
}

bool is_forwarded(MHD_Connection* from) {
  bool is_forwarded = false;
  const auto look = [](void* to, MHD_ValueKind /*kind*/, const char* key, const char* /*value*/) {
    *static_cast<bool*>(to) |= is_of_proxy(key);
    return MHD_YES;
  };
  MHD_get_connection_values(from, MHD_HEADER_KIND, look, &is_forwarded);
  return is_forwarded;
}

// Browsers send a cookie to all ports of a host, and two ports may be forwarded to two servers. So the name has the
// port by which the client reaches this one.
std::string cookie_name(std::string_view host) {
  const std::size_t colon = host.rfind(':');
  const bool has_port = colon != std::string_view::npos && !host.ends_with(']');
  return "nopspan-" + std::string(has_port ? host.substr(colon + 1) : "80");
}

// Whether the client has sent all that it ever will, and it was read.
bool has_left(int socket) {
  char byte = 0;
  return recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

}  // namespace

// An answer that is not the metrics.
struct HttpServer::Page {
  unsigned status;
  std::string text;
  const char* type = kPlainText;
  std::vector<std::pair<const char*, std::string>> headers = {};
};

// An answer that goes on while a page is open.
struct HttpServer::Follower {
  Follower(LiveFrames& lines, MHD_Connection* to) : lines(lines), to(to) { lines.join(); }
  ~Follower() { lines.leave(); }
  Follower(const Follower&) = delete;
  Follower& operator=(const Follower&) = delete;

  LiveFrames& lines;
  MHD_Connection* const to;
  LiveFrames::Place place;
  LiveFrames::Line line;
  std::size_t at = 0;                      // in the line
  bool waits = false;                      // for a line
  bool has_left = false, has_all = false;  // the client; what it follows has ended
};

// What the daemon calls. Exceptions must not reach it.
struct HttpServer::Callbacks {
  static Connection& connection_of(MHD_Connection* of) {
    return *static_cast<Connection*>(MHD_get_connection_info(of, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context);
  }
  // A connection begins, or has ended. Terminates if there is no memory for a connection.
  static void changed(void* server, MHD_Connection* of, void** context, MHD_ConnectionNotificationCode what) noexcept {
    std::list<Connection>& all = static_cast<HttpServer*>(server)->connections_;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
      *context =
          &all.emplace_back(Connection{MHD_get_connection_info(of, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd});
    } else {
      all.remove_if([&](const Connection& one) { return &one == *context; });
    }
  }
  // Called when the headers have arrived, for each part of a body, and at the end.
  static MHD_Result request(void* server, MHD_Connection* from, const char* path, const char* method,
                            const char* /*version*/, const char* /*body*/, std::size_t* size, void** context) {
    const bool begins = std::exchange(*context, from) == nullptr;
    if (begins ? *method == 'G' || *method == 'H' : std::exchange(*size, 0) > 0) return MHD_YES;
    try {
      return static_cast<HttpServer*>(server)->answer(from, path, method) ? MHD_YES : MHD_NO;
    } catch (const std::exception&) {  // no memory: the connection ends
      return MHD_NO;
    }
  }
  // Writes the next part of what a page follows.
  static ssize_t read(void* of, std::uint64_t /*position*/, char* to, std::size_t most) {
    auto& follower = *static_cast<Follower*>(of);
    connection_of(follower.to).since = Clock::now();
    if (follower.has_left) return MHD_CONTENT_READER_END_WITH_ERROR;
    if (follower.has_all) return MHD_CONTENT_READER_END_OF_STREAM;
    try {
      if (!follower.line) follower.line = follower.lines.next(follower.place);
    } catch (const std::exception&) {
      return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    if (!follower.line) {
      follower.waits = true;
      MHD_suspend_connection(follower.to);
      return 0;
    }
    const std::size_t size = std::min(most, follower.line->size() - follower.at);
    std::copy_n(follower.line->data() + follower.at, size, to);
    follower.at += size;
    if (follower.at == follower.line->size()) {
      follower.has_all = follower.line->starts_with(LiveFrames::kEnd);
      follower.line = nullptr;
      follower.at = 0;
    }
    return static_cast<ssize_t>(size);
  }
  static void end_following(void* of) {
    auto* const follower = static_cast<Follower*>(of);
    connection_of(follower->to).follower = nullptr;
    delete follower;
  }
  // A request is answered, or the connection has ended meanwhile.
  static void completed(void* server, MHD_Connection* of, void** /*context*/, MHD_RequestTerminationCode how) {
    Connection& connection = connection_of(of);
    if (const auto result = std::exchange(connection.result, nullptr)) {
      static_cast<HttpServer*>(server)->count(how == MHD_REQUEST_TERMINATED_COMPLETED_OK ? result
                                                                                         : &HttpServerCounts::cut);
    }
    connection.waits = true;
    connection.since = Clock::now();
  }
  // The daemon itself answers malformed requests, and says so here alone.
  static void log(void* server, const char* format, va_list /*values*/) {
    if (std::string_view(format).starts_with("Error processing request"))
      static_cast<HttpServer*>(server)->count(&HttpServerCounts::bad_requests);
  }
};

// The answer to a request that is not for the metrics.
std::optional<HttpServer::Page> HttpServer::refusal(MHD_Connection* from, const Connection& connection,
                                                    std::string_view path, std::string_view method) const {
  std::size_t hosts = 0;
  const std::string host = values_of(from, "Host", &hosts);
  // Only HTTP/1.0 may leave Host out, as the daemon ensures. No browser of today does.
  if (hosts > 1) return Page{MHD_HTTP_BAD_REQUEST, "The request is malformed.\n"};
  const in6_addr local = local_address(connection.socket);
  if (hosts == 1 && !is_own_host(host, local, options_.hosts)) {
    return Page{MHD_HTTP_MISDIRECTED_REQUEST,
                "This is nopspan at " + listener_.address + ", which does not know the host " + printable(host, 100) +
                    ". If that is a name of this server, start nopspan serve with --host NAME.\n"};
  }
  if (method != "GET" && method != "HEAD")
    return Page{
        MHD_HTTP_METHOD_NOT_ALLOWED, "Only GET and HEAD are supported.\n", kPlainText, {{"Allow", "GET, HEAD"}}};
  const LiveFrames* const lines = followed_at(path);
  const bool is_page = !page_.empty() && (path == "/" || path == "/perfetto");
  if (is_page || lines != nullptr) {
    if (std::optional<Page> other = page_refusal(from, connection, path, host)) return other;
  }
  if (is_page) return Page{MHD_HTTP_OK, page_, kHtml};
  if (lines != nullptr) {
    const std::string site = values_of(from, "Sec-Fetch-Site");  // of browsers
    if (!site.empty() && site != "same-origin" && site != "none")
      return Page{MHD_HTTP_FORBIDDEN, "This is for the page of nopspan.\n"};
    if (lines->readers() < options_.followers) return std::nullopt;
    return Page{MHD_HTTP_SERVICE_UNAVAILABLE, "Too many pages are open.\n"};
  }
  if (path == "/") return Page{MHD_HTTP_OK, kFrontPage, kHtml};
  if (path == "/-/healthy") return Page{MHD_HTTP_OK, "nopspan is healthy.\n"};
  if (path != "/metrics") return Page{MHD_HTTP_NOT_FOUND, "Not found. The metrics are at /metrics.\n"};
  return std::nullopt;
}

// What the client gets instead of the page, or of what the page follows. Nothing if it may have them. A token in the
// address becomes a cookie, because the browser shows and keeps the address.
std::optional<HttpServer::Page> HttpServer::page_refusal(MHD_Connection* from, const Connection& connection,
                                                         std::string_view path, std::string_view host) const {
  const std::string cookie = cookie_name(host);
  if (access_.is_token(value_of(from, MHD_GET_ARGUMENT_KIND, "token"))) {
    if (followed_at(path) != nullptr) return std::nullopt;
    return Page{MHD_HTTP_SEE_OTHER,
                "",
                kPlainText,
                {{"Location", std::string(path)},
                 {"Set-Cookie", cookie + "=" + access_.token() + "; Path=/; HttpOnly; SameSite=Strict"}}};
  }
  if (access_.is_token(value_of(from, MHD_COOKIE_KIND, cookie.c_str()))) return std::nullopt;
  const std::string why =
      is_forwarded(from) ? "a proxy has forwarded the request" : access_.why_token(connection.socket);
  if (why.empty()) return std::nullopt;
  return Page{MHD_HTTP_FORBIDDEN, "The page of requests needs a token, because " + why + kWayIn};
}

bool HttpServer::answer(MHD_Connection* to, std::string_view path, std::string_view method) {
  Connection& connection = Callbacks::connection_of(to);
  connection.waits = false;
  connection.since = Clock::now();
  if (const std::optional<Page> page = refusal(to, connection, path, method)) return answer_with(to, *page);
  if (LiveFrames* const lines = followed_at(path)) return follow(to, *lines, method == "GET");
  const MetricFormat format = format_for(values_of(to, "Accept"));
  std::shared_ptr<const Rendered> rendered;
  try {
    rendered = renders_.get(format);
  } catch (const std::exception&) {
    return answer_with(to, {MHD_HTTP_INTERNAL_SERVER_ERROR, "The metrics could not be rendered.\n"});
  }
  if (renders_.is_half_full()) end_slow();
  if (!rendered) {
    return answer_with(
        to,
        {MHD_HTTP_SERVICE_UNAVAILABLE, "Too many slow clients read metrics.\n", kPlainText, {{"Retry-After", "10"}}});
  }
  const bool is_compressed = accepts_gzip(values_of(to, "Accept-Encoding")) && !rendered->gzip().empty();
  const std::string& text = is_compressed ? rendered->gzip() : rendered->text();
  // The text is not copied for each connection.
  using Held = std::shared_ptr<const Rendered>;
  auto held = std::make_unique<Held>(std::move(rendered));
  MHD_Response* const response = MHD_create_response_from_buffer_with_free_callback_cls(
      text.size(), const_cast<char*>(text.data()), [](void* of) { delete static_cast<Held*>(of); }, held.get());
  if (response == nullptr) return false;
  held.release();
  MHD_add_response_header(response, "Content-Type", content_type(format));
  MHD_add_response_header(response, "Vary", "Accept, Accept-Encoding");
  if (is_compressed) MHD_add_response_header(response, "Content-Encoding", "gzip");
  return send(to, MHD_HTTP_OK, response, &HttpServerCounts::scrapes);
}

LiveFrames* HttpServer::followed_at(std::string_view path) const {
  const auto found =
      std::find_if(followed_.begin(), followed_.end(), [&](const auto& one) { return one.first == path; });
  return found == followed_.end() ? nullptr : found->second;
}

// A page that was cut off has read up to a number in a session.
bool HttpServer::follow(MHD_Connection* to, LiveFrames& lines, bool has_body) {
  if (!has_body) return answer_with(to, {MHD_HTTP_OK, ""});
  auto follower = std::make_unique<Follower>(lines, to);
  // Anything else but this session is none.
  follower->place.session = value_of(to, MHD_GET_ARGUMENT_KIND, "session");
  const std::string_view next = value_of(to, MHD_GET_ARGUMENT_KIND, "next");
  std::from_chars(next.data(), next.data() + next.size(), follower->place.next);
  MHD_Response* const response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, kPart, &Callbacks::read,
                                                                   follower.get(), &Callbacks::end_following);
  if (response == nullptr) return false;
  Callbacks::connection_of(to).follower = follower.release();
  MHD_add_response_header(response, "Content-Type", kPlainText);
  if (!send(to, MHD_HTTP_OK, response, nullptr)) return false;
  count(&HttpServerCounts::followed);
  return true;
}

// Goes on with the pages for which there is a line.
void HttpServer::resume() {
  for (Connection& one : connections_) {
    if (one.follower == nullptr || !one.follower->waits) continue;
    if (!one.follower->has_left) one.follower->line = one.follower->lines.next(one.follower->place);
    if (!one.follower->has_left && !one.follower->line) continue;
    one.follower->waits = false;
    one.since = Clock::now();
    MHD_resume_connection(one.follower->to);
  }
}

bool HttpServer::answer_with(MHD_Connection* to, const Page& page) {
  MHD_Response* const response =
      MHD_create_response_from_buffer(page.text.size(), const_cast<char*>(page.text.data()), MHD_RESPMEM_MUST_COPY);
  if (response == nullptr) return false;
  MHD_add_response_header(response, "Content-Type", page.type);
  for (const auto& [name, value] : page.headers) MHD_add_response_header(response, name, value.c_str());
  return send(to, page.status, response,
              page.status < 400    ? &HttpServerCounts::other
              : page.status == 503 ? &HttpServerCounts::busy
              : page.status == 403 ? &HttpServerCounts::refused
              : page.status == 421 ? &HttpServerCounts::wrong_host
              : page.status < 500  ? &HttpServerCounts::bad_requests
                                   : &HttpServerCounts::failed);
}

// Adds the headers of all answers.
bool HttpServer::send(MHD_Connection* to, unsigned status, MHD_Response* response,
                      std::uint64_t HttpServerCounts::*result) {
  MHD_add_response_header(response, "Cache-Control", "no-store");
  MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
  MHD_add_response_header(response, "Content-Security-Policy", "frame-ancestors 'none'");
  const bool is_queued = MHD_queue_response(to, status, response) == MHD_YES;
  MHD_destroy_response(response);  // the connection has it too
  if (is_queued) Callbacks::connection_of(to).result = result;
  return is_queued;
}

HttpServer::HttpServer(const HttpServerOptions& options, Content content)
    : options_(options),
      page_(std::move(content.page)),
      followed_(std::move(content.followed)),
      listener_(listen_on(options.address)),
      renders_(std::move(content.render), options.reuse) {
  // The connections are accepted here, because the daemon would not make room for new ones.
  daemon_ = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG | MHD_ALLOW_SUSPEND_RESUME, 0,
                             nullptr, nullptr, &Callbacks::request, this, MHD_OPTION_EXTERNAL_LOGGER, &Callbacks::log,
                             this, MHD_OPTION_NOTIFY_CONNECTION, &Callbacks::changed, this, MHD_OPTION_NOTIFY_COMPLETED,
                             &Callbacks::completed, this, MHD_OPTION_CONNECTION_LIMIT,
                             static_cast<unsigned>(options_.connections), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                             kMemoryOfConnection, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
  if (daemon_ == nullptr) throw Failure("cannot serve metrics: libmicrohttpd does not start");
  try {
    thread_ = thread_without_signals([this] { run(); });
  } catch (const std::system_error&) {
    MHD_stop_daemon(daemon_);
    throw Failure("cannot serve metrics: no more threads are allowed");
  }
}

HttpServer::~HttpServer() {
  stop_.wake();
  thread_.join();
  for (const Connection& one : connections_) {
    if (one.follower != nullptr && one.follower->waits) MHD_resume_connection(one.follower->to);
  }
  MHD_stop_daemon(daemon_);
}

// A server that listens on all addresses is reached by none of that name.
std::string HttpServer::page_url() const {
  const std::string& address = listener_.address;
  const bool is_any = address.starts_with("0.0.0.0:") || address.starts_with("[::]:");
  return "http://" + (is_any ? "localhost" + address.substr(address.rfind(':')) : address) +
         "/?token=" + access_.token();
}

void HttpServer::count(std::uint64_t HttpServerCounts::*what) {
  const std::lock_guard lock(mutex_);
  ++(counts_.*what);
}

HttpServerCounts HttpServer::counts() const {
  const std::lock_guard lock(mutex_);
  HttpServerCounts now = counts_;
  now.renders = renders_.renders();
  return now;
}

void HttpServer::run() {
  const int events = MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
  for (bool looks = true;;) {
    std::vector<pollfd> files = {pollfd{stop_.fd(), POLLIN, 0}, pollfd{events, POLLIN, 0},
                                 pollfd{looks ? listener_.socket.get() : -1, POLLIN, 0}};
    for (const auto& [path, lines] : followed_) files.push_back({lines->wake_fd(), POLLIN, 0});
    // The daemon does not look at those that wait for a line.
    for (const Connection& one : connections_) {
      if (one.follower != nullptr && one.follower->waits) files.push_back({one.socket, POLLRDHUP, 0});
    }
    const int end = time_until_end();
    poll(files.data(), files.size(), looks || (end >= 0 && end < kLookMs) ? end : kLookMs);
    if (files[0].revents != 0) return;
    for (const auto& [path, lines] : followed_) lines->clear_wake();
    for (Connection& one : connections_) {
      const auto is_it = [&](const pollfd& file) { return file.fd == one.socket && file.revents != 0; };
      if (one.follower != nullptr && one.follower->waits)
        one.follower->has_left = std::any_of(files.begin() + 3, files.end(), is_it);
    }
    resume();
    MHD_run(daemon_);
    end_late();
    looks = true;
    // If there is no room, the kernel keeps a bounded number of new connections.
    if (files[2].revents != 0 && !accept_one()) {
      make_room();
      looks = false;
    }
  }
}

// When the connection is ended; nothing while its page has read all lines.
std::optional<HttpServer::Clock::time_point> HttpServer::end_of(const Connection& connection) const {
  if (connection.follower != nullptr && connection.follower->waits) return {};
  return connection.since + (connection.waits ? options_.request_time : options_.answer_time);
}

// In milliseconds, for poll(2).
int HttpServer::time_until_end() {
  MHD_UNSIGNED_LONG_LONG ms = 0;
  if (MHD_get_timeout(daemon_, &ms) == MHD_YES && ms == 0) return 0;
  std::optional<Clock::time_point> first;
  for (const Connection& one : connections_) {
    const auto end = end_of(one);
    if (end && (!first || *end < *first)) first = end;
  }
  if (!first) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(*first - Clock::now());
  return static_cast<int>(std::max<std::int64_t>(left.count(), 0));
}

// Ends connections whose clients take too long, however often they send or read a byte, and those whose clients have
// left: the daemon does not see that if it came with the last bytes.
void HttpServer::end_late() {
  const Clock::time_point now = Clock::now();
  for (Connection& one : connections_) {
    const bool is_late = now >= end_of(one).value_or(Clock::time_point::max());
    if (!is_late && !(one.waits && has_left(one.socket))) continue;
    shutdown(one.socket, SHUT_RDWR);  // the daemon sees that, and closes it
    one.since = now;
  }
}

// Returns false if there is no room for a connection.
bool HttpServer::accept_one() {
  if (connections_.size() >= options_.connections) return false;
  sockaddr_storage address = {};
  socklen_t size = sizeof(address);
  auto* const client = reinterpret_cast<sockaddr*>(&address);
  const int socket = accept4(listener_.socket.get(), client, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (socket < 0) return errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM;
  count(&HttpServerCounts::connections);
  // It closes the socket if it fails.
  if (MHD_add_connection(daemon_, socket, client, size) != MHD_YES) count(&HttpServerCounts::displaced);
  return true;
}

// Ends the connection that has waited longest, so that clients that send nothing do not keep others away.
void HttpServer::make_room() {
  const auto longest = std::min_element(connections_.begin(), connections_.end(), [](const auto& a, const auto& b) {
    return std::pair(!a.waits, a.since) < std::pair(!b.waits, b.since);
  });
  if (longest == connections_.end()) return;
  if (!longest->waits) return end_slow();
  if (longest->since > Clock::now() - kGrace) return;
  count(&HttpServerCounts::displaced);
  shutdown(longest->socket, SHUT_RDWR);
  longest->since = Clock::now();
}

// Ends the oldest answer of the client that reads most answers at once, if it has been slow. Two at once are usual, for
// example of a pair of Prometheus servers. Pages that are open have a limit of their own.
void HttpServer::end_slow() {
  std::map<std::string, std::vector<Connection*>> clients;
  for (Connection& one : connections_) {
    if (one.waits || one.follower != nullptr) continue;
    if (!one.client) one.client = client_of(one.socket);
    clients[*one.client].push_back(&one);
  }
  const auto greediest = std::max_element(
      clients.begin(), clients.end(), [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  if (greediest == clients.end() || greediest->second.size() <= kUsualAnswers) return;
  Connection& oldest = **std::min_element(greediest->second.begin(), greediest->second.end(),
                                          [](const auto* a, const auto* b) { return a->since < b->since; });
  if (oldest.since > Clock::now() - options_.slow_time) return;
  shutdown(oldest.socket, SHUT_RDWR);
  oldest.since = Clock::now();
}

}  // namespace nopspan::collector
