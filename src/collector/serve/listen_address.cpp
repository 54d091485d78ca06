// SPDX-License-Identifier: Apache-2.0
#include "serve/listen_address.h"

#include "base/failure.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <system_error>

namespace nopspan::collector {

namespace {

constexpr int kBacklog = 64;
// Bounds the kernel's memory for an answer that the client does not read.
constexpr int kSendBufferBytes = 256 * 1024;

// "[::1]:9464" as "::1" and "9464". A host without a port has the port "".
struct HostAndPort {
  std::string host, port;
  bool has_brackets = false;
};

std::optional<HostAndPort> host_and_port(std::string_view text) {
  HostAndPort parts;
  std::size_t end = 0;
  if (text.starts_with('[')) {
    end = text.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    parts.host = text.substr(1, end - 1);
    parts.has_brackets = true;
    ++end;
  } else {
    end = std::min(text.find(':'), text.size());
    parts.host = text.substr(0, end);
  }
  if (end == text.size()) return parts;
  if (text[end] != ':' || end + 1 == text.size()) return std::nullopt;
  parts.port = text.substr(end + 1);
  std::uint16_t number = 0;
  const auto [last, error] = std::from_chars(parts.port.data(), parts.port.data() + parts.port.size(), number);
  if (error != std::errc() || last != parts.port.data() + parts.port.size()) return std::nullopt;
  return parts;
}

using AddressList = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

// The numeric address, or an empty list.
AddressList numeric_address(const HostAndPort& parts) {
  addrinfo hints = {};
  hints.ai_family = parts.has_brackets ? AF_INET6 : AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  addrinfo* found = nullptr;
  const char* host = is_same_word(parts.host, "localhost") ? "127.0.0.1" : parts.host.c_str();
  if (parts.host.empty() || parts.port.empty() || getaddrinfo(host, parts.port.c_str(), &hints, &found) != 0) {
    found = nullptr;
  }
  return {found, freeaddrinfo};
}

// Whether it is [::], which means all addresses of this host, also those of IPv4.
bool is_any_address(const addrinfo& found) {
  return found.ai_family == AF_INET6 &&
         IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6*>(found.ai_addr)->sin6_addr);
}

std::string address_text(const sockaddr_storage& address, socklen_t size) {
  std::array<char, NI_MAXHOST> host = {};
  std::array<char, NI_MAXSERV> port = {};
  if (getnameinfo(reinterpret_cast<const sockaddr*>(&address), size, host.data(), host.size(), port.data(), port.size(),
                  NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "";
  }
  const std::string name = host.data();
  return (address.ss_family == AF_INET6 ? "[" + name + "]" : name) + ":" + port.data();
}

// Ends the command with the reason why the address cannot be used, and what to do.
[[noreturn]] void cannot_listen(const std::string& address, int error) {
  std::string what = "cannot listen on " + address + ": ";
  if (error == EADDRINUSE) {
    what += "another program listens there; choose another port (0: any free one)";
  } else if (error == EADDRNOTAVAIL || error == EAFNOSUPPORT) {
    what += "this host does not have the address";
  } else if (error == EACCES) {
    what += "the port needs CAP_NET_BIND_SERVICE; choose a port above 1023";
  } else {
    what += std::strerror(error);
  }
  throw Failure(what);
}

// `read` is getsockname() or getpeername().
in6_addr address_of(int connection, int (*read)(int, sockaddr*, socklen_t*)) {
  sockaddr_storage address = {};
  socklen_t size = sizeof(address);
  if (read(connection, reinterpret_cast<sockaddr*>(&address), &size) != 0) return in6addr_any;
  if (address.ss_family == AF_INET6) return reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
  if (address.ss_family != AF_INET) return in6addr_any;
  in6_addr mapped = in6addr_any;
  mapped.s6_addr[10] = mapped.s6_addr[11] = 0xff;
  std::memcpy(&mapped.s6_addr[12], &reinterpret_cast<const sockaddr_in&>(address).sin_addr, sizeof(in_addr));
  return mapped;
}

}  // namespace

Listener listen_on(const std::string& address) {
  const std::optional<HostAndPort> parts = host_and_port(address);
  const AddressList found = parts ? numeric_address(*parts) : AddressList(nullptr, freeaddrinfo);
  if (!found) {
    throw Failure(
        "'" + printable(address, 100) + "' is not an IP address and a port, such as 127.0.0.1:9464 or [::1]:9464",
        Failure::kUsageError);
  }
  Listener listener;
  listener.socket = OpenFile(socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.socket && errno == EAFNOSUPPORT && is_any_address(*found)) return listen_on("0.0.0.0:" + parts->port);
  const int fd = listener.socket.get();
  // After a restart, connections of the previous server may still exist. Two servers still cannot use one address.
  const int yes = 1;
  const int no = 0;  // also if net.ipv6.bindv6only is set
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0 ||
      (is_any_address(*found) && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no)) != 0) ||
      setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kSendBufferBytes, sizeof(kSendBufferBytes)) != 0 ||
      bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, kBacklog) != 0) {
    cannot_listen(address, errno);
  }
  sockaddr_storage chosen = {};
  socklen_t size = sizeof(chosen);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&chosen), &size) != 0) cannot_listen(address, errno);
  listener.address = address_text(chosen, size);
  return listener;
}

in6_addr local_address(int connection) { return address_of(connection, &getsockname); }
in6_addr peer_address(int connection) { return address_of(connection, &getpeername); }

bool is_loopback(const in6_addr& address) {
  return IN6_IS_ADDR_LOOPBACK(&address) || (IN6_IS_ADDR_V4MAPPED(&address) && address.s6_addr[12] == IN_LOOPBACKNET);
}

bool is_own_host(std::string_view host, const in6_addr& local, const std::vector<std::string>& names) {
  // No name contains a zero byte, at which a comparison of C strings would end.
  std::optional<HostAndPort> parts = host.find('\0') == std::string_view::npos ? host_and_port(host) : std::nullopt;
  if (!parts) return false;
  std::string& name = parts->host;
  if (parts->has_brackets) name = name.substr(0, name.find('%'));
  in6_addr address = {};
  if (inet_pton(AF_INET6, (parts->has_brackets ? name : "::ffff:" + name).c_str(), &address) == 1) {
    if (std::memcmp(&address, &local, sizeof(address)) == 0) return true;
  }
  if (parts->has_brackets) return false;
  if (name.ends_with('.')) name.pop_back();
  const auto is_name = [&](const std::string& known) { return is_same_word(known, name); };
  return is_name("localhost") || std::any_of(names.begin(), names.end(), is_name);
}

}  // namespace nopspan::collector
