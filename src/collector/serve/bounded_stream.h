// SPDX-License-Identifier: Apache-2.0
// A connection for one request, which ends if the request is too long, or takes too long to arrive or to answer.
#pragma once

#include "serve/metric_server.h"

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace nopspan::collector {

class BoundedStream {
 public:
  // `connection` must not block. All waiting ends as soon as `stop` is readable. `limits` must outlive this object.
  BoundedStream(int connection, int stop, const MetricServerOptions& limits)
      : connection_(connection), stop_(stop), limits_(limits) {}

  // `none`: the client sent nothing in time or has left, or the server stops.
  enum class Arrival : std::uint8_t { complete, too_large, too_slow, none };
  // Reads the request line and the headers.
  Arrival read_request();
  // What has arrived. If it is complete, without the line that ends it. A body is not read.
  [[nodiscard]] const std::string& request() const { return request_; }
  // Writes a part of the answer. Returns false if the client does not read the whole answer in time.
  bool write(std::string_view bytes);
  // After the answer: announces the end, and discards what the client still sends. If a connection is closed earlier,
  // the client may lose the answer.
  void linger();

 private:
  using Clock = std::chrono::steady_clock;
  // Returns false if the time is over, or the server stops.
  [[nodiscard]] bool wait(short events, Clock::time_point until) const;
  ssize_t receive(Clock::time_point until);  // into the buffer

  const int connection_, stop_;
  const MetricServerOptions& limits_;
  std::array<char, 4096> buffer_ = {};
  std::string request_;
  Clock::time_point answer_end_;  // set by the first write()
};

}  // namespace nopspan::collector
