// SPDX-License-Identifier: Apache-2.0
// Random bytes. A process calls getrandom(2) once, for the key of a ChaCha20 generator, and each thread has generators
// that are seeded from that one. So neither a new thread nor a new request needs a system call, which a sandbox may
// forbid.
//
// Why ids differ in a child process: the process's key is in the page that the kernel clears there (MADV_WIPEONFORK),
// so a child makes a key of its own, and new generators for its threads.
//
// Why ids differ in copies of the process's memory (a snapshot of a virtual machine, a checkpoint of CRIU): all copies
// have the same keys, and the library cannot detect that it is in a copy.
// - The time is part of each number that a thread makes: of a span id (state/identity.h) and of its next key.
// - If a thread's last id is older than kRenewEveryNs, its generators get new bytes. The processor's own random number
//   is part of these, so they differ even in copies whose clocks agree.
// So two copies make the same id only if a thread made its last one less than kRenewEveryNs before the copy, and then
// reads the same nanosecond in both. On processors without random numbers, this is so after a longer time too.
// - A program that knows of its copies calls reseed(), which renews all threads.
#include "base/chacha.h"
#include "base/hardware_random.h"
#include "base/kept_errno.h"
#include "thread/thread_state.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace nopspan::detail {
namespace {

std::uint64_t splitmix(std::uint64_t& state) {
  std::uint64_t z = (state += 0x9e3779b97f4a7c15U);
  z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31U);
}

// Fills `out` from getrandom(2). If that fails, mixes clocks and an address instead.
void system_random(void* out, std::size_t size) noexcept {
  auto* at = static_cast<unsigned char*>(out);
  const KeptErrno kept_errno;
  const NoCancellation no_cancellation;  // getrandom() is a cancellation point
  while (size > 0) {
    const ssize_t got = getrandom(at, size, 0);
    if (got > 0) {
      at += got;
      size -= static_cast<std::size_t>(got);
    } else if (errno != EINTR) {
      break;
    }
  }
  if (size > 0) {  // a seccomp filter may refuse getrandom(), but ids must still differ
    std::uint64_t state = monotonic_ns() ^ reinterpret_cast<std::uintptr_t>(&state) ^ (system_ns() << 20U);
    for (std::size_t i = 0; i < size; ++i) at[i] = static_cast<unsigned char>(splitmix(state));
  }
}

// Copies the process's key, and makes it first if there is none. If several threads make it at once, each word is that
// of one of them.
void copy_key(ProcessPage& page, std::uint64_t (&key)[4]) noexcept {
  const auto load = [&] {
    bool has_all = true;
    for (unsigned i = 0; i < 4; ++i) {
      key[i] = page.key[i].load(std::memory_order_relaxed);
      has_all = has_all && key[i] != 0;
    }
    return has_all;
  };
  while (!load()) {
    std::uint64_t made[4];
    system_random(made, sizeof(made));
    for (unsigned i = 0; i < 4; ++i) {
      std::uint64_t none = 0;
      page.key[i].compare_exchange_strong(none, made[i], std::memory_order_relaxed);
    }
  }
}

// The counter of the first block: the time in the upper bits, so that it is never the same again.
std::uint64_t counter_of_now() noexcept {
  constexpr unsigned kBlockBits = 4;
  return system_ns() << kBlockBits;
}

}  // namespace

void process_random(void* out, std::size_t size) noexcept {
  ProcessPage& page = process_page();
  std::uint64_t key[4];
  copy_key(page, key);
  // Without a number of the processor, `uses` makes the difference between threads.
  const std::uint64_t nonce = page.uses.fetch_add(1, std::memory_order_relaxed) ^ hardware_random();
  std::uint64_t counter = counter_of_now();
  unsigned char made[kChachaBytes];
  auto* at = static_cast<unsigned char*>(out);
  for (std::size_t left = size; left > 0; counter += kChachaBlocks) {
    const std::size_t now = std::min(left, sizeof(made));
    chacha_blocks(key, counter, nonce, made);
    std::memcpy(at, made, now);
    at += now;
    left -= now;
  }
}

void renew_random(ThreadState* thread, std::uint64_t now_ns) noexcept {
  // An exchange, so that what note_copy() has written before it asked for this is seen below.
  thread->renewed_ns.exchange(now_ns, std::memory_order_acq_rel);
  auto& random = thread->random;
  struct {
    std::uint64_t state[4], key[4];
  } fresh;
  process_random(&fresh, sizeof(fresh));
  for (unsigned i = 0; i < 4; ++i) {
    random.state[i] ^= fresh.state[i];
    random.key[i] ^= fresh.key[i];
  }
  const std::uint64_t copies = process_page().copies.load(std::memory_order_relaxed);
  if (std::exchange(thread->copies, copies) == copies) return;
  thread->sequence_since_ns = kNoSequence;
  if (thread->batch.announced == Announced::yes) thread->batch.announced = Announced::before_copy;
}

void note_copy() noexcept {
  ProcessPage& page = process_page();
  std::uint64_t key[4];
  system_random(key, sizeof(key));
  for (unsigned i = 0; i < 4; ++i) page.key[i].store(key[i] | 1U, std::memory_order_relaxed);  // 0: not made yet
  page.copies.fetch_add(1, std::memory_order_relaxed);
  for_each_thread([](ThreadState& thread) { thread.renewed_ns.store(0, std::memory_order_release); });
}

void refill_entropy(ThreadState* thread) noexcept {
  auto& random = thread->random;
  static_assert(sizeof(random.entropy) % kChachaBytes == 0 &&
                sizeof(random.entropy) / kChachaBytes * kChachaBlocks <= 16);
  constexpr std::size_t kLeft = sizeof(random.entropy) - sizeof(random.key);
  std::uint64_t counter = counter_of_now();
  for (std::size_t at = 0; at < sizeof(random.entropy); at += kChachaBytes, counter += kChachaBlocks) {
    chacha_blocks(random.key, counter, 0, random.entropy + at);
  }
  std::memcpy(random.key, random.entropy + kLeft, sizeof(random.key));
  std::memset(random.entropy + kLeft, 0, sizeof(random.key));
  thread->entropy_left = kLeft;
}

}  // namespace nopspan::detail
