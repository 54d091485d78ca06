// SPDX-License-Identifier: Apache-2.0
#include "base/output.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <system_error>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::chrono::milliseconds kLook{20};  // a signal handler cannot notify a condition variable
// Small blocks wait for this time, or until there are so many. A thread that wakes up for each of them takes time from
// the thread that makes them.
constexpr std::chrono::milliseconds kGather{10};
constexpr std::size_t kGathered = 256U << 10U;
constexpr std::size_t kLargestWrite = 1U << 20U;
constexpr std::size_t kWaitingCapacity = 4U << 20U;  // more would not make a recording's reader faster
constexpr int kLookMilliseconds = 50;
constexpr std::chrono::milliseconds kThreadEnds{150};  // longer than kLookMilliseconds

// How many bytes fit into a pipe that poll() reports as writable. They are written at once. If it is not empty, more
// than PIPE_BUF bytes may or may not fit, because a page of the pipe need not be full.
std::size_t room_of_pipe(int fd) {
  int unread = 0;
  const int capacity = ::fcntl(fd, F_GETPIPE_SZ);
  return capacity > 0 && ::ioctl(fd, FIONREAD, &unread) == 0 && unread == 0 ? static_cast<std::size_t>(capacity)
                                                                            : PIPE_BUF;
}

}  // namespace

void Writing::enter() { state_ = State::inside; }

void Writing::come_back() {
  const int error = errno;
  State inside = State::inside;
  while (!state_.compare_exchange_strong(inside, State::outside)) ::pause();  // until the process ends
  errno = error;
}

bool Writing::leave() {
  State inside = State::inside;
  return state_.compare_exchange_strong(inside, State::left);
}

