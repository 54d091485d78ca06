// SPDX-License-Identifier: Apache-2.0
// The cost of `nopspan blame` and `serve` for an engine with 200 steps a second of 256 members. One iteration is ten
// seconds of the engine, after which the requests that ended are charged.
#include "blame/blame.h"

#include <nopspan/probes.h>

#include <benchmark/benchmark.h>

#include <sys/resource.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace {

using namespace nopspan::collector;

constexpr unsigned kMembers = 256, kStepsOfASecond = 200, kSteps = 10 * kStepsOfASecond;

// Each request has 400 steps, and every third step has a part of a long prompt. The cache keeps what the last requests
// left. With drafts, each member has some.
void add_steps(benchmark::State& state) {
  const bool has_drafts = state.range(0) != 0;
  Process about;
  about.host = "bench";
  about.pid = 1;
  const auto process = std::make_shared<const Process>(about);
  std::uint64_t delivered = 0, number = 0, now_ns = 1'700'000'000ULL * 1'000'000'000;
  Blame blame(
      {}, [](const Entry&) { return true; }, [&](const Blame::Request&) { ++delivered; });
  std::vector<nopspan_member> members(kMembers);
  for (unsigned i = 0; i < kMembers; ++i) members[i].request = i + 1;
  std::uint64_t next = kMembers + 1;
  for (auto _ : state) {
    for (unsigned i = 0; i < kSteps; ++i) {
      ++number;
      double ns = 2e6;
      nopspan_step facts{};
      facts.kv_used = 50'000;
      for (unsigned k = 0; k < kMembers; ++k) {
        nopspan_member& member = members[k];
        ++member.context_tokens;
        member.decode_tokens = 1;
        member.drafted_tokens = has_drafts ? 3 : 0;
        member.prefill_tokens = k == number % kMembers && number % 3 == 0 ? 512 : 0;
        facts.kv_used += member.context_tokens + member.prefill_tokens;
        ns += 5e3 + 1.0 * member.context_tokens + 2e3 * member.prefill_tokens;
      }
      facts.members = kMembers;
      facts.number = number;
      Entry step;
      step.kind = Kind::span;
      step.name = "engine.step";
      step.engine = "bench";
      step.process = &process;
      step.span_id = number << 32U;
      step.start_unix_ns = now_ns;
      step.duration_ns = static_cast<std::uint64_t>(ns);
      step.step = &facts;
      step.members = {reinterpret_cast<const char*>(members.data()), members.size() * sizeof(nopspan_member)};
      blame.on_entry(step);
      now_ns += 1'000'000'000 / kStepsOfASecond;
      // One after the other ends, and another one comes.
      for (unsigned k = 0; k < kMembers; ++k) {
        if ((number + k * 400 / kMembers) % 400 != 0) continue;
        Entry request;
        request.kind = Kind::span;
        request.name = "engine.request";
        request.process = &process;
        request.span_id = members[k].request;
        request.trace_id.bytes[0] = 1;
        request.start_unix_ns = now_ns - 2'000'000'000;
        request.duration_ns = 2'000'000'000;
        request.tenant = "acme";
        blame.on_entry(request);
        members[k] = {};
        members[k].request = next++;
      }
    }
    blame.settle(now_ns);
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  state.counters["requests"] = static_cast<double>(delivered);
  state.counters["MiB"] = static_cast<double>(usage.ru_maxrss) / 1024;
  // Of 10 s.
  state.counters["percent_of_core"] =
      benchmark::Counter(10.0 / 100, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

BENCHMARK(add_steps)->ArgName("drafts")->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond)->Iterations(90);

}  // namespace
