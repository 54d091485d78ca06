// SPDX-License-Identifier: Apache-2.0
// The distribution of the times that single spans take while a tracer is attached: `bench_tail bare|four SPANS ROUNDS
// THREADS`. Each trace has 16 spans. It prints three lines with p50, p99, p99.9 and maximum in ns, and the count:
//
//   span   all spans except those of the next line
//   flush  the spans at whose end the thread's buffer was flushed to the tracer
//   clock  the same loop without spans: what the clock costs, and what the machine adds (interrupts, other programs)
//
// Each time contains one reading of the clock. For a root span it is the sum of its start and its end, without the
// children. The program waits for a line on standard input, so that a tracer can attach before it begins.
#include "clock.h"
#include "sample_span.h"

#include <nopspan/probes.h>

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using bench::now_ns;

constexpr int kSpansPerTrace = 16;
constexpr std::chrono::milliseconds kPause{100};  // before each round, as in bench_traces

// The header that tracers read of this thread. `first` changes whenever the library has emptied the thread's buffer.
const nopspan_thread* own_header() {
  const auto* page = reinterpret_cast<const nopspan_gate_page*>(nopspan_gate_ptr);
  const auto* at = reinterpret_cast<const nopspan_thread*>(__atomic_load_n(&page->threads, __ATOMIC_ACQUIRE));
  const unsigned long mark = *reinterpret_cast<const unsigned long*>(page->process_mark);
  const auto own_id = static_cast<unsigned>(gettid());
  while (at != nullptr && (at->thread_id != own_id || at->mark != mark)) {
    at = reinterpret_cast<const nopspan_thread*>(__atomic_load_n(&at->next_thread, __ATOMIC_ACQUIRE));
  }
  return at;
}

// Times in ns. The memory is touched before the first round, so that no page fault is measured.
struct Times {
  std::vector<float> spans, flushes, clock;
  void reserve(std::size_t count) {
    for (std::vector<float>* times : {&spans, &flushes, &clock}) {
      times->resize(count);
      times->clear();
    }
  }
};

template <bool four>
class Thread {
 public:
  explicit Thread(Times& times) : times_(times) {}

  void run(long spans, long rounds) {
    { const nopspan::Span first = bench::start<four>("bench.first", 0); }
    header_ = own_header();
    first_ = first();
    for (long round = 0; round < rounds; ++round) {
      std::this_thread::sleep_for(kPause);
      read_clock(spans);
      for (long done = 0; done < spans; done += kSpansPerTrace) trace();
    }
  }

 private:
  [[nodiscard]] unsigned long first() const {
    return header_ != nullptr ? __atomic_load_n(&header_->first, __ATOMIC_RELAXED) : 0;
  }
  void add(double ns) {
    const unsigned long now_first = first();
    (now_first == first_ ? times_.spans : times_.flushes).push_back(static_cast<float>(ns));
    first_ = now_first;
  }
  void trace() {
    double at = now_ns();
    double of_root = at;
    {
      const nopspan::Span root = bench::start<four>("bench.request", kSpansPerTrace);
      at = now_ns();
      of_root = at - of_root;
      for (int i = 1; i < kSpansPerTrace; ++i) {
        { const nopspan::Span span = bench::start<four>("bench.step", i); }
        const double ended = now_ns();
        add(ended - at);
        at = now_ns();
      }
    }
    add(of_root + now_ns() - at);
  }
  void read_clock(long count) {
    double at = now_ns();
    for (long i = 0; i < count; ++i) {
      const double now = now_ns();
      times_.clock.push_back(static_cast<float>(now - at));
      at = now_ns();
    }
  }

  Times& times_;
  const nopspan_thread* header_ = nullptr;
  unsigned long first_ = 0;
};

void print(const char* what, std::vector<Times>& of_threads, std::vector<float> Times::*which) {
  std::vector<float> all;
  for (Times& times : of_threads) all.insert(all.end(), (times.*which).begin(), (times.*which).end());
  std::sort(all.begin(), all.end());
  const auto quantile = [&](double q) {
    return all.empty() ? 0 : all[static_cast<std::size_t>(q * static_cast<double>(all.size() - 1))];
  };
  std::printf("%s %.0f %.0f %.0f %.0f %zu\n", what, quantile(0.5), quantile(0.99), quantile(0.999), quantile(1),
              all.size());
}

}  // namespace

int main(int argc, char** argv) {
  const auto argument = [&](int i, long otherwise) { return argc > i ? std::strtol(argv[i], nullptr, 10) : otherwise; };
  const std::string_view fields = argc > 1 ? argv[1] : "";
  const long spans = argument(2, 100000), rounds = argument(3, 20), threads = argument(4, 1);
  const bool four = fields == "four";
  if ((!four && fields != "bare") || spans < 1 || rounds < 1 || threads < 1) {
    std::fputs("usage: bench_tail bare|four SPANS ROUNDS THREADS (all at least 1)\n", stderr);
    return 2;
  }
  std::vector<Times> times(static_cast<std::size_t>(threads));
  for (Times& one : times) one.reserve(static_cast<std::size_t>((spans + kSpansPerTrace) * rounds));
  std::getchar();
  std::vector<std::thread> running;
  for (Times& one : times) {
    running.emplace_back([&] {
      if (four) {
        Thread<true>(one).run(spans, rounds);
      } else {
        Thread<false>(one).run(spans, rounds);
      }
    });
  }
  for (std::thread& thread : running) thread.join();
  print("span", times, &Times::spans);
  print("flush", times, &Times::flushes);
  print("clock", times, &Times::clock);
}
