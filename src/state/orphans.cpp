// SPDX-License-Identifier: Apache-2.0
#include "state/orphans.h"

#include "base/no_cancellation.h"
#include "gate/gate.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace nopspan::detail {
namespace {

constexpr std::uint64_t kDoubtNs = 1'000'000'000;             // for any name
constexpr std::uint64_t kKnownChildDoubtNs = 60'000'000'000;  // for names that were seen as a child's
constexpr std::uint64_t kUpAtLoad = 1;
constexpr std::uint64_t kTickNs = 10'000'000;  // USER_HZ is 100 on both platforms

// When the gate was first seen raised (CLOCK_MONOTONIC), or kUpAtLoad. 0 if it was not seen raised since it was last
// seen down.
std::atomic<std::uint64_t> raised_at{0};
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

// Reads the beginning of a file of /proc as a string. False if it cannot be read.
template <std::size_t N>
bool read_proc(const char* path, char (&text)[N]) noexcept {
  const NoCancellation no_cancellation;
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  const ssize_t size = read(file, text, N - 1);
  close(file);
  text[size > 0 ? size : 0] = '\0';
  return size > 0;
}

// The id of the thread or process that was started last in this pid namespace: the last field of /proc/loadavg.
long youngest_thread() noexcept {
  char text[128];
  if (!read_proc("/proc/loadavg", text)) return 0;
  const char* last = std::strrchr(text, ' ');
  return last == nullptr ? 0 : std::strtol(last, nullptr, 10);
}

// When the calling thread was started (CLOCK_MONOTONIC), at most 10 ms too early. 0 if that is unknown.
std::uint64_t thread_started_ns(std::uint64_t now_ns) noexcept {
  char text[1024];
  if (!read_proc("/proc/thread-self/stat", text)) return 0;
  const char* at = std::strrchr(text, ')');  // the last one, because the command's name may contain any character
  for (int field = 2; at != nullptr && field < 22; ++field) at = std::strchr(at + 1, ' ');  // 22: starttime
  if (at == nullptr) return 0;
  timespec boot;
  clock_gettime(CLOCK_BOOTTIME, &boot);
  const std::uint64_t boot_ns =
      static_cast<std::uint64_t>(boot.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(boot.tv_nsec);
  const std::uint64_t started = std::strtoull(at, nullptr, 10) * kTickNs;
  const std::uint64_t age = boot_ns > started ? boot_ns - started : 0;
  return now_ns > age ? now_ns - age : 0;
}

std::uint64_t raise_time(std::uint64_t now_ns) noexcept {
  std::uint64_t raised = raised_at.load(std::memory_order_acquire);
  if (raised != 0) return raised;
  youngest_then.store(0, std::memory_order_relaxed);
  return raised_at.compare_exchange_strong(raised, now_ns, std::memory_order_relaxed) ? now_ns : raised;
}

bool started_before(std::uint64_t raised, std::uint64_t now_ns) noexcept {
  // The gate was down when the library was loaded, and the main thread existed then.
  if (syscall(SYS_gettid) == getpid()) return true;
  // The kernel reports the start in ticks of 10 ms, rounded down. A thread that began in the tick of the raise counts
  // as older, unless its id shows that it is younger. Programs typically call attach() and then start their threads.
  const std::uint64_t started = thread_started_ns(now_ns);
  if (started > raised || started + kTickNs <= raised) return started <= raised;
  const long youngest = youngest_then.load(std::memory_order_relaxed);
  return youngest == 0 || syscall(SYS_gettid) <= youngest;
}

// True if this thread ran before the gate was raised, and its doubt has not ended since.
bool began_before(ThreadState* thread, std::uint64_t raised, std::uint64_t now_ns) noexcept {
  if (raised == kUpAtLoad) return false;
  if (thread->doubt_since_ns != raised) {  // the first call on this thread since the gate was raised
    thread->doubt_since_ns = raised;
    thread->in_doubt = started_before(raised, now_ns);
  }
  return thread->in_doubt;
}

}  // namespace

void note_gate_up_at_load() noexcept { raised_at.store(kUpAtLoad, std::memory_order_relaxed); }
void note_gate_raised() noexcept {
  const std::uint64_t now_ns = monotonic_ns();
  youngest_then.store(youngest_thread(), std::memory_order_relaxed);
  raised_at.store(now_ns, std::memory_order_release);
  // This thread is older than the raise, whatever the rounded start time says.
  if (ThreadState* thread = thread_state(); thread != nullptr) {
    thread->doubt_since_ns = now_ns;
    thread->in_doubt = true;
  }
}
void note_gate_down() noexcept {
  if (raised_at.load(std::memory_order_relaxed) != 0) raised_at.store(0, std::memory_order_relaxed);
}

void note_new_child(const Interned& name, std::uint64_t& noted) noexcept {
  if (raised_at.load(std::memory_order_relaxed) == kUpAtLoad) return;  // no span is ever in doubt
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
  if (!began_before(thread, raised, now_ns)) return false;
  if (now_ns < raised + kDoubtNs) return true;
  if (now_ns < raised + kKnownChildDoubtNs && is_child_name(name)) return true;
  thread->in_doubt = false;
  return false;
}

bool is_stale_doubt(std::uint64_t now_ns) noexcept {
  if (spans_are_unrecorded()) return false;
  const std::uint64_t raised = raise_time(now_ns);
  return raised == kUpAtLoad || now_ns >= raised + kKnownChildDoubtNs;
}

bool may_be_untraced(ThreadState* thread) noexcept {
  const std::uint64_t now_ns = monotonic_ns();
  const std::uint64_t raised = raise_time(now_ns);
  return began_before(thread, raised, now_ns) && now_ns < raised + kDoubtNs;
}

}  // namespace nopspan::detail
