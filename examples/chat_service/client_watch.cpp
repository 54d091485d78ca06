// SPDX-License-Identifier: Apache-2.0
#include "client_watch.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

namespace example {
namespace {

bool has_peer(int socket, const std::string& host, const std::string& port) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  auto* peer = reinterpret_cast<sockaddr*>(&address);
  char peer_host[NI_MAXHOST];
  char peer_port[NI_MAXSERV];
  return getpeername(socket, peer, &size) == 0 &&
         getnameinfo(peer, size, peer_host, sizeof peer_host, peer_port, sizeof peer_port,
                     NI_NUMERICHOST | NI_NUMERICSERV) == 0 &&
         host == peer_host && port == peer_port;
}

}  // namespace

// cpp-httplib 0.11 does not expose the socket of a request. It is the socket whose peer is the request's sender.
ClientWatch::ClientWatch(const httplib::Request& http) {
  const std::string port = std::to_string(http.remote_port);
  std::error_code error;
  for (std::filesystem::directory_iterator file("/proc/self/fd", error), end; !error && file != end;
       file.increment(error)) {
    const int number = std::atoi(file->path().filename().c_str());
    if (!has_peer(number, http.remote_addr, port)) continue;
    socket_ = number;
    return;
  }
}

bool ClientWatch::gone() const {
  pollfd watched{socket_, POLLRDHUP, 0};
  return socket_ >= 0 && ::poll(&watched, 1, 0) > 0;
}

}  // namespace example
