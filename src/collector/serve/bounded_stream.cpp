// SPDX-License-Identifier: Apache-2.0
#include "serve/bounded_stream.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace nopspan::collector {

namespace {

constexpr std::chrono::milliseconds kLinger{500};
constexpr std::size_t kMostDiscarded = 256U << 10U;
constexpr std::string_view kEndOfHeaders = "\r\n\r\n";

}  // namespace

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
    if (received >= 0) return received;
    if (errno == EINTR) continue;
    if (errno != EAGAIN || !wait(POLLIN, until)) return -1;
  }
}

BoundedStream::Arrival BoundedStream::read_request() {
  const Clock::time_point until = Clock::now() + limits_.request_time;
  for (std::size_t from = 0;;) {
    const std::size_t end = request_.find(kEndOfHeaders, from);
    if (end < limits_.request_bytes) {
      request_.resize(end);
      return Arrival::complete;
    }
    if (request_.size() >= limits_.request_bytes) return Arrival::too_large;
    from = request_.size() - std::min(request_.size(), kEndOfHeaders.size() - 1);
    // A byte now and then does not give the client more time.
    const ssize_t received = Clock::now() < until ? receive(until) : -1;
    if (received < 0 && Clock::now() >= until && !request_.empty()) return Arrival::too_slow;
    if (received <= 0) return Arrival::none;
    request_.append(buffer_.data(), static_cast<std::size_t>(received));
  }
}

bool BoundedStream::write(std::string_view bytes) {
  if (answer_end_ == Clock::time_point()) answer_end_ = Clock::now() + limits_.answer_time;
  while (!bytes.empty()) {
    // A client that reads slowly does not get more time.
    if (Clock::now() >= answer_end_) return false;
    const ssize_t sent = send(connection_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno != EINTR && (errno != EAGAIN || !wait(POLLOUT, answer_end_))) {
      return false;
    }
  }
  return true;
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
