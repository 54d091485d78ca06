// SPDX-License-Identifier: Apache-2.0
#include "base/stop_signals.h"

#include "base/clocks.h"
#include "base/stopping.h"
#include "base/terminal.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nopspan::collector {

namespace {

constexpr unsigned kSecondsToEnd = 2;
// Signals of a kind that are this close are one.
constexpr std::uint64_t kOneSignalNs = 100'000'000;

std::atomic<int> last_number = SIGINT;

// The program has the exit status of a program that does not handle the signal.
void die_of(int number) {
  Terminal::restore_modes();
  signal(number, SIG_DFL);
  raise(number);
}

// The signals of one kind that have come. Two threads may handle them at the same time.
struct Arrivals {
  std::atomic<int> count = 0;
  std::atomic<std::uint64_t> last_ns = 0;
};

}  // namespace

void on_stop_signal(int number) {
  static std::array<Arrivals, NSIG> arrivals;
  Arrivals& those = arrivals[static_cast<std::size_t>(number)];
  const std::uint64_t now_ns = monotonic_now();
  std::uint64_t last_ns = those.last_ns;
  do {
    if (last_ns != 0 && now_ns < last_ns + kOneSignalNs) return;
  } while (!those.last_ns.compare_exchange_weak(last_ns, now_ns));
  const int time = ++those.count;
  const bool was_read = is_read;
  stopping = interrupted = true;
  if (time == 1 && !was_read) return;
  if (time > 2 || (time == 2 && !ends_in_order)) {
    die_of(number);
    return;
  }
  hurried = true;
  last_number = number;
  if (!finishing) alarm(kSecondsToEnd);
}

void stop_on_signals() {
  struct sigaction action = {};
  action.sa_handler = on_stop_signal;
  // Long waits use poll(), which is never restarted. Output is written by other threads (base/output.h).
  action.sa_flags = SA_RESTART;
  for (const int number : {SIGINT, SIGTERM}) sigaction(number, &action, nullptr);
  // If nohup(1) started the program, it must outlive its terminal.
  struct sigaction inherited = {};
  if (sigaction(SIGHUP, nullptr, &inherited) != 0 || inherited.sa_handler != SIG_IGN) {
    sigaction(SIGHUP, &action, nullptr);
  }
  action.sa_handler = [](int) {
    constexpr std::string_view kText = "nopspan: killed before its result was complete, because that takes too long\n";
    static_cast<void>(write(STDERR_FILENO, kText.data(), kText.size()));
    die_of(last_number);
  };
  sigaction(SIGALRM, &action, nullptr);
}

void command_has_returned() { alarm(0); }

}  // namespace nopspan::collector
