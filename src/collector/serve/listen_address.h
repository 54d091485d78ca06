// SPDX-License-Identifier: Apache-2.0
// The address on which metrics are served, and which values of the header Host belong to it.
#pragma once

#include "base/open_file.h"

#include <netinet/in.h>

#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

// A listening socket.
struct Listener {
  OpenFile socket;      // does not block
  std::string address;  // "127.0.0.1:9464", with the port that the kernel chose if it was 0
};

// Listens on "127.0.0.1:9464", "[::1]:9464" or "localhost:9464". Names are not looked up, because this must not need
// files or a name server. Throws Failure, with kUsageError if `address` is malformed.
Listener listen_on(const std::string& address);

// The IPv6 address of this end of a connection. An IPv4 address is mapped. The result is :: if the kernel does not say.
in6_addr local_address(int connection);
// The same of the other end.
in6_addr peer_address(int connection);

// Whether this is an address of a connection within this host.
bool is_loopback(const in6_addr& address);

// Whether a request with this header Host was meant for this server. A web page can let a name of its own point to this
// host (DNS rebinding) and read the metrics with its visitor's browser, but Host is then that name. Known are
// localhost, the address of this end of the connection, and `names`. The port does not matter.
bool is_own_host(std::string_view host, const in6_addr& local, const std::vector<std::string>& names);

}  // namespace nopspan::collector
