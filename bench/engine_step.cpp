// SPDX-License-Identifier: Apache-2.0
// A step of an inference engine: `bench_engine_step [REQUESTS STEPS ROUNDS [FORM]]`. A step is a span engine.step with
// each request, and a token for each request. FORM says how the step names its requests:
//
//   links    a link to each (the default, which versions before 0.2 have too)
//   members  an array of members, of which one has a prompt
//   none     the loop without nopspan
//
// The program prints three times in ns, each the mean of a step with its share of the flushes, the minimum of the
// rounds. The first is that of steps in a row. The second is that of steps with a walk through 8 MiB of memory before
// each, because a forward pass replaces what the caches hold. The third is the second with the walk. The program waits
// for a line on standard input, so that a tracer can attach before it begins.
#include "clock.h"

#include <nopspan/context.h>
#include <nopspan/engine.h>
#include <nopspan/span.h>

#if __has_include(<nopspan/propagation.h>)  // 0.1.0 has no members
#define BENCH_HAVE_MEMBERS 1
#endif

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>
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
      generated_.push_back(0);
#ifdef BENCH_HAVE_MEMBERS
      members_.push_back(engine::Member::of(request, static_cast<std::uint64_t>(i)));
      members_.back().decode_tokens = 1;
      if (i == 0) members_.back().prefill_tokens = 512;
#endif
      meters_.emplace_back(std::move(request));
    }
  }

  void step(std::string_view form) {
    if (form == "none") {
      for (long& count : generated_) ++count;
    } else if (form == "members") {
      step_with_members();
    } else {
      step_with_links();
    }
  }

  void forward_pass() {
    for (std::size_t i = 0; i < memory_.size(); i += 64) ++memory_[i];
  }

 private:
  void step_with_links() {
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

  void step_with_members() {
#ifdef BENCH_HAVE_MEMBERS
    nopspan::Span step{engine::step, [](engine::StepFields& fields) { fields.engine("bench"); }};
    add_tokens(meters_, 0);
    step.with<engine::StepFields>([this](engine::StepFields& fields) {
      for (engine::Member& member : members_) ++member.context_tokens;
      fields.number(++number_).members(members_.data(), members_.size());
    });
#endif
  }

  std::vector<nopspan::Context> contexts_;
  std::vector<long> generated_;
#ifdef BENCH_HAVE_MEMBERS
  std::vector<engine::Member> members_;
  std::uint64_t number_ = 0;
#endif
  std::vector<nopspan::StreamMeter> meters_;
  std::vector<unsigned char> memory_ = std::vector<unsigned char>(8U << 20U);
};

struct Times {
  double step, loop;
};

Times measure(Engine& engine, std::string_view form, long steps, long rounds, bool with_pass) {
  Times least{1e18, 1e18};
  for (long round = 0; round < rounds; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // as in bench_traces
    double sum = 0;
    const double all_began = bench::now_ns();
    for (long i = 0; i < steps; ++i) {
      if (with_pass) engine.forward_pass();
      const double began = bench::now_ns();
      engine.step(form);
      sum += bench::now_ns() - began;
    }
    least.loop = std::min(least.loop, (bench::now_ns() - all_began) / static_cast<double>(steps));
    least.step = std::min(least.step, sum / static_cast<double>(steps));
  }
  return least;
}

}  // namespace

int main(int argc, char** argv) {
  const auto argument = [&](int i, long otherwise) { return argc > i ? std::strtol(argv[i], nullptr, 10) : otherwise; };
  const long requests = argument(1, 256), steps = argument(2, 1000), rounds = argument(3, 10);
  const std::string_view form = argc > 4 ? argv[4] : "links";
  if (requests < 1 || steps < 1 || rounds < 1 || (form != "links" && form != "members" && form != "none")) {
    std::fputs("usage: bench_engine_step [REQUESTS STEPS ROUNDS [links|members|none]] (all numbers at least 1)\n",
               stderr);
    return 2;
  }
  std::getchar();
  Engine engine{requests};
  const Times in_a_row = measure(engine, form, steps, rounds, false);
  const Times with_pass = measure(engine, form, steps, rounds, true);
  std::printf("%.0f %.0f %.0f\n", in_a_row.step, with_pass.step, with_pass.loop);
}
