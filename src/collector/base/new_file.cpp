// SPDX-License-Identifier: Apache-2.0
#include "base/new_file.h"

#include "base/stopping.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr int kFlags = O_WRONLY | O_CLOEXEC;

int result_of(int status) { return status == 0 ? 0 : errno; }

int rename_to_free_name(const std::string& from, const std::string& to) {
  const int error = result_of(::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE));
  if (error != EINVAL && error != ENOSYS) return error;
  // This file system cannot rename without replacing (NFS).
  if (::link(from.c_str(), to.c_str()) != 0) return errno;
  ::unlink(from.c_str());
  return 0;
}

// Whether a symbolic link is one of the kernel, such as /dev/fd/63 of the shell's >(…). No user can make such a link.
bool is_link_of_kernel(const std::string& path) {
  const OpenFile link(::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct statfs facts = {};
  return link && ::fstatfs(link.get(), &facts) == 0 && facts.f_type == PROC_SUPER_MAGIC;
}

void refuse_if_foreign(const std::string& path, const struct stat& facts) {
  if (is_foreign_pipe(facts))
    throw Failure(path + " belongs to another user, who could read what is written: use - for stdout",
                  Failure::kUsageError);
}

// Opens a pipe, a device or a descriptor of this process. Waits for the reader of a pipe, until a signal.
OpenFile open_special(const std::string& path, bool is_link) {
  constexpr int kPauseMilliseconds = 50;
  refuse_foreign_pipe(path);  // it may never have a reader
  const int flags = O_WRONLY | O_CLOEXEC | (is_link ? O_TRUNC : O_NOFOLLOW);
  while (true) {
    OpenFile file(::open(path.c_str(), flags | O_NONBLOCK));
    const int error = errno;
    struct stat facts = {};
    if (!is_link && file && ::fstat(file.get(), &facts) == 0) refuse_if_foreign(path, facts);
    if (file && ::fcntl(file.get(), F_SETFL, 0) == 0) return file;
    if (error != ENXIO || !std::filesystem::is_fifo(path))
      throw Failure(path + ": " + errno_text(error), Failure::kUsageError);
    if (interrupted) throw Failure(path + ": stopped before it had a reader");
    ::poll(nullptr, 0, kPauseMilliseconds);
  }
}

}  // namespace

FileKind kind_of_file(const std::string& path) {
  struct stat facts = {};
  if (::lstat(path.c_str(), &facts) != 0) return FileKind::none;
  if (S_ISREG(facts.st_mode)) return FileKind::regular;
  if (S_ISDIR(facts.st_mode)) return FileKind::folder;
  return S_ISLNK(facts.st_mode) ? FileKind::link : FileKind::other;
}

void refuse_foreign_pipe(const std::string& path) {
  struct stat facts = {};
  if (::lstat(path.c_str(), &facts) == 0) refuse_if_foreign(path, facts);
}

Failure file_exists(const std::string& path) {
  return Failure(path + " exists: use another name, or --force to replace it", Failure::kUsageError);
}

OpenFile open_existing_output(const std::string& path, bool may_replace) {
  const FileKind kind = kind_of_file(path);
  if (kind == FileKind::folder) throw Failure(path + ": " + errno_text(EISDIR), Failure::kUsageError);
  if (kind == FileKind::link && !is_link_of_kernel(path)) {
    throw Failure(path + " is a symbolic link, and links are not followed: use another name, or - for stdout",
                  Failure::kUsageError);
  }
  if (kind != FileKind::none && !may_replace) throw file_exists(path);
  return kind == FileKind::link || kind == FileKind::other ? open_special(path, kind == FileKind::link) : OpenFile();
}

template <class Create>
int NewFile::name_it(Create create) {
  const std::filesystem::path path(path_);
  int error = EEXIST;
  for (int i = 0; error == EEXIST && i < 100; ++i) {
    std::uint64_t random = 0;
    if (::getrandom(&random, sizeof(random), 0) != sizeof(random)) {
      error = errno;
      break;
    }
    char end[18];
    std::snprintf(end, sizeof(end), ".%016llx", static_cast<unsigned long long>(random));
    // A name has at most 255 bytes.
    name_ = path.parent_path() / ("." + path.filename().string().substr(0, 200) + end);
    error = create(name_);
  }
  if (error != 0) name_.clear();
  return error;
}

NewFile::NewFile(std::string path, mode_t mode) : path_(std::move(path)) {
  const std::string folder = std::filesystem::path(path_).parent_path();
  file_ = OpenFile(::open(folder.empty() ? "." : folder.c_str(), O_TMPFILE | kFlags, mode));
  if (file_) return;
  error_ = errno;
  if (error_ != EOPNOTSUPP && error_ != EISDIR && error_ != EINVAL) return;
  error_ = name_it([&](const std::string& name) {
    file_ = OpenFile(::open(name.c_str(), O_CREAT | O_EXCL | O_NOFOLLOW | kFlags, mode));
    return file_ ? 0 : errno;
  });
}

NewFile::~NewFile() {
  if (!name_.empty()) ::unlink(name_.c_str());
}

int NewFile::publish(bool may_replace) {
  int error = 0;
  if (name_.empty()) {
    const std::string by_fd = "/proc/self/fd/" + std::to_string(file_.get());
    const auto link_to = [&](const std::string& name) {
      return result_of(::linkat(AT_FDCWD, by_fd.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW));
    };
    error = link_to(path_);
    if (error != EEXIST || !may_replace) return error;
    error = name_it(link_to);  // linkat() cannot replace a file, but rename() can
    if (error != 0) return error;
  }
  error = may_replace ? result_of(::rename(name_.c_str(), path_.c_str())) : rename_to_free_name(name_, path_);
  if (error == 0) name_.clear();
  return error;
}

}  // namespace nopspan::collector
