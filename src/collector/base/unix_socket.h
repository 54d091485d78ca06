// SPDX-License-Identifier: Apache-2.0
// Stream sockets with a path. It needs no library, because nopspan::recording is built with it too.
#pragma once

#include "base/open_file.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <optional>
#include <string>

namespace nopspan::collector {

// Nothing if the path is empty or too long for a socket. Then path_problem() says so.
inline std::optional<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  if (path.empty() || path.size() >= sizeof(address.sun_path)) return {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

inline std::string path_problem(const std::string& name) {
  return name + ": the path of a socket must have 1 to " + std::to_string(sizeof(sockaddr_un::sun_path) - 1) + " bytes";
}

// Connects, with `flags` of socket(2). Empty if that fails, with errno.
inline OpenFile connect_to(const sockaddr_un& address, int flags) {
  OpenFile file(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  if (file && ::connect(file.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) return {};
  return file;
}

}  // namespace nopspan::collector
