// SPDX-License-Identifier: Apache-2.0
// Four threads make nested spans at full speed. Their own arithmetic shows whether a tracer that attaches and detaches
// has harmed them.
#include "commands.h"

#include <nopspan/detail/gate.h>
#include <nopspan/span.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace {

struct alignas(64) Worker {
  std::atomic<std::uint64_t> rounds{0};
  std::uint64_t sum = 0;
  std::thread thread;
};

std::atomic<bool> stopping{false};

void work(Worker& worker) {
  for (std::uint64_t i = 1; !stopping.load(std::memory_order_relaxed); ++i) {
    nopspan::span("load.outer", [&] {
      nopspan::Span inner{"load.inner"};
      worker.sum += i;
    });
    worker.rounds.store(i, std::memory_order_relaxed);
  }
}

}  // namespace

int main() {
  std::vector<Worker> workers(4);
  for (Worker& worker : workers) worker.thread = std::thread(work, std::ref(worker));

  Commands commands;
  commands["gate"] = [](std::istringstream&) { return std::to_string(nopspan::detail::gate()); };
  commands["rounds"] = [&](std::istringstream&) {
    std::uint64_t rounds = 0;
    for (const Worker& worker : workers) rounds += worker.rounds.load(std::memory_order_relaxed);
    return std::to_string(rounds);
  };
  commands["stop"] = [&](std::istringstream&) -> std::string {
    stopping.store(true);
    std::string wrong = "right";
    for (Worker& worker : workers) {
      worker.thread.join();
      const std::uint64_t n = worker.rounds.load();
      // Modulo 2^64, and halved before the multiplication, because a fast machine makes more than 2^32 rounds.
      const std::uint64_t right = n % 2 == 0 ? n / 2 * (n + 1) : (n + 1) / 2 * n;
      if (worker.sum != right) {
        wrong = "wrong: " + std::to_string(n) + " rounds make " + std::to_string(worker.sum);
      }
    }
    return wrong;
  };
  return serve(commands);
}
