// SPDX-License-Identifier: Apache-2.0
#include "state/orphans.h"

#include "base/kept_errno.h"
#include "gate/gate.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace nopspan::detail {
namespace {

constexpr std::uint64_t kDoubtNs = 1'000'000'000;             // for any name
constexpr std::uint64_t kKnownChildDoubtNs = 60'000'000'000;  // for names that were seen as a child's
constexpr std::uint64_t kUpAtLoad = 1;

// When the gate was first seen raised (CLOCK_MONOTONIC), or kUpAtLoad. 0 if it was not seen raised since it was last
// seen down. It is in the gate's page, for tracers.
std::uint64_t raised_at() noexcept { return __atomic_load_n(&nopspan_gate.raised_ns, __ATOMIC_ACQUIRE); }
void set_raised_at(std::uint64_t ns) noexcept { __atomic_store_n(&nopspan_gate.raised_ns, ns, __ATOMIC_RELEASE); }

// The id of the youngest thread when attach() raised the gate. 0 if a tracer raised it, or if the id is unknown.
std::atomic<long> youngest_then{0};

// Hashes of the names that were seen as a span's child. If a name finds no place, it stays unknown.
constexpr std::size_t kNames = 1024;
constexpr std::size_t kProbesLength = 16;
std::atomic<std::uint64_t> child_names[kNames];

bool is_child_name(const Interned& name) noexcept {
  const std::uint64_t hash = name.hash | 1U;  // 0 is a free place
  for (std::size_t i = 0; i < kProbesLength; ++i) {
    const std::uint64_t there = child_names[(hash + i) % kNames].load(std::memory_order_relaxed);
    if (there == hash) return true;
    if (there == 0) return false;
  }
  return false;
}

// The id of the thread or process that was started last in this pid namespace: the last field of /proc/loadavg. 0 if it
// cannot be read.
long youngest_thread() noexcept {
  const NoCancellation no_cancellation;
  const int file = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  char text[128];
  const ssize_t size = read(file, text, sizeof(text) - 1);
  close(file);
  text[size > 0 ? size : 0] = '\0';
  const char* last = std::strrchr(text, ' ');
  return last == nullptr ? 0 : std::strtol(last, nullptr, 10);
}

std::uint64_t raise_time(std::uint64_t now_ns) noexcept {
  unsigned long raised = raised_at();
  if (raised != 0) return raised;
  youngest_then.store(0, std::memory_order_relaxed);
  const bool first =
      __atomic_compare_exchange_n(&nopspan_gate.raised_ns, &raised, now_ns, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return first ? now_ns : raised;
}

bool is_past_doubt(std::uint64_t raised, std::uint64_t now_ns) noexcept {
  return raised == kUpAtLoad || now_ns >= raised + kKnownChildDoubtNs;
}

// True if this thread may be older than the raise. Nothing here may open a file: a server may start a thread for each
// request, and a sandbox may forbid it, as any system call. If the kernel's ids have started again with the lowest
// since the raise, a younger thread may be taken for an older one.
bool may_be_older(const ThreadState* thread) noexcept {
  const long id = thread->thread_id;
  const long youngest = youngest_then.load(std::memory_order_relaxed);
  // The main thread is older, because the gate was down when the library was loaded.
  return youngest == 0 || id <= youngest || id == process_page().pid.load(std::memory_order_relaxed);
}

// True if this thread may have run before the gate was raised, and its doubt has not ended since.
bool may_have_run_before(ThreadState* thread, std::uint64_t raised) noexcept {
  if (thread->doubt_since_ns != raised) {  // the first call on this thread since the gate was raised
    thread->doubt_since_ns = raised;
    thread->in_doubt = may_be_older(thread);
  }
  return thread->in_doubt;
}

}  // namespace

void note_gate_up_at_load() noexcept { set_raised_at(kUpAtLoad); }
void note_gate_raised() noexcept {
  const std::uint64_t now_ns = monotonic_ns();
  youngest_then.store(youngest_thread(), std::memory_order_relaxed);
  set_raised_at(now_ns);
  // This thread is older, whatever its id.
  if (ThreadState* thread = thread_state(); thread != nullptr) {
    thread->doubt_since_ns = now_ns;
    thread->in_doubt = true;
  }
}
void note_gate_up() noexcept { static_cast<void>(raise_time(monotonic_ns())); }
void note_gate_down() noexcept {
  if (raised_at() != 0) set_raised_at(0);
}

void note_new_child(const Interned& name, std::uint64_t& noted) noexcept {
  if (raised_at() == kUpAtLoad) return;  // no span is ever in doubt
  noted = name.hash;
  const std::uint64_t hash = name.hash | 1U;
  for (std::size_t i = 0; i < kProbesLength; ++i) {
    std::atomic<std::uint64_t>& slot = child_names[(hash + i) % kNames];
    std::uint64_t there = slot.load(std::memory_order_relaxed);
    if (there == 0 && slot.compare_exchange_strong(there, hash, std::memory_order_relaxed)) return;
    if (there == hash) return;
  }
}

bool is_in_doubt(ThreadState* thread, const Interned& name, std::uint64_t now_ns) noexcept {
  if (spans_are_unrecorded()) return true;  // a catalogue's span, which runs only because it feeds other probes
  const std::uint64_t raised = raise_time(now_ns);
  if (is_past_doubt(raised, now_ns) || (thread != nullptr && !may_have_run_before(thread, raised))) return false;
  if (now_ns < raised + kDoubtNs || is_child_name(name)) return true;
  if (thread != nullptr) thread->in_doubt = false;
  return false;
}

bool may_be_untraced(ThreadState* thread) noexcept {
  const std::uint64_t now_ns = monotonic_ns();
  const std::uint64_t raised = raise_time(now_ns);
  return raised != kUpAtLoad && now_ns < raised + kDoubtNs && may_have_run_before(thread, raised);
}

}  // namespace nopspan::detail
