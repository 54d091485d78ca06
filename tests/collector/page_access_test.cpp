// SPDX-License-Identifier: Apache-2.0
// The users of connections, and the right to read the page of requests without a token.
#include "serve/page_access.h"

#include "as_user.h"
#include "base/open_file.h"
#include "serve/peer_user.h"

#include <gmock/gmock.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <optional>
#include <string>
#include <thread>

namespace nopspan::collector {
namespace {

using testing::HasSubstr;
using testing::Optional;

// An address of the loopback, of this family. An address that is mapped is IPv4 for a socket of IPv6.
sockaddr_storage loopback(int family, std::uint16_t port = 0, bool is_mapped = false) {
  sockaddr_storage address = {};
  address.ss_family = static_cast<sa_family_t>(family);
  if (family == AF_INET) {
    auto& ipv4 = reinterpret_cast<sockaddr_in&>(address);
    ipv4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ipv4.sin_port = htons(port);
  } else {
    auto& ipv6 = reinterpret_cast<sockaddr_in6&>(address);
    ipv6.sin6_addr = in6addr_loopback;
    ipv6.sin6_port = htons(port);
    if (is_mapped) ipv6.sin6_addr = {{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1}}};
  }
  return address;
}

const sockaddr* generic(const sockaddr_storage& address) { return reinterpret_cast<const sockaddr*>(&address); }

sockaddr_storage bound_address(const OpenFile& file) {
  sockaddr_storage address = {};
  socklen_t size = sizeof(address);
  EXPECT_EQ(getsockname(file.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  return address;
}

std::uint16_t port_of(const OpenFile& file) {
  const sockaddr_storage address = bound_address(file);
  return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);  // at the same place in both families
}

// A connection from this thread to itself. `server` is the accepted end.
struct Connected {
  explicit Connected(int server_family = AF_INET, int client_family = AF_INET, bool is_mapped = false)
      : listener(socket(server_family, SOCK_STREAM | SOCK_CLOEXEC, 0)),
        client(socket(client_family, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_storage address = loopback(server_family);
    if (server_family == AF_INET6) reinterpret_cast<sockaddr_in6&>(address).sin6_addr = in6addr_any;
    is_up = bind(listener.get(), generic(address), sizeof(address)) == 0 && listen(listener.get(), 1) == 0;
    const sockaddr_storage to = loopback(client_family, port_of(listener), is_mapped);
    is_up = is_up && connect(client.get(), generic(to), sizeof(to)) == 0;
    if (is_up) server = OpenFile(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  OpenFile listener, client, server;
  bool is_up = false;
};

TEST(PeerUser, IsTheUserWhoseProcessMadeTheOtherEnd) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  std::optional<Connected> connected;
  {
    const AsUser other(12345);
    connected.emplace();
  }
  ASSERT_TRUE(connected->is_up);
  EXPECT_THAT(peer_user(connected->server.get()), Optional(12345U));
  // It may have sent all that it will.
  shutdown(connected->client.get(), SHUT_WR);
  EXPECT_THAT(peer_user(connected->server.get()), Optional(12345U));
}

TEST(PeerUser, KnowsAllAddressesOfTheLoopback) {
  struct Case {
    int server, client;
    bool is_mapped;
  };
  for (const Case& one : {Case{AF_INET, AF_INET, false}, Case{AF_INET6, AF_INET6, false},
                          Case{AF_INET6, AF_INET, false}, Case{AF_INET6, AF_INET6, true}}) {
    const Connected connected(one.server, one.client, one.is_mapped);
    if (one.server == AF_INET6 && !connected.is_up) GTEST_SKIP() << "no IPv6";
    EXPECT_THAT(peer_user(connected.server.get()), Optional(geteuid())) << one.server << one.client << one.is_mapped;
    EXPECT_EQ(PageAccess().why_token(connected.server.get()), "");
  }
}

// The kernel reports the uid 0 for sockets that no process has.
TEST(PeerUser, IsUnknownIfTheOtherEndWasClosed) {
  Connected closed;
  ASSERT_TRUE(closed.is_up);
  closed.client.reset();
  EXPECT_EQ(peer_user(closed.server.get()), std::nullopt);
  EXPECT_THAT(PageAccess().why_token(closed.server.get()), HasSubstr("does not report the user"));

  Connected waiting;
  const sockaddr_storage client = bound_address(waiting.client);
  const sockaddr_storage server = bound_address(waiting.server);
  waiting.client.reset();
  waiting.server.reset();  // now the client's end is in TIME_WAIT
  EXPECT_EQ(user_of_socket(client, server), std::nullopt);
}

// If no connection has the addresses, the kernel reports a server at the local one.
TEST(PeerUser, IsNotTheUserOfAServerAtTheSamePort) {
  const Connected connected;
  ASSERT_TRUE(connected.is_up);
  const sockaddr_storage nobody = loopback(AF_INET, 1);
  EXPECT_EQ(user_of_socket(bound_address(connected.listener), nobody), std::nullopt);
  EXPECT_EQ(user_of_socket(nobody, nobody), std::nullopt);
}

TEST(PeerUser, IsUnknownInAnotherNetwork) {
  std::optional<Connected> connected;
  bool is_possible = false;
  std::thread([&] {
    ifreq interface = {};
    std::string("lo").copy(interface.ifr_name, sizeof(interface.ifr_name));
    interface.ifr_flags = IFF_UP;
    is_possible = unshare(CLONE_NEWNET) == 0 &&
                  ioctl(OpenFile(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)).get(), SIOCSIFFLAGS, &interface) == 0;
    if (!is_possible) return;
    connected.emplace();
    EXPECT_THAT(peer_user(connected->server.get()), Optional(geteuid()));
  }).join();
  if (!is_possible) GTEST_SKIP() << "needs root";
  EXPECT_EQ(peer_user(connected->server.get()), std::nullopt);
}

TEST(PageAccess, NeedsNoTokenOfRootAndOfItsUser) {
  constexpr uid_t kUnknown = 65534;
  EXPECT_TRUE(PageAccess::needs_no_token(0, 1000, kUnknown));
  EXPECT_TRUE(PageAccess::needs_no_token(1000, 1000, kUnknown));
  EXPECT_FALSE(PageAccess::needs_no_token(1001, 1000, kUnknown));
  EXPECT_FALSE(PageAccess::needs_no_token(1000, 0, kUnknown));
  // All users outside of a user namespace have this uid.
  EXPECT_FALSE(PageAccess::needs_no_token(kUnknown, kUnknown, kUnknown));
}

TEST(PageAccess, NoticesProxies) {
  for (const char* header : {"Forwarded", "Via", "via", "X-Forwarded-For", "X-Forwarded-Host", "X-FORWARDED-PROTO",
                             "X-Real-IP", "CF-Connecting-IP", "True-Client-IP", "X-Client-IP",
                             "X-Envoy-External-Address", "CDN-Loop", "X-Original-URI", "X-Azure-ClientIP", "CF-Ray"}) {
    EXPECT_TRUE(is_of_proxy(header)) << header;
  }
  for (const char* header : {"Host", "Accept", "Cookie", "User-Agent", "Sec-Fetch-Site", "Upgrade-Insecure-Requests",
                             "Connection", "sec-ch-ua-platform", "traceparent", "Priority"}) {
    EXPECT_FALSE(is_of_proxy(header)) << header;
  }
}

}  // namespace
}  // namespace nopspan::collector
