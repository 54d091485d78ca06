// SPDX-License-Identifier: Apache-2.0
#include "model/metrics_file.h"

#include "base/failure.h"
#include "base/open_file.h"
#include "base/text.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
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
  const std::string next = path + ".new";
  ::unlink(next.c_str());  // left over from a killed process
  const OpenFile file(::open(next.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!file) return errno;
  int error = write_all(file.get(), text);
  if (error == 0 && ::rename(next.c_str(), path.c_str()) != 0) error = errno;
  if (error != 0) ::unlink(next.c_str());
  return error;
}

// An existing /dev/null or folder must not be replaced by a file.
bool is_replaceable(const std::string& path) {
  struct stat facts = {};
  return ::stat(path.c_str(), &facts) != 0 || S_ISREG(facts.st_mode);
}

}  // namespace

MetricsFile::MetricsFile(std::string path, std::uint64_t buffer_bytes)
    : path_(std::move(path)), metrics_(buffer_bytes), due_(Clock::now() + kInterval) {
  if (path_.empty()) return;
  if (!is_replaceable(path_)) {
    throw Failure("--metrics needs a regular file, which " + printable(path_) + " is not", Failure::kUsageError);
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
