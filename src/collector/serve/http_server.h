// SPDX-License-Identifier: Apache-2.0
// Serves metrics by HTTP, for Prometheus, and a page with what it follows. It does not know what these are.
#pragma once

#include "base/stopping.h"
#include "serve/listen_address.h"
#include "serve/live_frames.h"
#include "serve/page_access.h"
#include "serve/shared_renders.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

struct MHD_Connection;
struct MHD_Daemon;
struct MHD_Response;

namespace nopspan::collector {

struct HttpServerOptions {
  std::string address = "127.0.0.1:9464";
  // Names by which clients reach this server, beside localhost and its address.
  std::vector<std::string> hosts;

  // The limits below are options because tests need other ones.
  std::size_t connections = 32;
  std::size_t followers = 8;                      // connections of pages, for each path
  std::chrono::milliseconds request_time{5000};   // until a request has arrived, or another one after an answer
  std::chrono::milliseconds answer_time{10'000};  // until the client has read the answer
  std::chrono::milliseconds slow_time{1000};      // the same, if its connections keep others away
  // A rendered text is used again for requests within this time.
  std::chrono::milliseconds reuse{250};
};

// Counters since the start of a server.
struct HttpServerCounts {
  std::uint64_t connections = 0;
  std::uint64_t displaced = 0;     // connections that were closed while they waited, because there was no room
  std::uint64_t renders = 0;       // calls of `render`
  std::uint64_t scrapes = 0;       // answers with metrics
  std::uint64_t other = 0;         // answers with another page
  std::uint64_t followed = 0;      // answers that go on while a page is open
  std::uint64_t busy = 0;          // answers 503, because slow clients keep too much in memory
  std::uint64_t wrong_host = 0;    // answers 421
  std::uint64_t refused = 0;       // answers 403
  std::uint64_t bad_requests = 0;  // other answers of the range 400 to 499, and 505
  std::uint64_t failed = 0;        // answers 500, because `render` threw an exception
  std::uint64_t cut = 0;           // answers of all kinds that the client did not read in time, or not at all
};
struct HttpServerCountField {
  const char* name;  // in JSON; of an answer, also as result in metrics
  std::uint64_t HttpServerCounts::*count;
  bool is_answer = false;
  const char *one = nullptr, *what = nullptr;  // for messages: "connection", " closed to make room"
};
inline constexpr HttpServerCountField kServerCounts[] = {
    {"connections", &HttpServerCounts::connections},
    {"displaced", &HttpServerCounts::displaced, false, "waiting connection", " closed to make room"},
    {"renders", &HttpServerCounts::renders},
    {"scrapes", &HttpServerCounts::scrapes, true},
    {"other", &HttpServerCounts::other, true},
    {"followed", &HttpServerCounts::followed, true},
    {"busy", &HttpServerCounts::busy, true, "request", " refused while others were slow"},
    {"wrong_host", &HttpServerCounts::wrong_host, true, "request", " for another host refused (use --host)"},
    {"refused", &HttpServerCounts::refused, true, "request", " for the page refused"},
    {"bad_requests", &HttpServerCounts::bad_requests, true, "bad request", ""},
    {"failed", &HttpServerCounts::failed, true, "request", " failed"},
    {"cut", &HttpServerCounts::cut, true, "answer", " not read by the client"},
};
static_assert(sizeof(HttpServerCounts) == std::size(kServerCounts) * sizeof(std::uint64_t), "a count is missing");

class HttpServer {
 public:
  struct Content {
    // Returns the metrics of now. It is called on the thread of the server, which serves nothing else meanwhile.
    SharedRenders::Render render;
    // For clients that PageAccess knows, because they have what programs do for their users.
    std::string page = {};                                           // at "/" and "/perfetto", as HTML
    std::vector<std::pair<std::string, LiveFrames*>> followed = {};  // by path, as lines
  };

  // Listens, and serves until this object is destroyed, which takes at most as long as a running `render`. Throws
  // Failure if it cannot listen.
  HttpServer(const HttpServerOptions& options, Content content);
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  ~HttpServer();

  // "127.0.0.1:9464", with the port that the kernel chose if the given one was 0.
  [[nodiscard]] const std::string& address() const { return listener_.address; }
  // "http://127.0.0.1:9464/?token=…"
  [[nodiscard]] std::string page_url() const;
  [[nodiscard]] HttpServerCounts counts() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Page;
  struct Follower;
  struct Callbacks;
  struct Connection {
    int socket;                                         // of the daemon
    bool waits = true;                                  // for a request, or the rest of one
    Clock::time_point since = Clock::now();             // since when it waits, or is answered
    std::uint64_t HttpServerCounts::*result = nullptr;  // of the request that is answered
    Follower* follower = nullptr;
    std::optional<std::string> client = {};  // client_of(), once it was needed
  };

  void run();
  [[nodiscard]] std::optional<Clock::time_point> end_of(const Connection& connection) const;
  [[nodiscard]] int time_until_end();
  void end_late();
  bool accept_one();
  void make_room();
  void end_slow();
  [[nodiscard]] std::optional<Page> refusal(MHD_Connection* from, const Connection& connection, std::string_view path,
                                            std::string_view method) const;
  [[nodiscard]] std::optional<Page> page_refusal(MHD_Connection* from, const Connection& connection,
                                                 std::string_view path, std::string_view host) const;
  [[nodiscard]] bool answer(MHD_Connection* to, std::string_view path, std::string_view method);
  bool answer_with(MHD_Connection* to, const Page& page);
  [[nodiscard]] LiveFrames* followed_at(std::string_view path) const;
  bool follow(MHD_Connection* to, LiveFrames& lines, bool has_body);
  void resume();
  bool send(MHD_Connection* to, unsigned status, MHD_Response* response, std::uint64_t HttpServerCounts::*result);
  void count(std::uint64_t HttpServerCounts::*what);

  const HttpServerOptions options_;
  const std::string page_;
  const std::vector<std::pair<std::string, LiveFrames*>> followed_;
  const PageAccess access_;
  const Listener listener_;
  const WakeUp stop_;  // readable once the server stops
  SharedRenders renders_;
  mutable std::mutex mutex_;  // of `counts_`
  HttpServerCounts counts_;
  std::list<Connection> connections_;
  MHD_Daemon* daemon_ = nullptr;
  std::thread thread_;
};

}  // namespace nopspan::collector
