// SPDX-License-Identifier: Apache-2.0
#include "serve/listen_address.h"

#include "base/failure.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>

namespace nopspan::collector {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::MatchesRegex;

Failure failure_to_listen(const std::string& address) {
  try {
    listen_on(address);
  } catch (const Failure& failure) {
    return failure;
  }
  ADD_FAILURE() << address << " was accepted";
  return Failure("");
}

in6_addr address_of(const char* text) {
  in6_addr address = {};
  EXPECT_EQ(inet_pton(AF_INET6, text, &address), 1) << text;
  return address;
}

TEST(ListenAddress, ReportsThePortThatTheKernelChose) {
  EXPECT_THAT(listen_on("127.0.0.1:0").address, MatchesRegex("127\\.0\\.0\\.1:[1-9][0-9]*"));
  EXPECT_THAT(listen_on("LocalHost:0").address, MatchesRegex("127\\.0\\.0\\.1:[1-9][0-9]*"));
  EXPECT_THAT(listen_on("0.0.0.0:0").address, MatchesRegex("0\\.0\\.0\\.0:[1-9][0-9]*"));
  try {
    EXPECT_THAT(listen_on("[::1]:0").address, MatchesRegex("\\[::1\\]:[1-9][0-9]*"));
  } catch (const Failure& failure) {
    EXPECT_THAT(failure.what(), HasSubstr("this host does not have the address"));
    GTEST_SKIP() << "no IPv6: " << failure.what();
  }
}

TEST(ListenAddress, CanBeAllOfIpv6AndOfIpv4) {
  const std::string address = listen_on("[::]:0").address;
  const Listener listener = listen_on(address);
  sockaddr_in client = {};
  client.sin_family = AF_INET;
  client.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  client.sin_port = htons(static_cast<std::uint16_t>(std::stoul(address.substr(address.rfind(':') + 1))));
  const OpenFile socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(connect(socket.get(), reinterpret_cast<const sockaddr*>(&client), sizeof(client)), 0);
}

TEST(ListenAddress, MustBeAnAddressAndAPort) {
  for (const char* address : {"",
                              ":",
                              "9464",
                              ":9464",
                              "127.0.0.1",
                              "127.0.0.1:",
                              "127.0.0.1:http",
                              "127.0.0.1:65536",
                              "127.0.0.1:-1",
                              "127.0.0.1:+1",
                              "127.0.0.1: 1",
                              "127.0.0.1:1 ",
                              "1.2.3.4.5:1",
                              "::1:9464",
                              "[::1]",
                              "[::1:9464",
                              "[::1]9464",
                              "[127.0.0.1]:1",
                              "[]:1",
                              "example.com:9464",
                              "http://127.0.0.1:9464",
                              "[::1%nosuchinterface]:0",
                              "unix:/tmp/socket"}) {
    const Failure failure = failure_to_listen(address);
    EXPECT_EQ(failure.exit_status, Failure::kUsageError) << address;
    EXPECT_THAT(failure.what(),
                AllOf(HasSubstr(address), HasSubstr("is not an IP address and a port, such as 127.0.0.1:9464")));
  }
}

TEST(ListenAddress, CanBeInUse) {
  const Listener first = listen_on("127.0.0.1:0");
  const Failure failure = failure_to_listen(first.address);
  EXPECT_EQ(failure.exit_status, Failure::kFailed);
  EXPECT_THAT(failure.what(), HasSubstr("cannot listen on " + first.address + ": another program listens there"));
}

TEST(ListenAddress, CanBeOfAnotherHost) {
  const Failure failure = failure_to_listen("192.0.2.1:0");  // reserved for documentation
  EXPECT_EQ(failure.exit_status, Failure::kFailed);
  EXPECT_THAT(failure.what(), HasSubstr("this host does not have the address"));
}

TEST(OwnHost, IsTheAddressLocalhostOrAGivenName) {
  const in6_addr v4 = address_of("::ffff:10.0.0.5");
  for (const char* host : {"10.0.0.5", "10.0.0.5:9464", "10.0.0.5:1", "localhost", "LOCALHOST:9464", "localhost.",
                           "node7", "Node7.example.COM:80", "node7.example.com."}) {
    EXPECT_TRUE(is_own_host(host, v4, {"node7", "node7.example.com"})) << host;
  }
  for (const char* host : {"",
                           ":",
                           ":9464",
                           "10.0.0.6",
                           "127.0.0.1",
                           "10.0.0.5:",
                           "10.0.0.5:x",
                           "10.0.0.5:70000",
                           "10.0.0.5.evil.example",
                           "evil.example",
                           "localhost.evil.example",
                           "localhost@evil.example",
                           "node77",
                           "[::1]",
                           "[10.0.0.5]",
                           "[",
                           "]",
                           "[]",
                           "010.0.0.5",
                           "\xff"}) {
    EXPECT_FALSE(is_own_host(host, v4, {"node7", "node7.example.com"})) << host;
  }
  EXPECT_FALSE(is_own_host(std::string_view("localhost\0.evil", 15), v4, {}));
  const in6_addr v6 = address_of("fe80::1");
  for (const char* host : {"[fe80::1]", "[FE80:0::1]:9464", "[fe80::1%eth0]:9464", "localhost"}) {
    EXPECT_TRUE(is_own_host(host, v6, {})) << host;
  }
  for (const char* host : {"fe80::1", "[fe80::2]", "[fe80::1", "[fe80::1]x", "[localhost]", "[::ffff:10.0.0.5]"}) {
    EXPECT_FALSE(is_own_host(host, v6, {})) << host;
  }
}

}  // namespace
}  // namespace nopspan::collector
