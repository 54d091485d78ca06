// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_CLIENT_WATCH_H
#define EXAMPLES_CLIENT_WATCH_H

#include <httplib.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace example {

// Detects that the client of a request is gone, even while the server writes nothing. Valid until the answer is
// complete.
class ClientWatch {
 public:
  // cpp-httplib 0.11 does not expose the socket of a request. It is the socket whose peer is the request's sender.
  explicit ClientWatch(const httplib::Request& http) {
    for (const auto& file : std::filesystem::directory_iterator("/proc/self/fd")) {
      const int number = std::atoi(file.path().filename().c_str());
      if (has_peer(number, http.remote_addr, std::to_string(http.remote_port))) socket_ = number;
    }
  }

  // Whether the client has closed its side of the connection.
  bool gone() const {
    pollfd watched{socket_, POLLRDHUP, 0};
    return socket_ >= 0 && ::poll(&watched, 1, 0) > 0;
  }

 private:
  static bool has_peer(int socket, const std::string& host, const std::string& port) {
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

  int socket_ = -1;
};

}  // namespace example

#endif  // EXAMPLES_CLIENT_WATCH_H
