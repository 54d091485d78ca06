// SPDX-License-Identifier: Apache-2.0
#include "recording/recording_listener.h"

#include "base/failure.h"
#include "base/text.h"
#include "base/unix_socket.h"
#include "recording/recording.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <optional>
#include <thread>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr int kTickMilliseconds = 100;
// How long to wait for the rest of a chunk that a program has begun to send.
constexpr std::chrono::seconds kMostForRest{2};

// Removes a socket whose program has ended.
void remove_dead(const std::string& path, const sockaddr_un& address) {
  struct stat file {};
  if (lstat(path.c_str(), &file) != 0) return;
  if (!S_ISSOCK(file.st_mode)) throw Failure(path + ": exists and is not a socket", Failure::kUsageError);
  if (connect_to(address, 0)) {
    throw Failure(path + ": another program listens on this socket", Failure::kUsageError);
  }
  if (errno == ECONNREFUSED) unlink(path.c_str());
}

std::pair<dev_t, ino_t> inode_of(const std::string& path) {
  struct stat file {};
  return lstat(path.c_str(), &file) == 0 ? std::pair(file.st_dev, file.st_ino) : std::pair<dev_t, ino_t>();
}

// The bits that the socket must not have.
mode_t mask_for(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  struct stat facts {};
  const bool is_shared = stat(folder.empty() ? "." : folder.c_str(), &facts) == 0 && (facts.st_mode & S_ISGID) != 0;
  return is_shared ? 0117 : 0177;
}

OpenFile listen_on(const std::string& path) {
  const std::optional<sockaddr_un> address = unix_address(path);
  if (!address) throw Failure(path_problem("unix:" + path), Failure::kUsageError);
  remove_dead(path, *address);
  OpenFile file(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const mode_t before = umask(mask_for(path));
  const bool is_bound = bind(file.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) == 0;
  const int error = errno;
  umask(before);
  if (!is_bound || listen(file.get(), SOMAXCONN) != 0) {
    throw Failure(path + ": cannot listen: " + std::strerror(is_bound ? errno : error), Failure::kUsageError);
  }
  return file;
}

// Passes the entries on. The listener makes the ticks itself, because the clock of another program may be wrong.
class WithoutTicks : public Sink {
 public:
  explicit WithoutTicks(Sink& sink) : sink_(sink) {}
  void on_entry(const Entry& entry) override { sink_.on_entry(entry); }
  void on_tick(std::uint64_t /*now_unix_ns*/) override {}

 private:
  Sink& sink_;
};

}  // namespace

class RecordingListener::Connection {
 public:
  Connection(RecordingListener& owner, OpenFile file, Sink& sink)
      : fd_(file.get()), thread_([this, &owner, &sink, file = std::move(file)]() mutable {
          read(owner, std::move(file), sink);
          has_ended_ = true;
        }) {}
  ~Connection() { thread_.join(); }

  [[nodiscard]] bool has_ended() const { return has_ended_; }
  // The sender gets EPIPE. What it has sent can still be read.
  void stop_sender() {
    const std::lock_guard lock(fd_mutex_);
    if (fd_ >= 0) shutdown(fd_, SHUT_RD);
  }
  void give_up() { gives_up_ = true; }
  [[nodiscard]] Ledger ledger() const { return recording_ ? recording_->ledger() : Ledger(); }
  [[nodiscard]] bool is_foreign() const { return is_foreign_; }

 private:
  void read(RecordingListener& owner, OpenFile file, Sink& sink) {
    const Deadline until(0, gives_up_);
    Deadline header(owner.header_ns_, gives_up_);
    header.begin();
    WithoutTicks entries(sink);
    try {
      ChunkReader reader(std::move(file), owner.path_, header);
      const std::lock_guard lock(owner.mutex_);
      recording_.emplace(std::move(reader), owner.filter_);
    } catch (const Failure&) {
      is_foreign_ = !gives_up_;
    }
    while (recording_ && recording_->next(until)) {
      const std::lock_guard lock(owner.mutex_);
      recording_->pass(entries);
    }
    const std::lock_guard lock(owner.mutex_);
    if (recording_) recording_->end(entries, until);
    const std::lock_guard closing(fd_mutex_);
    fd_ = -1;
  }