Writing::Result Writing::write(int fd, std::string_view bytes) {
  struct stat facts = {};
  const bool is_known = ::fstat(fd, &facts) == 0;
  const bool waits = !is_known || !S_ISREG(facts.st_mode);  // poll() does not wait for a disk
  const bool can_block_in_pipe = is_known && S_ISFIFO(facts.st_mode) && (::fcntl(fd, F_GETFL) & O_NONBLOCK) == 0;
  Result result;
  bytes_ = 0;
  if (fd < 0) {  // poll() would wait for it forever
    result.error = EBADF;
    return result;
  }
  while (result.bytes < bytes.size()) {
    if (is_cancelled_) {
      result.error = ECANCELED;
      return result;
    }
    pollfd file = {fd, POLLOUT, 0};
    if (waits && ::poll(&file, 1, kLookMilliseconds) == 0) continue;
    const std::string_view piece = bytes.substr(result.bytes, can_block_in_pipe ? room_of_pipe(fd) : kLargestWrite);
    enter();
    const ssize_t written = ::write(fd, piece.data(), piece.size());
    come_back();
    if (written < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (written <= 0) {
      result.error = written < 0 ? errno : EIO;
      return result;
    }
    result.bytes += static_cast<std::size_t>(written);
    bytes_ = result.bytes;
    ++progress_;
  }
  return result;
}

int Writing::sync(int fd) {
  enter();
  const int error = ::fdatasync(fd) == 0 ? 0 : errno;
  come_back();
  return error;
}

Output::Output(std::size_t capacity_bytes, const std::atomic<bool>& stop)
    : capacity_(capacity_bytes), interrupted_(stop) {}

void Output::run(const std::shared_ptr<State>& state) {
  std::unique_lock lock(state->mutex);
  while (true) {
    if (state->queue.empty()) {
      state->has_work.wait(lock, [&] { return state->ends || !state->queue.empty(); });
      if (state->queue.empty()) break;
      state->has_work.wait_for(lock, kGather,
                               [&] { return state->ends || state->is_awaited || state->bytes >= kGathered; });
      continue;  // close() may have emptied the queue
    }
    Queued next = std::move(state->queue.front());
    state->queue.pop_front();
    state->current = next.block.get();
    state->writing.begin_block();
    lock.unlock();
    const bool is_written = next.block->write(state->writing);
    lock.lock();
    if (state->is_abandoned) break;  // close() has settled the block
    next.block->settle(is_written);
    state->current = nullptr;
    state->bytes -= next.bytes;
    state->has_changed.notify_all();
  }
  state->has_ended = true;
  state->has_changed.notify_all();
}

// The thread receives only the signals that its own write() causes, SIGPIPE and SIGXFSZ. A signal of the user must
// interrupt the main thread's poll().
bool Output::start() {
  sigset_t users, before;
  sigemptyset(&users);
  for (const int signal_number : {SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP, SIGCONT}) {
    sigaddset(&users, signal_number);
  }
  pthread_sigmask(SIG_BLOCK, &users, &before);
  try {
    thread_ = std::thread([state = state_] { run(state); });
  } catch (const std::system_error&) {  // no more threads are allowed
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread_.joinable();
}

std::size_t Output::capacity() const { return refuses_ ? capacity_ : std::min(capacity_, kWaitingCapacity); }

// Wakes the thread up for the first block, and when enough has been gathered.
void Output::note_queued(std::size_t bytes, bool was_empty) {
  const bool was_enough = state_->bytes >= kGathered;
  state_->bytes += bytes;
  if (was_empty || (!was_enough && state_->bytes >= kGathered)) state_->has_work.notify_one();
}

bool Output::extend(std::string_view text) {
  if (is_closed_) return false;
  const std::lock_guard lock(state_->mutex);
  if (state_->queue.empty() || state_->bytes + text.size() > capacity()) return false;
  Queued& last = state_->queue.back();
  if (!last.block->absorb(text)) return false;
  last.bytes += text.size();
  note_queued(text.size(), false);
  return true;
}

bool Output::post(std::unique_ptr<Block> block, std::size_t bytes) {
  if (is_closed_) return false;
  if (!thread_.joinable() && !start()) {
    block->settle(block->write(state_->writing));
    return true;
  }
  std::unique_lock lock(state_->mutex);
  const auto fits = [&] { return state_->bytes == 0 || state_->bytes + bytes <= capacity(); };
  if (refuses_ && !fits()) return false;
  while (!fits() && !interrupted_ && (until_ == nullptr || !until_->has_expired())) {
    state_->has_changed.wait_for(lock, kLook);
  }
  const bool was_empty = state_->queue.empty();
  state_->queue.push_back({std::move(block), bytes});
  note_queued(bytes, was_empty);
  return true;
}

// Returns false if blocks are left, and must not be waited for any longer.
bool Output::wait_until_written(std::unique_lock<std::mutex>& lock, std::chrono::milliseconds at_least) {
  const Clock::time_point began = Clock::now();
  if (progressed_at_ == Clock::time_point()) progressed_at_ = began;
  state_->is_awaited = true;
  state_->has_work.notify_one();
  while (!state_->queue.empty() || state_->current != nullptr) {
    const Clock::time_point now = Clock::now();
    if (const std::uint64_t progress = state_->writing.progress(); progress != seen_progress_) {
      seen_progress_ = progress;
      progressed_at_ = now;
    }
    if (interrupted_ && interrupted_at_ == Clock::time_point()) interrupted_at_ = now;
    const auto is_over = [&](Clock::time_point since) { return now >= std::max(since + kPatience, began + at_least); };
    if ((interrupted_ && is_over(interrupted_at_)) || (hurries_ && is_over(progressed_at_))) {
      state_->is_awaited = false;
      return false;
    }
    state_->has_changed.wait_for(lock, kLook);
  }
  state_->is_awaited = false;
  progressed_at_ = {};
  return true;
}

void Output::drop_queue() {
  for (Queued& dropped : state_->queue) {
    dropped.block->settle(false);
    state_->bytes -= dropped.bytes;
  }
  state_->queue.clear();
}

bool Output::flush() {
  if (is_closed_) return all_written_;
  std::unique_lock lock(state_->mutex);
  if (wait_until_written(lock, {})) return true;
  all_written_ = false;
  drop_queue();
  if (state_->current != nullptr) state_->current->note_late();
  return false;
}

bool Output::close() {
  if (std::exchange(is_closed_, true) || !thread_.joinable()) return all_written_;
  bool has_ended = false;
  {
    std::unique_lock lock(state_->mutex);
    if (!wait_until_written(lock, kLastPatience)) {
      all_written_ = false;
      drop_queue();
      if (state_->current != nullptr) {
        state_->is_abandoned = true;
        state_->current->settle(false);
        state_->writing.cancel();
      }
    }
    state_->ends = true;
    state_->has_work.notify_one();
    has_ended = state_->has_changed.wait_for(lock, kThreadEnds, [&] { return state_->has_ended; });
    if (!has_ended && !state_->writing.leave()) {
      // Not in one of Writing's calls, so it ends in a moment, unless another system call waits for a disk.
      has_ended = state_->has_changed.wait_for(lock, kThreadEnds, [&] { return state_->has_ended; });
    }
  }
  if (has_ended) {
    thread_.join();
  } else {
    leaves_threads = true;
    thread_.detach();
  }
  return all_written_;
}

void Output::rest() {
  if (is_closed_ || !thread_.joinable()) return;
  close();
  const std::lock_guard lock(state_->mutex);
  if (!state_->has_ended || state_->is_abandoned) return;
  state_->ends = state_->has_ended = false;
  is_closed_ = false;
}

}  // namespace nopspan::collector
