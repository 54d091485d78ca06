// SPDX-License-Identifier: Apache-2.0
// Which user a client of this host is.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include <optional>
#include <string>

namespace nopspan::collector {

// The user whose process made the socket at the other end of this TCP connection, as this user namespace knows it. A
// user that it does not know has the overflow uid. Nothing if the kernel knows no such user: the socket is not in this
// network namespace, or no process has it any more.
std::optional<uid_t> peer_user(int connection);

// The same of the TCP socket that is bound to `local` and connected to `remote`, which are of the same family.
std::optional<uid_t> user_of_socket(const sockaddr_storage& local, const sockaddr_storage& remote);

// What distinguishes the client from others: its user, if it is on this host, or else its address. The second half of
// an IPv6 address does not count, because a host can have all of these.
std::string client_of(int connection);

}  // namespace nopspan::collector
