// SPDX-License-Identifier: Apache-2.0
#include "serve/bounded_stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace nopspan::collector {

namespace {

constexpr std::chrono::milliseconds kLinger{500};
constexpr std::size_t kMostDiscarded = 256U << 10U;

}  // namespace

BoundedStream::BoundedStream(int connection, int stop, const MetricServerOptions& limits)
    : connection_(connection), stop_(stop), limits_(limits) {}

bool BoundedStream::wait(short events, Clock::time_point until) const {
  for (;;) {
    std::array<pollfd, 2> files = {pollfd{connection_, events, 0}, pollfd{stop_, POLLIN, 0}};
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    const int ready = poll(files.data(), files.size(), static_cast<int>(std::max<std::int64_t>(left, 0)));
    if (ready < 0 && errno == EINTR) continue;
    return ready > 0 && files[1].revents == 0;
  }
}

ssize_t BoundedStream::receive(Clock::time_point until) {
  for (;;) {
    const ssize_t received = recv(connection_, buffer_.data(), buffer_.size(), 0);
    if (received >= 0) {
      at_ = 0;
      end_ = static_cast<std::size_t>(received);
      return received;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN || !wait(POLLIN, until)) return -1;
  }
}

bool BoundedStream::await_request(std::chrono::milliseconds patience) {
  if (at_ == end_ && receive(Clock::now() + patience) <= 0) return false;
  request_end_ = Clock::now() + limits_.request_time;
  request_bytes_ = 0;
  has_answer_ = false;
  return true;
}

ssize_t BoundedStream::read(char* bytes, std::size_t size) {
  if (request_bytes_ >= limits_.request_bytes) {
    is_too_large_ = true;
    return -1;
  }
  if (at_ == end_) {
    const ssize_t received = Clock::now() < request_end_ ? receive(request_end_) : -1;
    if (received <= 0) {
      is_too_slow_ = received < 0 && Clock::now() >= request_end_;
      return received;
    }
  }
  size = std::min({size, end_ - at_, limits_.request_bytes - request_bytes_});
  std::memcpy(bytes, buffer_.data() + at_, size);
  at_ += size;
  request_bytes_ += size;
  return static_cast<ssize_t>(size);
}

ssize_t BoundedStream::write(const char* bytes, std::size_t size) {
  if (!has_answer_) {
    has_answer_ = true;
    answer_end_ = Clock::now() + limits_.answer_time;
  }
  for (;;) {
    // A client that reads slowly does not get more time.
    if (Clock::now() >= answer_end_) break;
    const ssize_t sent = send(connection_, bytes, size, MSG_NOSIGNAL);
    if (sent >= 0) return sent;
    if (errno != EINTR && (errno != EAGAIN || !wait(POLLOUT, answer_end_))) break;
  }
  is_cut_ = true;
  return -1;
}

void BoundedStream::linger() {
  if (shutdown(connection_, SHUT_WR) != 0) return;
  const Clock::time_point until = Clock::now() + kLinger;
  std::size_t discarded = 0;
  while (discarded < kMostDiscarded && Clock::now() < until) {
    const ssize_t received = receive(until);
    if (received <= 0) return;
    discarded += static_cast<std::size_t>(received);
  }
}

}  // namespace nopspan::collector
