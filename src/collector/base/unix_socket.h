// SPDX-License-Identifier: Apache-2.0
// Stream sockets with a path. It needs no library, because nopspan::recording is built with it too.
#pragma once

#include "base/open_file.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
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

// In a folder such as /tmp, which has the sticky bit, each user can make a socket of any free name.
inline bool is_in_shared_folder(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  struct stat facts = {};
  constexpr mode_t kShared = S_ISVTX | S_IWOTH;
  return ::stat(folder.c_str(), &facts) == 0 && (facts.st_mode & kShared) == kShared;
}

// The error of connect_to() if another user listens in a shared folder, and would read what is written.
inline constexpr int kAnotherUserListens = EPERM;

// Connects, with `flags` of socket(2). Empty if that fails, with errno.
inline OpenFile connect_to(const sockaddr_un& address, int flags) {
  OpenFile file(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  if (file && ::connect(file.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) return {};
  if (!file || !is_in_shared_folder(address.sun_path)) return file;
  ucred listener = {};
  socklen_t size = sizeof(listener);
  const bool is_known = ::getsockopt(file.get(), SOL_SOCKET, SO_PEERCRED, &listener, &size) == 0;
  if (is_known && (listener.uid == ::geteuid() || listener.uid == 0)) return file;
  errno = kAnotherUserListens;
  return {};
}

}  // namespace nopspan::collector
