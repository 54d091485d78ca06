// SPDX-License-Identifier: Apache-2.0
// A bounded buffer between the threads of the program and the thread that writes the recording.
//
// How it works: a ring of bytes. A thread reserves room by one compare-and-swap, copies its batch there, and then
// publishes it by storing its size. The reader reads records in the order of their places, and clears the bytes of each
// record before threads may write there again. A size that is not 0 is therefore always a published one.
//
// Why it is safe: nothing waits and nothing is allocated, so a signal handler may interrupt a thread anywhere and flush
// a batch itself. The reader then waits for the interrupted thread.
#pragma once

#include <nopspan/detail/batch_tap.h>

#include <semaphore.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace nopspan::recording {

// Returns false if nobody has posted it by then (CLOCK_MONOTONIC).
bool wait_for(sem_t& semaphore, std::uint64_t until_ns) noexcept;

class BatchRing : public detail::BatchTap {
 public:
  struct Record {
    // The facts of a thread's header. `batch_bytes` may be fewer than the header says.
    static Record of(const nopspan_thread& header, std::uint64_t batch_bytes) {
      return {header.sequence_id, header.first,     header.next,
              header.discarded,   header.thread_id, static_cast<std::uint32_t>(batch_bytes)};
    }

    std::uint64_t sequence_id, first, next, discarded;
    std::uint32_t thread_id;
    std::uint32_t bytes;  // of the batch that follows; 0: a thread has ended, and its last entries were refused
  };

  // Throws std::bad_alloc. `bytes` is a power of two, at least kLeast.
  explicit BatchRing(std::size_t bytes);
  ~BatchRing();
  BatchRing(const BatchRing&) = delete;
  BatchRing& operator=(const BatchRing&) = delete;

  static constexpr std::size_t kLeast = 256U << 10U;

  bool take(const nopspan_thread& header, const unsigned char* bytes) noexcept override;
  void note_refused_at_end(const nopspan_thread& header, std::uint64_t entries) noexcept override;

  // For the reader. Calls use(record, bytes) with the next record, which is then removed. Returns false if there is
  // none.
  template <class Use>
  bool next(const Use& use) {
    const std::uint64_t at = read_.load(std::memory_order_relaxed);
    const std::uint64_t size = size_at(at).load(std::memory_order_acquire);
    if (size == 0) return false;
    Record record;
    copy_out(at + sizeof(std::uint64_t), &record, sizeof(record));
    use(record, bytes_at(at + kHead, record.bytes));
    remove(at, size);
    return true;
  }
  // The end of what threads have put into the ring, and whether the reader has reached it.
  [[nodiscard]] std::uint64_t end() const { return reserved_.load(std::memory_order_acquire); }
  [[nodiscard]] bool has_read(std::uint64_t end) const { return read_.load(std::memory_order_relaxed) >= end; }
  // Waits until a quarter of the ring is full, wake() was called, or it is so late (CLOCK_MONOTONIC).
  void wait(std::uint64_t until_ns) noexcept { wait_for(wake_up_, until_ns); }
  void wake() noexcept { sem_post(&wake_up_); }
  // Refused entries of threads that have ended, for which not even a note had room.
  [[nodiscard]] std::uint64_t refused_at_ends() const { return refused_at_ends_.load(std::memory_order_relaxed); }

 private:
  // Each record begins with its size. Records are padded to eight bytes.
  static constexpr std::size_t kHead = sizeof(std::uint64_t) + sizeof(Record);
  // Only notes may fill the last bytes.
  static constexpr std::size_t kForNotes = 32U << 10U;

  bool put(const Record& record, const unsigned char* bytes, std::size_t keep_free) noexcept;
  void copy_in(std::uint64_t at, const void* from, std::size_t bytes) noexcept;
  void copy_out(std::uint64_t at, void* to, std::size_t bytes) const noexcept;
  [[nodiscard]] std::string_view bytes_at(std::uint64_t at, std::size_t bytes);
  void remove(std::uint64_t at, std::uint64_t size) noexcept;
  [[nodiscard]] std::atomic<std::uint64_t>& size_at(std::uint64_t at) const noexcept;

  std::size_t capacity_;
  unsigned char* memory_;
  std::string joined_;  // the bytes of a record that begins at the end of the memory and continues at its start
  alignas(64) std::atomic<std::uint64_t> reserved_{0};  // bytes since the beginning; the place is the rest by capacity_
  alignas(64) std::atomic<std::uint64_t> read_{0};
  std::atomic<std::uint64_t> refused_at_ends_{0};
  sem_t wake_up_;
};

}  // namespace nopspan::recording
