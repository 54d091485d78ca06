// SPDX-License-Identifier: Apache-2.0
// Threads that make spans at full speed or with pauses, and count them in a file that remains when the program is gone.
// Their own arithmetic shows whether a tracer that attaches and detaches has harmed them.
//
//   counting FILE THREADS PAUSE_US DEPTH
//
// Each thread makes a root span with DEPTH spans inside and an event, and then pauses. The file has three 64-bit
// numbers per thread: spans begun, spans ended, events. Takes commands (commands.h): `start`, and `stop`, which answers
// with the total number of entries, or that the arithmetic is wrong.
#include "commands.h"

#include <nopspan/detail/gate.h>
#include <nopspan/execute.h>
#include <nopspan/span.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

struct Counted {
  std::atomic<std::uint64_t> begun, ended, events;
};

std::atomic<bool> stopping{false}, is_wrong{false};

void work(Counted& counted, int pause_us, int depth) {
  const auto count = [](std::atomic<std::uint64_t>& number) {
    number.store(number.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  };
  std::uint64_t rounds = 0, sum = 0;
  while (!stopping.load(std::memory_order_relaxed)) {
    ++rounds;
    {
      count(counted.begun);
      nopspan::Span root{"counting.root"};
      for (int i = 0; i < depth; ++i) {
        count(counted.begun);
        {
          nopspan::Span inner{"counting.inner"};
          sum += rounds;
        }
        count(counted.ended);
      }
      nopspan::execute("counting.event", [&](nopspan::Fields& f) { f.set("depth", depth); });
      count(counted.events);
    }
    count(counted.ended);
    if (pause_us > 0) std::this_thread::sleep_for(std::chrono::microseconds(pause_us));
  }
  if (sum != rounds * (rounds + 1) / 2 * static_cast<std::uint64_t>(depth)) is_wrong = true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  const int threads = std::atoi(argv[2]), pause_us = std::atoi(argv[3]), depth = std::atoi(argv[4]);
  const int file = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
  const std::size_t size = sizeof(Counted) * static_cast<std::size_t>(threads);
  if (file < 0 || ftruncate(file, static_cast<off_t>(size)) != 0) return 1;
  auto* counted = static_cast<Counted*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
  if (counted == MAP_FAILED) return 1;

  std::vector<std::thread> workers;
  Commands commands;
  commands["gate"] = [](std::istringstream&) { return std::to_string(nopspan::detail::gate()); };
  commands["start"] = [&](std::istringstream&) {
    for (int i = 0; i < threads; ++i) {
      workers.emplace_back([&, i] { work(counted[i], pause_us, depth); });
    }
    return "started";
  };
  const auto stop = [&] {
    stopping.store(true);
    for (std::thread& worker : workers) worker.join();
    workers.clear();
  };
  commands["stop"] = [&](std::istringstream&) {
    stop();
    std::uint64_t entries = 0;
    for (int i = 0; i < threads; ++i) entries += counted[i].ended + counted[i].events;
    return is_wrong ? "wrong" : std::to_string(entries);
  };
  const int status = serve(commands);
  stop();
  return status;
}
