// SPDX-License-Identifier: Apache-2.0
// A Writer that is open: its thread receives batches and writes them into chunks, as they are.
//
// The ledger: `delivered` are the entries in chunks that were written. Entries that were refused by the ring, or that
// could not be written, are `export_dropped`. The ledger of a connection begins with what earlier connections did not
// report, so that the ledgers of all connections add up.
#pragma once

#include "recorder/account.h"
#include "recorder/batch_ring.h"
#include "recorder/target.h"
#include "recording/chunk_format.h"

#include <nopspan/recording.h>

#include <semaphore.h>
#include <signal.h>
#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

namespace nopspan::recording {

class Session {
 public:
  Session(Target target, const Options& options);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Raises the gate and starts the thread. Returns "" or why not. Throws std::bad_alloc and std::system_error. If all
  // other threads end, the thread ends the recording, calls `when_alone`, and ends too.
  std::string start(const std::shared_ptr<Session>& self, void (*when_alone)());
  // Returns whether the recording is complete.
  bool finish() noexcept;
  [[nodiscard]] Statistics statistics() const;
  // Whether this is a child of the process that started it.
  [[nodiscard]] bool is_in_child() const noexcept;
  // In a child process after fork(): closes its copy of the descriptor, so that the reader sees the end of the parent.
  void forget_in_child() noexcept { target_.close(); }

 private:
  void run();
  // Returns whether no thread of the program uses the ring any more.
  bool detach() noexcept;
  // Otherwise this object is never destroyed.
  void keep_if_in_use(const std::shared_ptr<Session>& self) noexcept;
  void work();
  void look_whether_alone();
  void look_whether_copied();
  void begin_copy(const std::vector<std::uint64_t>& threads);
  void end();
  bool receive();
  void receive_rest();
  void fetch();
  void read_batch(const BatchRing::Record& record, std::string_view bytes);
  void sample_clock();
  void tick();
  void connect();
  bool begin_recording();
  void flush();
  bool write_ledger(const Counts& counts);
  bool write(collector::ChunkKind kind, std::uint64_t entries, std::string_view payload);
  [[nodiscard]] Counts counts() const;
  void publish_statistics();

  const Options options_;
  const pid_t pid_;
  BatchRing ring_;
  Target target_;
  std::thread thread_;
  sem_t done_;
  std::atomic<bool> is_ending_{false}, is_detached_{false};
  std::shared_ptr<Session> kept_;
  Session* kept_before_ = nullptr;
  std::atomic<std::uint64_t> deadline_ns_{0};  // of the last writes; 0: none
  bool is_complete_ = false;                   // valid when `done_` was posted
  sigset_t mask_{};                            // the signals that the thread that opened the Writer blocks

  // Used by the thread.
  std::vector<collector::RecordedClock> clocks_;  // the last ones
  OwnProcess process_;
  std::uint64_t copies_;              // detail::copies() when `process_` was read
  std::uint64_t copy_looked_ns_ = 0;  // when it last looked whether it is a restored checkpoint
  std::uint64_t refused_before_ = 0;  // of the process that was copied: BatchRing::refused_at_ends()
  Account account_;
  collector::BatchChunk chunk_;
  std::uint64_t entries_ = 0;                 // in the chunk
  std::uint64_t fetched_until_ = 0;           // the end of the ring after the last one
  std::unordered_set<std::uint64_t> living_;  // threads that the last one found
  std::uint64_t flushed_ns_ = 0, ledger_ns_ = 0, fetched_ns_ = 0, connect_ns_ = 0;
  std::uint64_t connect_pause_ns_ = 0;
  std::uint64_t looked_ns_ = 0;  // when it last looked whether it is alone
  bool is_alone_ = false;        // no other thread is left
  bool has_begun_ = false;       // the recording of this connection has its first chunks
  std::uint64_t unwritten_ = 0;  // entries that were received and could not be written
  Counts reported_;              // in all connections: by their last ledgers, and in chunks after these
  Counts before_;                // `reported_` when this connection began
  std::uint64_t connections_ = 0;

  mutable std::mutex mutex_;
  Statistics statistics_;  // with mutex_
};

}  // namespace nopspan::recording
