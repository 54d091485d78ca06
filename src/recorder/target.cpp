// SPDX-License-Identifier: Apache-2.0
// The thread that writes blocks all signals, so that a pipe without a reader (SIGPIPE) and a file over its limit
// (SIGXFSZ) are errors and do not end the program.
#include "recorder/target.h"

#include "base/clocks.h"
#include "base/unix_socket.h"
#include "recorder/crc32.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdlib>
#include <cstring>

namespace nopspan::recording {
namespace {

bool take_prefix(std::string_view& text, std::string_view prefix) {
  if (text.substr(0, prefix.size()) != prefix) return false;
  text.remove_prefix(prefix.size());
  return true;
}

bool is_over(std::uint64_t deadline_ns) { return deadline_ns != 0 && collector::monotonic_now() >= deadline_ns; }

std::string failure(const std::string& path, int error) { return path + ": " + std::strerror(error); }

// PATH.INSTANCE. A name that would be too long for a file system is cut.
std::string path_of_copy(std::string path, const std::string& instance) {
  const std::size_t name = path.rfind('/') + 1;  // 0 if there is none
  const std::size_t most = NAME_MAX - 1 - instance.size();
  if (path.size() - name > most) path.resize(name + most);
  return path + "." + instance;
}

}  // namespace

std::string Target::open(std::string_view target, bool replace) {
  if (take_prefix(target, "fd:")) return take_descriptor(target);
  if (take_prefix(target, "unix:")) {
    way_ = Way::socket;
    path_ = target;
    if (!collector::unix_address(path_)) return collector::path_problem("unix:" + path_);
    if (!connect() && errno == collector::kAnotherUserListens)
      return path_ + ": another user listens there, who could read the recording";
    return "";
  }
  take_prefix(target, "file:");
  path_ = target;
  if (path_.empty()) return "the target of a recording must be PATH, file:PATH, fd:N or unix:PATH";
  struct stat facts = {};
  if (::stat(path_.c_str(), &facts) == 0 && S_ISFIFO(facts.st_mode)) {
    if (collector::is_foreign_pipe(facts)) return path_ + " belongs to another user, who could read the recording";
    way_ = Way::fifo;
    connect();
    return "";
  }
  if (path_.front() != '/') {  // the program may change its folder before it is copied
    char* const folder = ::getcwd(nullptr, 0);
    if (folder != nullptr) path_ = std::string(folder) + "/" + path_;
    std::free(folder);
  }
  return create(std::string(target), replace);
}

// Only the user may read the file, because spans may contain private data.
std::string Target::create(const std::string& path, bool replace) {
  way_ = Way::file;
  struct stat facts = {};
  if (replace && ::lstat(path.c_str(), &facts) == 0) {
    if (!S_ISREG(facts.st_mode)) return path + " is not a regular file, so it is not replaced";
    if (::unlink(path.c_str()) != 0) return failure(path, errno);
  }
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
  return take(file) ? "" : failure(path, errno);
}

// Returns false, with errno, if `fd` is not open.
bool Target::take(int fd) {
  file_.reset(fd);
  return fd >= 0 && ::fstat(fd, &opened_) == 0;
}

bool Target::is_same_file() const {
  struct stat facts = {};
  return ::fstat(file_.get(), &facts) == 0 && facts.st_dev == opened_.st_dev && facts.st_ino == opened_.st_ino;
}

void Target::close() noexcept {
  if (!is_same_file()) file_.release();
  file_.reset();
}

void Target::begin_copy(const std::string& instance) {
  if (reconnects()) return close();
  if (way_ != Way::file || path_.empty()) return;
  close();
  connected_ = 0;
  create(path_of_copy(path_, instance), false);
}

std::string Target::take_descriptor(std::string_view number) {
  int fd = -1;
  const auto parsed = std::from_chars(number.data(), number.data() + number.size(), fd);
  const std::string name = "fd:" + std::string(number);
  if (number.empty() || parsed.ptr != number.data() + number.size() || fd < 0) return name + ": not a number";
  constexpr int kLeast = 3;  // not one of the standard streams, if they are closed
  if (!take(::fcntl(fd, F_DUPFD_CLOEXEC, kLeast))) return failure(name, errno);
  const int flags = ::fcntl(file_.get(), F_GETFL);
  if ((flags & O_ACCMODE) == O_RDONLY) return name + ": not open for writing";
  if (S_ISREG(opened_.st_mode)) {
    way_ = Way::file;
    const off_t at = (flags & O_APPEND) != 0 ? opened_.st_size : ::lseek(file_.get(), 0, SEEK_CUR);
    base_ = at > 0 ? static_cast<std::uint64_t>(at) : 0;
  } else {
    way_ = S_ISSOCK(opened_.st_mode) ? Way::given_socket : S_ISFIFO(opened_.st_mode) ? Way::pipe : Way::file;
  }
  return "";
}

bool Target::connect() {
  connected_ = 0;
  // Opening a named pipe fails if nobody has opened it for reading.
  if (way_ == Way::fifo) {
    if (!take(::open(path_.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC))) return false;
    if (S_ISFIFO(opened_.st_mode) && !collector::is_foreign_pipe(opened_)) return true;
    close();  // another file has taken its place
    return false;
  }
  collector::OpenFile made = collector::connect_to(*collector::unix_address(path_), SOCK_NONBLOCK);
  return made && take(made.release());
}

// Returns false at the deadline.
bool Target::wait_until_writable(const std::atomic<std::uint64_t>& deadline_ns) const {
  constexpr int kMilliseconds = 50;  // another thread may set the deadline meanwhile
  pollfd file = {file_.get(), POLLOUT, 0};
  while (!is_over(deadline_ns.load())) {
    if (::poll(&file, 1, kMilliseconds) > 0) return true;
    if (while_waiting_) while_waiting_();
  }
  return false;
}

// Returns how many bytes were written. If these are not all, `error` is the reason; ECANCELED at the deadline.
std::size_t Target::write_some(std::string_view bytes, const std::atomic<std::uint64_t>& deadline_ns, int& error) {
  // A pipe that others share may be in blocking mode. If poll() reports room, this many bytes do not block.
  const std::size_t most = way_ == Way::pipe ? PIPE_BUF : bytes.size();
  std::size_t written = 0;
  while (written < bytes.size()) {
    if (way_ != Way::file && !wait_until_writable(deadline_ns)) {
      error = ECANCELED;
      break;
    }
    if (!is_same_file()) {
      error = EBADF;
      break;
    }
    const std::string_view part = bytes.substr(written, most);
    const ssize_t now = way_ == Way::socket || way_ == Way::given_socket
                            ? ::send(file_.get(), part.data(), part.size(), MSG_NOSIGNAL | MSG_DONTWAIT)
                            : ::write(file_.get(), part.data(), part.size());
    if (now < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (now <= 0) {
      error = now < 0 ? errno : EIO;
      break;
    }
    written += static_cast<std::size_t>(now);
  }
  return written;
}

bool Target::write(const collector::Chunk& chunk, const std::atomic<std::uint64_t>& deadline_ns) {
  if (!is_open() || chunk.payload.size() > collector::kMostPayload) return false;
  const collector::Headers headers(chunk, crc32_of);
  std::size_t written = 0;
  int error = 0;
  for (const std::string_view part : {headers.bytes(connected_ == 0), chunk.payload}) {
    if (error == 0) written += write_some(part, deadline_ns, error);
  }
  if (error == 0) {
    connected_ += written;
    bytes_ += written;
    return true;
  }
  if (way_ != Way::file) {
    if (written > 0 || error != ECANCELED) close();
    return false;
  }
  // An incomplete chunk is removed, so that readers need not search for the next one.
  const auto end = static_cast<off_t>(base_ + connected_);
  const bool is_lost = !is_same_file();
  if (is_lost || (written > 0 && (::ftruncate(file_.get(), end) != 0 || ::lseek(file_.get(), end, SEEK_SET) < 0))) {
    close();
  }
  return false;
}

}  // namespace nopspan::recording
