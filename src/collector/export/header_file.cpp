// SPDX-License-Identifier: Apache-2.0
#include "export/header_file.h"

#include "base/failure.h"
#include "base/open_file.h"
#include "base/output.h"
#include "base/stopping.h"
#include "base/text.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string_view>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::size_t kMostHeaderFile = 64U << 10U;

[[noreturn]] void refuse_header_file(const std::string& path, const std::string& reason) {
  throw Failure("--header-file: " + printable(path) + reason, Failure::kUsageError);
}

std::string read_private(const std::string& path) {
  const OpenFile file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  struct stat facts = {};
  if (!file || ::fstat(file.get(), &facts) != 0) refuse_header_file(path, std::string(": ") + std::strerror(errno));
  if (!is_own_or_roots(facts)) refuse_header_file(path, " belongs to another user: use a file of your own");
  // The group of a file that root has made was chosen by root, for example for a service.
  const bool is_roots = facts.st_uid == 0;
  if (others_have(facts, is_roots ? S_IWGRP | S_IRWXO : S_IRWXG | S_IRWXO)) {
    refuse_header_file(path, std::string(" can be read or changed by other users: run chmod ") +
                                 (is_roots ? "640" : "600") + " on it");
  }
  std::string text(kMostHeaderFile + 1, '\0');
  std::size_t bytes = 0;
  while (bytes < text.size()) {
    // The writer of a pipe may be slow. A signal just before poll() does not interrupt it.
    constexpr int kMilliseconds = 100;
    pollfd readable = {file.get(), POLLIN, 0};
    const bool is_ready = ::poll(&readable, 1, kMilliseconds) > 0;
    if (!is_ready && stopping) throw Failure("stopped before " + printable(path) + " was read");
    if (!is_ready) continue;
    const ssize_t got = ::read(file.get(), text.data() + bytes, text.size() - bytes);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0) refuse_header_file(path, std::string(": ") + std::strerror(errno));
    if (got == 0) break;
    bytes += static_cast<std::size_t>(got);
  }
  if (bytes > kMostHeaderFile) refuse_header_file(path, " has more than " + bytes_text(kMostHeaderFile));
  text.resize(bytes);
  return text;
}

NamesAndValues parse(const std::string& text, const std::string& path) {
  NamesAndValues headers;
  std::size_t number = 0;
  for (std::string_view rest = text; !rest.empty();) {
    ++number;
    std::string_view line = take_before(rest, '\n');
    if (line.ends_with('\r')) line.remove_suffix(1);
    line = trimmed(line);
    if (line.empty() || line.starts_with('#')) continue;
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos)
      refuse_header_file(path, ": line " + std::to_string(number) + ": write NAME: VALUE");
    headers.emplace_back(trimmed(line.substr(0, colon)), trimmed(line.substr(colon + 1)));
  }
  if (headers.empty()) refuse_header_file(path, " contains no header: write NAME: VALUE");
  return headers;
}

bool is_same_time(const timespec& a, const timespec& b) { return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec; }

bool is_same(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_size == b.st_size && is_same_time(a.st_mtim, b.st_mtim) &&
         is_same_time(a.st_ctim, b.st_ctim);
}

}  // namespace

HeaderFile::HeaderFile(std::string path) : path_(std::move(path)) {
  static_cast<void>(::stat(path_.c_str(), &seen_));
  is_regular_ = S_ISREG(seen_.st_mode);
  headers_ = parse(read_private(path_), path_);
}

bool HeaderFile::read_if_changed() {
  if (!is_regular_) return false;
  struct stat now {};
  static_cast<void>(::stat(path_.c_str(), &now));
  if (is_same(now, seen_)) return false;
  seen_ = now;
  NamesAndValues headers = parse(read_private(path_), path_);
  const bool are_others = headers != headers_;
  headers_ = std::move(headers);
  return are_others;
}

}  // namespace nopspan::collector