  std::mutex fd_mutex_;
  int fd_;
  std::atomic<bool> has_ended_ = false, gives_up_ = false, is_foreign_ = false;
  std::optional<Recording> recording_;  // changed with the owner's mutex_
  std::thread thread_;                  // the last member, because it uses the others
};

RecordingListener::RecordingListener(std::string path, Filter filter, std::uint64_t header_ns)
    : path_(std::move(path)),
      filter_(std::move(filter)),
      header_ns_(header_ns),
      socket_(listen_on(path_)),
      inode_(inode_of(path_)) {}

RecordingListener::~RecordingListener() { hide_socket(); }

// The file is removed while the socket still listens, because another listener may then replace it.
void RecordingListener::hide_socket() {
  if (socket_ && !std::exchange(is_hidden_, true) && inode_of(path_) == inode_) unlink(path_.c_str());
}

bool RecordingListener::accept_one(Sink& sink) {
  OpenFile file(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!file) return false;
  connections_.push_back(std::make_unique<Connection>(*this, std::move(file), sink));
  return true;
}

// Call it with the lock. The thread of an ended connection does not need the lock any more.
void RecordingListener::forget_ended() {
  for (auto each = connections_.begin(); each != connections_.end();) {
    if (!(*each)->has_ended()) {
      ++each;
      continue;
    }
    ended_.add((*each)->ledger());
    foreign_ += (*each)->is_foreign() ? 1 : 0;
    each = connections_.erase(each);
  }
}

void RecordingListener::run(Sink& sink, Deadline& until) {
  until.begin();
  const auto tick = [&] {
    const std::lock_guard lock(mutex_);
    forget_ended();
    sink.on_tick(static_cast<std::uint64_t>(
        std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count()));
  };
  auto next_tick = std::chrono::steady_clock::now();
  while (!until.is_over()) {
    if (std::chrono::steady_clock::now() >= next_tick) {
      tick();
      next_tick += std::chrono::milliseconds(kTickMilliseconds);
    }
    // Without room, programs wait in the kernel's queue.
    pollfd ready{connections_.size() < kMostConnections ? socket_.get() : -1, POLLIN, 0};
    if (poll(&ready, 1, until.milliseconds(kTickMilliseconds)) > 0) accept_one(sink);
  }
  // Programs in the kernel's queue have counted as delivered what they have sent. They are read when others make room.
  hide_socket();
  const auto accept_waiting = [&] {
    for (pollfd ready{socket_.get(), POLLIN, 0}; connections_.size() < kMostConnections && poll(&ready, 1, 0) > 0;) {
      if (!accept_one(sink)) break;
    }
    for (const auto& each : connections_) each->stop_sender();
  };
  const auto latest = std::chrono::steady_clock::now() + kMostForRest;
  for (accept_waiting(); !connections_.empty(); accept_waiting()) {
    if (std::chrono::steady_clock::now() > latest) {
      for (const auto& each : connections_) each->give_up();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    tick();
  }
  socket_.reset();
}

Ledger RecordingListener::ledger() const {
  LedgerSum sum = ended_;
  for (const auto& each : connections_) sum.add(each->ledger());
  return sum.ledger();
}

std::string RecordingListener::remark() const {
  const Damage damage = ledger().damage;
  std::string text;
  const auto say = [&](std::uint64_t count, const char* one, const std::string& what) {
    if (count > 0) text += (text.empty() ? path_ + ": " : ", ") + counted(count, one) + what;
  };
  say(foreign_, "connection", " sent no recording");
  say(damage.skipped_bytes, "damaged byte", " skipped");
  say(damage.missing_ends, "recording", " not closed, so the last entries may be missing");
  return text;
}

}  // namespace nopspan::collector
