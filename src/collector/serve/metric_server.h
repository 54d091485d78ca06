// SPDX-License-Identifier: Apache-2.0
// Serves metrics by HTTP, for Prometheus. It does not know what the metrics are.
#pragma once

#include "base/stopping.h"
#include "serve/listen_address.h"
#include "serve/shared_renders.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace nopspan::collector {

struct MetricServerOptions {
  std::string address = "127.0.0.1:9464";
  // Names by which clients reach this server, beside localhost and its address.
  std::vector<std::string> hosts;

  // The limits below are options because tests need other ones.
  std::size_t connections = 32;
  std::size_t request_bytes = 16U << 10U;         // of the request line and the headers
  std::chrono::milliseconds request_time{5000};   // until the request has arrived
  std::chrono::milliseconds answer_time{10'000};  // until the client has read the answer
  // A rendered text is used again for requests within this time.
  std::chrono::milliseconds reuse{250};
};

// Counters since the start of a server.
struct MetricServerCounts {
  std::uint64_t connections = 0;
  std::uint64_t displaced = 0;     // connections that were closed while they waited, because there was no room
  std::uint64_t renders = 0;       // calls of `render`
  std::uint64_t scrapes = 0;       // answers with metrics
  std::uint64_t other = 0;         // answers with another page
  std::uint64_t busy = 0;          // answers 503, because slow clients keep too much in memory
  std::uint64_t wrong_host = 0;    // answers 421
  std::uint64_t bad_requests = 0;  // other answers of the range 400 to 499
  std::uint64_t failed = 0;        // answers 500, because `render` threw an exception
  std::uint64_t cut = 0;           // answers of all kinds that the client did not read in time, or not at all
};
struct MetricServerCountField {
  const char* name;  // in JSON; of an answer, also as result in metrics
  std::uint64_t MetricServerCounts::*count;
  bool is_answer = false;
  const char *one = nullptr, *what = nullptr;  // for messages: "connection", " closed to make room"
};
inline constexpr MetricServerCountField kServerCounts[] = {
    {"connections", &MetricServerCounts::connections},
    {"displaced", &MetricServerCounts::displaced, false, "waiting connection", " closed to make room"},
    {"renders", &MetricServerCounts::renders},
    {"scrapes", &MetricServerCounts::scrapes, true},
    {"other", &MetricServerCounts::other, true},
    {"busy", &MetricServerCounts::busy, true, "request", " refused while others were slow"},
    {"wrong_host", &MetricServerCounts::wrong_host, true, "request", " for another host refused (use --host)"},
    {"bad_requests", &MetricServerCounts::bad_requests, true, "bad request", ""},
    {"failed", &MetricServerCounts::failed, true, "request", " failed"},
    {"cut", &MetricServerCounts::cut, true, "answer", " not read by the client"},
};
static_assert(sizeof(MetricServerCounts) == std::size(kServerCounts) * sizeof(std::uint64_t), "a count is missing");

class MetricServer {
 public:
  // Returns the metrics of now. It is called on threads of the server, by one thread at a time for each format.
  using Render = SharedRenders::Render;

  // Listens, and serves until this object is destroyed, which takes at most as long as a running `render`. Throws
  // Failure if it cannot listen.
  MetricServer(const MetricServerOptions& options, Render render);
  MetricServer(const MetricServer&) = delete;
  MetricServer& operator=(const MetricServer&) = delete;
  ~MetricServer();

  // "127.0.0.1:9464", with the port that the kernel chose if the given one was 0.
  [[nodiscard]] const std::string& address() const { return listener_.address; }
  [[nodiscard]] MetricServerCounts counts() const;

 private:
  class Connection;

  void run();
  [[nodiscard]] Connection* free_connection() const;
  void make_room();
  void count(std::uint64_t MetricServerCounts::*what);

  const MetricServerOptions options_;
  const Listener listener_;
  const WakeUp stop_;   // readable once the server stops
  const WakeUp freed_;  // readable after a connection has ended
  SharedRenders renders_;
  mutable std::mutex mutex_;  // of `counts_`
  MetricServerCounts counts_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::thread acceptor_;
};

}  // namespace nopspan::collector
