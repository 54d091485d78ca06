// SPDX-License-Identifier: Apache-2.0
// Defines a clock_gettime() that takes precedence over libc's.
#include "fake_clock.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

namespace {

std::atomic<bool> faked{false};
std::atomic<std::uint64_t> fake_now{0};
std::atomic<std::uint64_t> fake_reads{0};
std::atomic<std::uint64_t> fake_step{0};  // by which each read advances it

}  // namespace

extern "C" int clock_gettime(clockid_t clock_id, timespec* tp) noexcept {
  if (clock_id != CLOCK_MONOTONIC || !faked.load()) {
    const auto result = static_cast<int>(syscall(SYS_clock_gettime, clock_id, tp));
    if (result == 0) tp->tv_nsec -= tp->tv_nsec % 1000;  // too coarse for the library to use the counter instead
    return result;
  }
  ++fake_reads;
  const std::uint64_t now = fake_now += fake_step;
  tp->tv_sec = static_cast<time_t>(now / 1'000'000'000);
  tp->tv_nsec = static_cast<long>(now % 1'000'000'000);
  return 0;
}

FakeClock::FakeClock() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  // At least a second ago, because the library repeats a time until a clock that is behind by less than 1 ms reaches
  // it.
  fake_now = static_cast<std::uint64_t>(now.tv_sec - 1) * 1'000'000'000U;
  fake_reads = 0;
  fake_step = 0;
  faked = true;
}
FakeClock::~FakeClock() { faked = false; }

void FakeClock::advance(std::uint64_t ns) { fake_now += ns; }
void FakeClock::go_back(std::uint64_t ns) { fake_now -= ns; }
void FakeClock::advance_at_each_read(std::uint64_t ns) { fake_step = ns; }
std::uint64_t FakeClock::reads() { return fake_reads; }
