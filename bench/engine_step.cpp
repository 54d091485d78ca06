// SPDX-License-Identifier: Apache-2.0
// A step of an inference engine while a tracer is attached: `bench_engine_step [REQUESTS STEPS ROUNDS]`. A step is a
// span engine.step with a link to each request, and a token for each request. The program prints two times in ns, each
// the mean of a step with its share of the flushes, the minimum of the rounds. The first is that of steps in a row. The
// second is that of steps with a walk through 8 MiB of memory before each, because a forward pass replaces what the
// caches hold. It waits for a line on standard input, so that a tracer can attach before it begins.
//
// A span keeps at most 128 links. Further ones are counted and dropped.
#include "clock.h"

#include <nopspan/context.h>
#include <nopspan/engine.h>
#include <nopspan/span.h>
#include <nopspan/stream_meter.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace engine = nopspan::engine;

// A token for each request. If token() takes a time, one reading of the clock is enough for all.
template <class Meters>
auto add_tokens(Meters& meters, int) -> decltype(meters[0].token(1, std::uint64_t{})) {
  const auto now = static_cast<std::uint64_t>(bench::now_ns());
  for (auto& meter : meters) meter.token(1, now);
}
template <class Meters>
void add_tokens(Meters& meters, long) {
  for (auto& meter : meters) meter.token();
}

class Engine {
 public:
  explicit Engine(long requests) {
    for (long i = 0; i < requests; ++i) {
      nopspan::AsyncSpan request{engine::request};
      contexts_.push_back(request.context());
      meters_.emplace_back(std::move(request));
    }
  }

  void step() {
    nopspan::Span step{engine::step, [this](engine::StepFields& fields) {
                         fields.engine("bench");
                         for (const nopspan::Context& context : contexts_) fields.link(context);
                       }};
    add_tokens(meters_, 0);
    step.with<engine::StepFields>([this](engine::StepFields& fields) {
      const auto batch = static_cast<std::int64_t>(meters_.size());
      fields.batch_size(batch).prefill_tokens(0).decode_tokens(batch);
    });
  }

  void forward_pass() {
    for (std::size_t i = 0; i < memory_.size(); i += 64) ++memory_[i];
  }

 private:
  std::vector<nopspan::Context> contexts_;
  std::vector<nopspan::StreamMeter> meters_;
  std::vector<unsigned char> memory_ = std::vector<unsigned char>(8U << 20U);
};

double measure(Engine& engine, long steps, long rounds, bool with_pass) {
  double least = 1e18;
  for (long round = 0; round < rounds; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // as in bench_traces
    double sum = 0;
    for (long i = 0; i < steps; ++i) {
      if (with_pass) engine.forward_pass();
      const double began = bench::now_ns();
      engine.step();
      sum += bench::now_ns() - began;
    }
    least = std::min(least, sum / static_cast<double>(steps));
  }
  return least;
}

}  // namespace

int main(int argc, char** argv) {
  const auto argument = [&](int i, long otherwise) { return argc > i ? std::strtol(argv[i], nullptr, 10) : otherwise; };
  const long requests = argument(1, 256), steps = argument(2, 1000), rounds = argument(3, 10);
  if (requests < 1 || steps < 1 || rounds < 1) {
    std::fputs("usage: bench_engine_step [REQUESTS STEPS ROUNDS] (all at least 1)\n", stderr);
    return 2;
  }
  std::getchar();
  Engine engine{requests};
  const double in_a_row = measure(engine, steps, rounds, false);
  std::printf("%.0f %.0f\n", in_a_row, measure(engine, steps, rounds, true));
}
