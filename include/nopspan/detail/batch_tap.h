// SPDX-License-Identifier: Apache-2.0
// Batches for a receiver in this process, as the collector receives them in another one. The library nopspan::recording
// has such a receiver. It gets each batch that a thread flushes, and can fetch what threads hold.
//
// Limits: one receiver. A child process by fork() has none.
#ifndef NOPSPAN_DETAIL_BATCH_TAP_H
#define NOPSPAN_DETAIL_BATCH_TAP_H

#include <nopspan/detail/config.h>
#include <nopspan/probes.h>

#include <cstdint>
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE::detail {

class BatchTap {
 public:
  // Called with each batch: entries `header.first` up to and excluding `header.next`, `header.bytes` bytes. The thread
  // that flushes calls it, inside the library, maybe in a signal handler that interrupted malloc(). Returns false if
  // the receiver refuses the batch. The entries are then lost to it.
  virtual bool take(const nopspan_thread& header, const unsigned char* bytes) noexcept = 0;
  // A thread has ended, and the receiver has refused this many of its last entries, all of them before `header.next`.
  virtual void note_refused_at_end(const nopspan_thread& header, std::uint64_t entries) noexcept = 0;

 protected:
  ~BatchTap() = default;
};

// Raises the gate: from now on, threads write batches, and pass them to the tap. If no span of the program is open,
// then no span can be an orphan (state/orphans.h). Returns false if there is a tap already. The caller must not call
// this on two threads at a time.
NOPSPAN_API bool attach_batch_tap(BatchTap* tap, bool no_span_is_open) noexcept;
// Lowers the gate, and waits until no thread is in take(). Returns false if a thread did not leave it within
// `most_ns`, or if this is not the attached tap. Until a call has returned true, the tap must not be destroyed.
NOPSPAN_API bool detach_batch_tap(const BatchTap* tap, std::uint64_t most_ns) noexcept;

// Calls `each(to, header, bytes)` for each thread that writes batches, with copies of its header and of the entries
// that it holds. The thread does not take part. If it flushes again and again meanwhile, there are no entries: `first`
// is `next`. `each` may throw.
using EachBatch = void (*)(void* to, const nopspan_thread& header, const unsigned char* bytes);
NOPSPAN_API void for_each_held_batch(EachBatch each, void* to);

// How often this process was found to be a copy: the calls of reseed().
NOPSPAN_API std::uint64_t copies() noexcept;

}  // namespace NOPSPAN_NAMESPACE::detail

#endif  // NOPSPAN_DETAIL_BATCH_TAP_H
