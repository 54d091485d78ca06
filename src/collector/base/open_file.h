// SPDX-License-Identifier: Apache-2.0
// An owned file descriptor.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

namespace nopspan::collector {

// Closes its descriptor when it is destroyed. The descriptor is -1 if there is none.
class OpenFile {
 public:
  OpenFile() = default;
  explicit OpenFile(int fd) : fd_(fd) {}
  OpenFile(OpenFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  OpenFile& operator=(OpenFile&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile() { reset(); }

  [[nodiscard]] int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  void reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }
  // A second descriptor of the same file. Empty if there are too many descriptors.
  [[nodiscard]] OpenFile duplicate() const { return OpenFile(::fcntl(fd_, F_DUPFD_CLOEXEC, 0)); }
  // The descriptor is no longer owned.
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

// Who else could have placed a file, or could read it. Spans may contain private data. This header needs no library,
// because nopspan::recording is built with it too.
inline bool is_own(const struct stat& file) { return file.st_uid == ::geteuid(); }
inline bool is_own_or_roots(const struct stat& file) { return is_own(file) || file.st_uid == 0; }
// A named pipe of another user, who could read what is written to it. Devices belong to root.
inline bool is_foreign_pipe(const struct stat& file) { return S_ISFIFO(file.st_mode) && !is_own_or_roots(file); }
// Whether the mode gives other users any of these rights: bits of S_IRWXG and S_IRWXO. With an access control list, the
// bits of the group are those of the list's mask.
inline bool others_have(const struct stat& file, mode_t rights) { return (file.st_mode & rights) != 0; }

}  // namespace nopspan::collector
