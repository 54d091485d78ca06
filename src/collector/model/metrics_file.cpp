// SPDX-License-Identifier: Apache-2.0
#include "model/metrics_file.h"

#include "base/failure.h"
#include "base/new_file.h"
#include "base/text.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iostream>
#include <string_view>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::chrono::seconds kInterval(10);

// Returns 0 or an errno value.
int write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno != EINTR) return errno;
    if (written > 0) text.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

// Replaces `path` with a new file that contains `text`. Returns 0 or an errno value.
int replace(const std::string& path, const std::string& text) {
  NewFile next(path, 0644);
  if (next.error() != 0) return next.error();
  const int error = write_all(next.fd(), text);
  return error != 0 ? error : next.publish(true);
}

}  // namespace

MetricsFile::MetricsFile(std::string path, std::uint64_t buffer_bytes)
    : path_(std::move(path)), metrics_(buffer_bytes), due_(Clock::now() + kInterval) {
  if (path_.empty()) return;
  // An existing /dev/null or folder must not be replaced by a file. A symbolic link is neither replaced nor followed,
  // because another user may have made it.
  const FileKind kind = kind_of_file(path_);
  if (kind != FileKind::none && kind != FileKind::regular) {
    throw Failure("--metrics needs a regular file, which " + printable(path_) + " is not" +
                      (kind == FileKind::link ? ": it is a symbolic link, and links are not followed" : ""),
                  Failure::kUsageError);
  }
  const int error = replace(path_, metrics_.text({}, 0));
  if (error != 0) throw Failure("--metrics " + printable(path_) + ": " + std::strerror(error), Failure::kUsageError);
}

void MetricsFile::write(const Ledger& ledger) {
  if (path_.empty()) return;
  due_ = Clock::now() + kInterval;
  const int error = replace(path_, metrics_.text(ledger, failed_));
  if (error != 0 && failed_++ == 0) {
    std::cerr << "nopspan: --metrics " << printable(path_) << ": " << std::strerror(error) << "; retrying every 10 s\n";
  }
}

void MetricsFile::write_if_due(const std::function<Ledger()>& ledger) {
  if (!path_.empty() && Clock::now() >= due_) write(ledger());
}

}  // namespace nopspan::collector
