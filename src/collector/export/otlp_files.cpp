// SPDX-License-Identifier: Apache-2.0
#include "export/otlp_files.h"

#include "base/failure.h"
#include "base/file_owner.h"
#include "base/text.h"
#include "export/otlp_json.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <string_view>

namespace nopspan::collector {
namespace {

constexpr const char* kFileNames[kSignals] = {"traces.jsonl", "logs.jsonl", "metrics.jsonl"};  // in the order of Signal

[[noreturn]] void refuse(const std::string& path, const std::string& reason, int status = Failure::kUsageError) {
  throw Failure("--otlp-file: \"" + printable(path) + "\" " + reason, status);
}

[[noreturn]] void refuse_for(const std::string& path, int error) {
  refuse(path, "cannot be opened: " + errno_text(error), Failure::status_of(error));
}

// The end of the last whole line in the first `bytes` bytes of a file.
off_t end_of_lines(int fd, off_t bytes) {
  char block[4096];
  while (bytes > 0) {
    const off_t begin = std::max<off_t>(0, bytes - static_cast<off_t>(sizeof(block)));
    const ssize_t got = ::pread(fd, block, static_cast<std::size_t>(bytes - begin), begin);
    if (got <= 0) return bytes;
    const std::size_t end = std::string_view(block, static_cast<std::size_t>(got)).rfind('\n');
    if (end != std::string_view::npos) return begin + static_cast<off_t>(end) + 1;
    bytes = begin;
  }
  return 0;
}

OpenFile open_lines(int folder, const std::string& path, const char* name) {
  constexpr int kFlags = O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  OpenFile file(::openat(folder, name, kFlags, S_IRUSR | S_IWUSR));
  if (!file && errno == ELOOP) refuse(path, "is a symbolic link");
  if (!file) refuse_for(path, errno);
  struct stat facts = {};
  if (::fstat(file.get(), &facts) != 0) refuse_for(path, errno);
  if (!S_ISREG(facts.st_mode)) refuse(path, "is not a file");
  if (!is_own(facts)) refuse(path, "belongs to another user, who could read it: use a folder of your own");
  if (others_have(facts, S_IRWXG | S_IRWXO)) refuse(path, "can be read or changed by other users: run chmod 600 on it");
  if (facts.st_nlink > 1) refuse(path, "has another name too (a hard link)");
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) refuse(path, "is in use by another nopspan");
    refuse_for(path, errno);
  }
  if (::fstat(file.get(), &facts) != 0) refuse_for(path, errno);
  const off_t end = end_of_lines(file.get(), facts.st_size);
  if (end != facts.st_size && ::ftruncate(file.get(), end) != 0) refuse_for(path, errno);
  return file;
}

int write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

}  // namespace

OtlpFiles::OtlpFiles(const std::string& folder) {
  const OpenFile opened(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!opened) refuse_for(folder, errno);
  for (std::size_t i = 0; i < kSignals; ++i) {
    files_[i].file = open_lines(opened.get(), folder + "/" + kFileNames[i], kFileNames[i]);
  }
}

int OtlpFiles::append(Lines& lines, std::string_view line) {
  const int fd = lines.file.get();
  if (lines.has_rest && ::ftruncate(fd, lines.end) != 0) return errno;
  lines.has_rest = false;
  struct stat facts = {};
  if (::fstat(fd, &facts) != 0) return errno;
  const int error = write_all(fd, line);
  if (error == 0) return 0;
  lines.end = facts.st_size;
  lines.has_rest = ::ftruncate(fd, lines.end) != 0;
  return error;
}

bool OtlpFiles::append(const ExportBody& body) {
  std::optional<std::string> line = otlp_json(body.signal, body.bytes);
  if (line) *line += '\n';
  const int error = line ? append(files_[static_cast<std::size_t>(body.signal)], *line) : EBADMSG;
  if (error != 0) error_ = error;
  return error == 0;
}

}  // namespace nopspan::collector
