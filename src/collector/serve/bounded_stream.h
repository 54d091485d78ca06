// SPDX-License-Identifier: Apache-2.0
// A connection for cpp-httplib that ends a request which is too long, or takes too long to arrive or to answer.
#pragma once

#include "serve/metric_server.h"

#include <httplib.h>
#include <poll.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <string>

namespace nopspan::collector {

class BoundedStream : public httplib::Stream {
 public:
  // `connection` must not block. All waiting ends as soon as `stop` is readable. `limits` must outlive this object.
  BoundedStream(int connection, int stop, const MetricServerOptions& limits);

  // Waits for the first byte of the next request, and starts its limits. Returns false if it does not arrive in time.
  bool await_request(std::chrono::milliseconds patience);
  // After the last answer: announces the end, and discards what the client still sends. If a connection is closed
  // earlier, the client may lose the answer.
  void linger();

  [[nodiscard]] bool is_too_large() const { return is_too_large_; }
  [[nodiscard]] bool is_too_slow() const { return is_too_slow_; }
  // Whether an answer could not be written as a whole.
  [[nodiscard]] bool is_cut() const { return is_cut_; }

  [[nodiscard]] bool is_readable() const override { return at_ < end_ || wait(POLLIN, request_end_); }
  [[nodiscard]] bool is_writable() const override { return wait(POLLOUT, answer_end_); }
  ssize_t read(char* bytes, std::size_t size) override;
  ssize_t write(const char* bytes, std::size_t size) override;
  // cpp-httplib wants both for headers that it adds to a request. Nothing here reads them.
  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  [[nodiscard]] socket_t socket() const override { return connection_; }

 private:
  using Clock = std::chrono::steady_clock;
  // Returns false if the time is over, or the server stops.
  [[nodiscard]] bool wait(short events, Clock::time_point until) const;
  ssize_t receive(Clock::time_point until);  // into the buffer

  const int connection_, stop_;
  const MetricServerOptions& limits_;
  std::array<char, 4096> buffer_ = {};
  std::size_t at_ = 0, end_ = 0;  // of what is unread in the buffer
  std::size_t request_bytes_ = 0;
  Clock::time_point request_end_, answer_end_;
  bool has_answer_ = false, is_too_large_ = false, is_too_slow_ = false, is_cut_ = false;
};

}  // namespace nopspan::collector
