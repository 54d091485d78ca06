// SPDX-License-Identifier: Apache-2.0
#include "serve/peer_user.h"

#include "base/open_file.h"
#include "serve/listen_address.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <cstring>

namespace nopspan::collector {
namespace {

struct SocketRequest {
  nlmsghdr header;
  inet_diag_req_v2 socket;
};
struct SocketAnswer {
  nlmsghdr header;
  inet_diag_msg socket;
};
// The answer has attributes too, which are cut off.
static_assert(sizeof(SocketAnswer) == NLMSG_LENGTH(sizeof(inet_diag_msg)), "there is a gap between header and content");

void write_address(const sockaddr_storage& from, __be32* address, __be16& port) {
  if (from.ss_family == AF_INET) {
    const auto& ipv4 = reinterpret_cast<const sockaddr_in&>(from);
    std::memcpy(address, &ipv4.sin_addr, sizeof(ipv4.sin_addr));
    port = ipv4.sin_port;
  } else {
    const auto& ipv6 = reinterpret_cast<const sockaddr_in6&>(from);
    std::memcpy(address, &ipv6.sin6_addr, sizeof(ipv6.sin6_addr));
    port = ipv6.sin6_port;
  }
}

// Whether a process has this socket, so that its uid means something. The kernel reports the uid 0, without an inode,
// of a connection whose socket was closed, and of one in TIME_WAIT. If no connection has the addresses, it reports a
// socket that listens on the local one.
bool has_owner(const inet_diag_msg& socket) {
  const bool is_connected = socket.idiag_state == TCP_ESTABLISHED || socket.idiag_state == TCP_FIN_WAIT1 ||
                            socket.idiag_state == TCP_FIN_WAIT2 || socket.idiag_state == TCP_CLOSE_WAIT;
  return is_connected && socket.idiag_inode != 0;
}

}  // namespace

std::optional<uid_t> user_of_socket(const sockaddr_storage& local, const sockaddr_storage& remote) {
  SocketRequest request = {};
  request.header.nlmsg_len = sizeof(request);
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.socket.sdiag_protocol = IPPROTO_TCP;
  // If both addresses are mapped IPv4 addresses, the kernel also finds sockets that use IPv4.
  request.socket.sdiag_family = static_cast<__u8>(local.ss_family);
  inet_diag_sockid& id = request.socket.id;
  write_address(local, id.idiag_src, id.idiag_sport);
  write_address(remote, id.idiag_dst, id.idiag_dport);
  id.idiag_cookie[0] = id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;

  const OpenFile kernel(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  sockaddr_nl to = {};
  to.nl_family = AF_NETLINK;
  if (!kernel || sendto(kernel.get(), &request, sizeof(request), 0, reinterpret_cast<const sockaddr*>(&to),
                        sizeof(to)) != static_cast<ssize_t>(sizeof(request))) {
    return std::nullopt;
  }
  // The kernel has answered before sendto() returns.
  SocketAnswer answer = {};
  sockaddr_nl from = {};
  socklen_t size = sizeof(from);
  const ssize_t received =
      recvfrom(kernel.get(), &answer, sizeof(answer), MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&from), &size);
  if (received != static_cast<ssize_t>(sizeof(answer)) || from.nl_pid != 0) return std::nullopt;
  if (answer.header.nlmsg_type != SOCK_DIAG_BY_FAMILY || !has_owner(answer.socket)) return std::nullopt;
  return answer.socket.idiag_uid;
}

std::optional<uid_t> peer_user(int connection) {
  sockaddr_storage own = {};
  sockaddr_storage peer = {};
  socklen_t own_size = sizeof(own);
  socklen_t peer_size = sizeof(peer);
  if (getsockname(connection, reinterpret_cast<sockaddr*>(&own), &own_size) != 0 ||
      getpeername(connection, reinterpret_cast<sockaddr*>(&peer), &peer_size) != 0) {
    return std::nullopt;
  }
  return user_of_socket(peer, own);
}

std::string client_of(int connection) {
  const in6_addr address = peer_address(connection);
  if (is_loopback(address)) {
    const std::optional<uid_t> user = peer_user(connection);
    return user ? "user " + std::to_string(*user) : "";
  }
  constexpr std::size_t kNetwork = 8;
  const bool is_whole = IN6_IS_ADDR_V4MAPPED(&address);
  return {reinterpret_cast<const char*>(address.s6_addr), is_whole ? sizeof(address) : kNetwork};
}

}  // namespace nopspan::collector
