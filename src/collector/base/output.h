// SPDX-License-Identifier: Apache-2.0
// Output on a thread of its own: a slow reader or disk must not delay the thread that reads spans.
#pragma once

#include "base/stopping.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string_view>
#include <thread>

namespace nopspan::collector {

// The system calls of an output's thread. Another thread can see their progress and stop them.
class Writing {
 public:
  struct Result {
    std::size_t bytes = 0;  // that were written
    int error = 0;          // errno; ECANCELED after cancel(); 0 if all bytes were written
  };
  // Waits for a slow reader. After cancel() it returns within a moment, unless the kernel does not return from write().
  // That can happen if `fd` is not a pipe, or if another process writes to the same pipe. O_NONBLOCK would avoid this,
  // but it would also apply to the other processes that share `fd`.
  Result write(int fd, std::string_view bytes);
  // fdatasync(). Returns the errno, or 0.
  int sync(int fd);

  void cancel() { is_cancelled_ = true; }
  // The bytes that the last write() has written so far; 0 after begin_block().
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  void begin_block() { bytes_ = 0; }
  // Increases with each successful write().
  [[nodiscard]] std::uint64_t progress() const { return progress_; }
  // If the thread is in a system call, it never returns to its caller again, whose memory may then be freed. Otherwise
  // nothing happens and the result is false.
  bool leave();

 private:
  enum class State : std::uint8_t { outside, inside, left };
  void enter();
  void come_back();

  std::atomic<std::uint64_t> progress_ = 0;
  std::atomic<std::size_t> bytes_ = 0;
  std::atomic<bool> is_cancelled_ = false;
  std::atomic<State> state_ = State::outside;
};

// A bounded queue of blocks and the thread that writes them. The thread starts with the first block. If it cannot be
// made, post() writes. Only one thread may use an Output.
//
// There are two ways to treat a slow reader. For a recording as the source, post() waits until the queue has space, and
// flush() waits until everything is written. For a live source (set_live), nothing waits: post() refuses a block that
// does not fit, and flush() stops waiting when nothing was written for kPatience. After a signal both stop waiting.
class Output {
 public:
  class Block {
   public:
    virtual ~Block() = default;
    // Returns whether the block was written. Called on the output's thread.
    virtual bool write(Writing& writing) = 0;
    // Called once for each block in the queue, after write() or instead of it. Calls never overlap. The block may be
    // in write() meanwhile, if write() does not return.
    virtual void settle(bool is_written) = 0;
    // Called if flush() does not wait any longer for a block that is in write(). settle() follows later.
    virtual void note_late() {}
    // Called on a block in the queue. If it returns true, it writes the text too. Many small blocks would take a system
    // call each.
    virtual bool absorb(std::string_view /*text*/) { return false; }
  };

  // 64 MiB. At 20,000 spans per second a recording has 3 MB/s, so its reader may pause for 20 s. The memory is used
  // only while the reader or the disk is slow.
  static constexpr std::size_t kCapacity = 64U << 20U;
  static constexpr std::chrono::milliseconds kPatience{400}, kLastPatience{200};

  // `stop` is set by a signal. It must outlive this object.
  explicit Output(std::size_t capacity_bytes = kCapacity, const std::atomic<bool>& stop = interrupted);
  ~Output() { close(); }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  void set_live() { refuses_ = hurries_ = true; }
  // post() does not wait after `until` has expired. nullptr: no deadline.
  void set_deadline(const Deadline* until) { until_ = until; }
  // flush() and close() stop waiting as for a live source.
  void hurry() { hurries_ = true; }

  // Queues a block. `bytes` is its size. An empty queue accepts a block of any size. So does a full one after a signal
  // or the deadline, if the source is not live: the source ends soon. Returns false if the block was refused; it is not
  // settled then.
  bool post(std::unique_ptr<Block> block, std::size_t bytes);
  // Whether more than three quarters of the queue's space are used.
  [[nodiscard]] bool is_nearly_full() const {
    const std::lock_guard lock(state_->mutex);
    return state_->bytes > capacity() / 4 * 3;
  }
  // Adds a text to the last block in the queue. Returns false if the queue is empty or has no space, or if that block
  // does not absorb the text. The text is then not queued.
  bool extend(std::string_view text);
  // Waits until all blocks are written. If it must not wait any longer, it drops the blocks that are not being written.
  // Returns whether all blocks of the queue were handled.
  bool flush();
  // Like flush(), then drops the block that is being written too, and ends the thread. If the thread is in a system
  // call that does not return, `leaves_threads` is set. Returns false if blocks were dropped. Further calls have no
  // effect.
  bool close();
  // Like close(), but the next block starts the thread again: for what must have no other thread, such as a fork. If
  // the thread does not end, the output stays closed.
  void rest();
  // The Writing that write() of the blocks receives.
  [[nodiscard]] Writing& writing() const { return state_->writing; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Queued {
    std::unique_ptr<Block> block;
    std::size_t bytes = 0;
  };
  // Owned by the thread too, which may outlive this object.
  struct State {
    Writing writing;
    std::mutex mutex;
    std::condition_variable has_work, has_changed;
    std::deque<Queued> queue;
    Block* current = nullptr;  // is being written
    std::size_t bytes = 0;     // of the queue and of `current`
    bool is_awaited = false;   // wait_until_written() waits
    bool ends = false, is_abandoned = false, has_ended = false;
  };

  static void run(const std::shared_ptr<State>& state);
  bool start();  // returns false if no thread can be made
  [[nodiscard]] std::size_t capacity() const;
  void note_queued(std::size_t bytes, bool was_empty);
  bool wait_until_written(std::unique_lock<std::mutex>& lock, std::chrono::milliseconds at_least);
  void drop_queue();

  const std::size_t capacity_;
  const std::atomic<bool>& interrupted_;
  const std::shared_ptr<State> state_ = std::make_shared<State>();
  std::thread thread_;
  bool refuses_ = false, hurries_ = false, is_closed_ = false, all_written_ = true;
  const Deadline* until_ = nullptr;
  std::uint64_t seen_progress_ = 0;
  Clock::time_point progressed_at_, interrupted_at_;
};

}  // namespace nopspan::collector
