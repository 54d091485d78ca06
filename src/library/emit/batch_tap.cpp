// SPDX-License-Identifier: Apache-2.0
// Why a fetch is safe: the copy of a thread's bytes is used only if `first`, `mark`, `sequence_id` and `buffer` are the
// same before and after it. A buffer that is given back meanwhile stays mapped, because every buffer is a
// block of a slab.
#include "base/copy_bytes.h"
#include "emit/batch.h"
#include "gate/gate.h"
#include "memory/slabs.h"
#include "state/orphans.h"
#include "thread/thread_state.h"

#include <nopspan/detail/batch_tap.h>

#include <time.h>

#include <atomic>
#include <cstddef>

namespace nopspan::detail {
namespace {

std::atomic<BatchTap*> batch_tap{nullptr};
std::atomic<std::uint64_t> tap_mark{0};  // the process mark of the process that attached it
// The lower half: uses that may not be over. The upper half: the number of forks. A child forgets the uses of its
// parent, also those of its own thread: a signal handler may have forked in the middle of one, at any instruction.
std::atomic<std::uint64_t> tap_users{0};
constexpr unsigned kForkShift = 32;

// A thread's use of the tap. detach_batch_tap() waits until it is over.
class TapUse {
 public:
  TapUse() noexcept : forks_(tap_users.fetch_add(1, std::memory_order_seq_cst) >> kForkShift) {
    tap_ = batch_tap.load(std::memory_order_seq_cst);
    if (__builtin_expect(tap_ == nullptr || tap_mark.load(std::memory_order_relaxed) == process_mark(), 1)) return;
    tap_ = nullptr;
    set_tap_gate(false);  // a child by clone(), which calls no fork handlers
  }
  ~TapUse() {
    std::uint64_t users = tap_users.load(std::memory_order_relaxed);
    while (users >> kForkShift == forks_ &&
           !tap_users.compare_exchange_weak(users, users - 1, std::memory_order_release, std::memory_order_relaxed)) {
    }
  }
  TapUse(const TapUse&) = delete;
  TapUse& operator=(const TapUse&) = delete;

  [[nodiscard]] BatchTap* get() const noexcept { return tap_; }

 private:
  const std::uint64_t forks_;
  BatchTap* tap_;
};

// Copies the header of a thread, and the entries that it holds unless it flushes them meanwhile. Returns false if the
// header is not in use by this process.
bool fetch(const nopspan_thread& live, nopspan_thread& header, unsigned char* bytes) noexcept {
  constexpr int kTries = 3;
  nopspan_thread after;
  for (int i = 0; i < kTries; ++i) {
    copy_racing(&header, &live, sizeof(header));
    if (header.magic != NOPSPAN_THREAD_MAGIC || header.mark != process_mark() || header.bytes > kBatchBytes) continue;
    const auto* const buffer = reinterpret_cast<const void*>(header.buffer);  // NOLINT(performance-no-int-to-ptr)
    if (header.next == header.first || buffer == nullptr) header.bytes = 0;
    copy_racing(bytes, buffer, header.bytes);
    copy_racing(&after, &live, sizeof(after));
    if (after.mark != header.mark || after.sequence_id != header.sequence_id || after.next < header.next) continue;
    if (after.first == header.first && after.buffer == header.buffer) return true;
    header.first = header.next;
    header.bytes = 0;
    if (i == kTries - 1) return true;
  }
  return false;
}

}  // namespace

bool attach_batch_tap(BatchTap* tap, bool no_span_is_open) noexcept {
  if (batch_tap.load(std::memory_order_relaxed) != nullptr) {
    if (tap_mark.load(std::memory_order_relaxed) == process_mark()) return false;
    forget_batch_tap();
  }
  tap_mark.store(process_mark(), std::memory_order_relaxed);
  batch_tap.store(tap, std::memory_order_seq_cst);
  if (disabled) return true;
  if (spans_are_unrecorded()) {
    if (no_span_is_open) {
      note_gate_up_at_load();
    } else {
      note_gate_raised();
    }
  }
  set_tap_gate(true);
  return true;
}

bool detach_batch_tap(const BatchTap* tap, std::uint64_t most_ns) noexcept {
  if (batch_tap.load(std::memory_order_seq_cst) != tap) return false;
  set_tap_gate(false);
  if (spans_are_unrecorded()) note_gate_down();
  batch_tap.store(nullptr, std::memory_order_seq_cst);
  const std::uint64_t end = monotonic_ns() + most_ns;
  while (static_cast<std::uint32_t>(tap_users.load(std::memory_order_seq_cst)) != 0) {
    if (monotonic_ns() > end) return false;
    const timespec pause{0, 50'000};
    nanosleep(&pause, nullptr);
  }
  return true;
}

void for_each_held_batch(EachBatch each, void* to) {
  alignas(8) unsigned char bytes[kBatchBytes];
  header_slabs.for_each_used<nopspan_thread>([&](const nopspan_thread& live, const Slabs::Claim&) {
    nopspan_thread header;
    if (fetch(live, header, bytes)) each(to, header, bytes);
  });
}

std::uint64_t copies() noexcept { return process_page().copies.load(std::memory_order_relaxed); }

void pass_to_tap(BatchBuffer& batch) noexcept {
  const TapUse tap;
  if (tap.get() == nullptr) return;
  const nopspan_thread& header = *batch.header;
  if (tap.get()->take(header, reinterpret_cast<const unsigned char*>(header.buffer))) {  // NOLINT: it is a pointer
    batch.refused = 0;
  } else {
    batch.refused += static_cast<std::uint32_t>(header.next - header.first);
  }
}

void tell_refused_at_end(const BatchBuffer& batch) noexcept {
  const TapUse tap;
  if (tap.get() != nullptr) tap.get()->note_refused_at_end(*batch.header, batch.refused);
}

void forget_batch_tap() noexcept {
  set_tap_gate(false);
  batch_tap.store(nullptr, std::memory_order_relaxed);
  const std::uint64_t forks = tap_users.load(std::memory_order_relaxed) >> kForkShift;
  tap_users.store((forks + 1) << kForkShift, std::memory_order_relaxed);
}

}  // namespace nopspan::detail
