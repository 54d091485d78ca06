// SPDX-License-Identifier: Apache-2.0
#include "recording/recording_listener.h"

#include "base/failure.h"
#include "base/text.h"
#include "base/unix_socket.h"
#include "recording/recording.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <optional>
#include <thread>
#include <utility>

namespace nopspan::collector {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kTickMilliseconds = 100;
// Recorders begin a chunk when they have 1 MiB.
constexpr std::size_t kMostChunk = 2U << 20U;
constexpr std::size_t kMostParts = 1024;  // of which a connection's reader knows whether they are repeated
// How long to wait for the thread of a connection that was closed, before the next look.
constexpr int kRoomMilliseconds = 10;
// Peers that are named on stderr.
constexpr std::size_t kMostNamed = 64;
// How long to wait for the rest of a chunk that a program has begun to send.
constexpr std::chrono::seconds kMostForRest{2};

// Removes a socket whose program has ended.
void remove_dead(const std::string& path, const sockaddr_un& address) {
  struct stat file {};
  if (lstat(path.c_str(), &file) != 0) return;
  if (!S_ISSOCK(file.st_mode)) throw Failure(path + ": exists and is not a socket", Failure::kUsageError);
  if (connect_to(address, 0) || errno == kAnotherUserListens) {
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
  Connection(RecordingListener& owner, OpenFile file, const Peer& peer, Sink& sink)
      : peer_(peer), fd_(file.get()), thread_([this, &owner, &sink, file = std::move(file)]() mutable {
          read(owner, std::move(file), sink);
          has_ended_ = true;
        }) {}
  ~Connection() { thread_.join(); }

  [[nodiscard]] bool has_ended() const { return has_ended_; }
  [[nodiscard]] const Peer& peer() const { return peer_; }
  // Since when nothing has come; time_point::max() while something is passed on.
  [[nodiscard]] Clock::time_point silent_since() const { return silent_since_; }
  [[nodiscard]] bool is_closing() const { return has_ended_ || is_stopped_; }
  [[nodiscard]] bool delivers() const { return recording_.has_value() && !is_closing(); }
  // The sender gets EPIPE. What it has sent can still be read.
  void stop_sender() {
    is_stopped_ = true;
    const std::lock_guard lock(fd_mutex_);
    if (fd_ >= 0) shutdown(fd_, SHUT_RD);
  }
  void give_up() { gives_up_ = true; }
  [[nodiscard]] Ledger ledger() const { return recording_ ? recording_->ledger() : Ledger(); }
  [[nodiscard]] bool is_foreign() const { return is_foreign_; }
  [[nodiscard]] bool is_large() const { return is_large_; }

 private:
  void read(RecordingListener& owner, OpenFile file, Sink& sink) {
    const Deadline until(0, gives_up_);
    Deadline header(owner.limits_.header_ns, gives_up_);
    header.begin();
    WithoutTicks entries(sink);
    try {
      ChunkReader reader(std::move(file), owner.path_, header);
      const std::lock_guard lock(owner.mutex_);
      recording_.emplace(std::move(reader), owner.filter_, limits_for(owner));
    } catch (const Failure&) {
      is_foreign_ = !gives_up_;
    }
    while (recording_ && recording_->next(until)) {
      silent_since_ = Clock::time_point::max();
      {
        const std::lock_guard lock(owner.mutex_);
        recording_->pass(entries);
      }
      silent_since_ = Clock::now();
    }
    const std::lock_guard lock(owner.mutex_);
    if (recording_) recording_->end(entries, until);
    const std::lock_guard closing(fd_mutex_);
    fd_ = -1;
  }

  const Peer peer_;
  RecordingLimits limits_for(RecordingListener& owner) {
    RecordingLimits limits;
    limits.processes = owner.limits_.processes;
    limits.chunk = kMostChunk;
    limits.parts = kMostParts;
    if (owner.is_stranger(peer_)) {
      limits.claimed_by = (std::uint64_t{1} << 63U) | peer_.uid;
    } else {
      limits.more_processes = [this, &owner] {  // called with the owner's mutex_
        is_large_ = owner.large_ < owner.limits_.large;
        owner.large_ += is_large_ ? 1 : 0;
        return is_large_ ? RecordingLimits().processes : 0;
      };
    }
    return limits;
  }

  std::mutex fd_mutex_;
  int fd_;
  bool is_large_ = false;
  std::atomic<bool> has_ended_ = false, gives_up_ = false, is_foreign_ = false, is_stopped_ = false;
  std::atomic<Clock::time_point> silent_since_ = Clock::now();
  std::optional<Recording> recording_;  // changed with the owner's mutex_
  std::thread thread_;                  // the last member, because it uses the others
};

RecordingListener::RecordingListener(std::string path, Filter filter, const ListenerLimits& limits)
    : path_(std::move(path)),
      filter_(std::move(filter)),
      limits_(limits),
      socket_(listen_on(path_)),
      inode_(inode_of(path_)) {}

RecordingListener::~RecordingListener() { hide_socket(); }

// The file is removed while the socket still listens, because another listener may then replace it.
void RecordingListener::hide_socket() {
  if (socket_ && !std::exchange(is_hidden_, true) && inode_of(path_) == inode_) unlink(path_.c_str());
}

bool RecordingListener::accept_one() {
  OpenFile file(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!file) return false;
  ucred peer{};
  socklen_t size = sizeof(peer);
  getsockopt(file.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size);
  newcomer_ = Newcomer{std::move(file), {peer.pid, peer.uid}};
  return true;
}

// Closes the candidate that has been silent longest. The first time for `named`, stderr says so.
void RecordingListener::close_one(std::uint64_t Writers::*reason, const std::string& why, std::optional<Peer> named,
                                  const std::function<bool(const Connection&)>& is_candidate) {
  Connection* longest = nullptr;
  for (const auto& each : connections_) {
    if (each->is_closing() || !is_candidate(*each)) continue;
    if (longest == nullptr || each->silent_since() < longest->silent_since()) longest = each.get();
  }
  if (longest == nullptr) return;
  longest->stop_sender();
  ++(closed_.*reason);
  const Peer peer = longest->peer();
  if (!named) named = peer;
  if (named_.size() >= kMostNamed || !named_.emplace(named->pid, named->uid).second) return;
  std::cerr << "nopspan: " + printable(path_) + ": closed a connection of process " + std::to_string(peer.pid) +
                   " of user " + std::to_string(peer.uid) + ": " + why + "\n";
}

// This program's user and root could do worse than to send many recordings.
bool RecordingListener::is_stranger(const Peer& peer) { return peer.uid != geteuid() && peer.uid != 0; }

// A process or a user that has too many connections loses the one that has been silent longest, so that a program that
// forgets its connections can still use the newest one.
void RecordingListener::close_greedy(const Peer& peer) {
  const auto is_of_process = [&](const Connection& one) {
    return peer.pid > 0 && one.peer().pid == peer.pid && one.peer().uid == peer.uid;
  };
  const auto is_of_user = [&](const Connection& one) { return is_stranger(peer) && one.peer().uid == peer.uid; };
  const auto has = [&](std::size_t most, const auto& is_one) {
    return std::cmp_greater_equal(std::count_if(connections_.begin(), connections_.end(),
                                                [&](const auto& each) { return !each->is_closing() && is_one(*each); }),
                                  most);
  };
  if (has(limits_.of_process, is_of_process)) {
    close_one(&Writers::greedy, "the process has more than " + std::to_string(limits_.of_process), {}, is_of_process);
  } else if (has(limits_.of_user, is_of_user)) {
    close_one(&Writers::greedy, "the user has more than " + std::to_string(limits_.of_user), Peer{0, peer.uid},
              is_of_user);
  }
}

// Returns false if the newcomer must wait.
bool RecordingListener::place_newcomer(Sink& sink) {
  if (connections_.size() < limits_.connections) {
    close_greedy(newcomer_->peer);
    const std::lock_guard lock(mutex_);
    connections_.push_back(std::make_unique<Connection>(*this, std::move(newcomer_->file), newcomer_->peer, sink));
    newcomer_.reset();
    return true;
  }
  // One at a time gives way.
  const auto is_closing = [](const auto& each) { return each->is_closing(); };
  if (std::any_of(connections_.begin(), connections_.end(), is_closing)) return false;
  const Clock::time_point latest = Clock::now() - std::chrono::nanoseconds(limits_.silent_ns);
  close_one(&Writers::silent, "it was silent, and another program needs the room", {},
            [&](const Connection& one) { return one.silent_since() <= latest; });
  return false;
}

// Call it with the lock. The thread of an ended connection does not need the lock any more.
void RecordingListener::forget_ended() {
  for (auto each = connections_.begin(); each != connections_.end();) {
    if (!(*each)->has_ended()) {
      ++each;
      continue;
    }
    ended_.add((*each)->ledger());
    closed_.foreign += (*each)->is_foreign() ? 1 : 0;
    large_ -= (*each)->is_large() ? 1 : 0;
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
  auto next_tick = Clock::now();
  while (!until.is_over()) {
    if (Clock::now() >= next_tick) {
      tick();
      next_tick += std::chrono::milliseconds(kTickMilliseconds);
    }
    if (newcomer_) {
      const std::lock_guard lock(mutex_);
      forget_ended();
    }
    // Without room, the others wait in the kernel's queue.
    const bool waits = newcomer_ && !place_newcomer(sink);
    pollfd ready{waits ? -1 : socket_.get(), POLLIN, 0};
    if (poll(&ready, 1, until.milliseconds(waits ? kRoomMilliseconds : kTickMilliseconds)) > 0) accept_one();
  }
  // Programs in the kernel's queue have counted as delivered what they have sent. They are read when others make room.
  hide_socket();
  const auto accept_waiting = [&] {
    pollfd ready{socket_.get(), POLLIN, 0};
    while (newcomer_ || (poll(&ready, 1, 0) > 0 && accept_one())) {
      if (!place_newcomer(sink)) break;
    }
    for (const auto& each : connections_) each->stop_sender();
  };
  const auto latest = Clock::now() + kMostForRest;
  for (accept_waiting(); !connections_.empty(); accept_waiting()) {
    if (Clock::now() > latest) {
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

std::optional<Writers> RecordingListener::writers() const {
  Writers now = closed_;
  for (const auto& each : connections_) now.connected += each->delivers() ? 1 : 0;
  return now;
}

std::string RecordingListener::remark() const {
  const Damage damage = ledger().damage;
  std::string text;
  const auto say = [&](std::uint64_t count, const char* one, const std::string& what) {
    if (count > 0) text += (text.empty() ? path_ + ": " : ", ") + counted(count, one) + what;
  };
  for (const WriterField& field : kClosedWriters) say(closed_.*field.count, "connection", field.what);
  say(damage.skipped_bytes, "damaged byte", " skipped");
  say(damage.repeated_parts, "part", " more than once, so entries count twice");
  say(damage.missing_ends, "recording", " not closed, so the last entries may be missing");
  return text;
}

}  // namespace nopspan::collector
