// SPDX-License-Identifier: Apache-2.0
// The cost of an llm.chat span with twelve attributes: disabled, with a handler, and with a raised probe. The figure
// for the probe is the library's part only. If a tracer is attached, the kernel's part is added.
#include "chat.h"
#include "minimum.h"

#include <nopspan/registry.h>

#include <benchmark/benchmark.h>

#include <cstdint>

namespace {

void attach_handler(const benchmark::State&) {
  static_cast<void>(nopspan::attach(
      "chat", "llm.chat.stop", [](const nopspan::Event& event) { benchmark::DoNotOptimize(event.duration_ns()); }));
}
void attach_reader(const benchmark::State&) {
  static_cast<void>(nopspan::attach("chat", "llm.chat.stop", [](const nopspan::Event& event) {
    benchmark::DoNotOptimize(event.attributes().size());
  }));
}
void detach_handler(const benchmark::State&) { static_cast<void>(nopspan::detach("chat")); }

// The counter that the kernel raises when a tracer attaches to the probes of spans: the first one in the gate.
std::uint16_t* spans_counter() {
  return reinterpret_cast<std::uint16_t*>(const_cast<std::uint64_t*>(nopspan_gate_ptr));
}
void raise_gate(const benchmark::State&) { __atomic_fetch_add(spans_counter(), std::uint16_t{1}, __ATOMIC_RELAXED); }
void lower_gate(const benchmark::State&) { __atomic_fetch_sub(spans_counter(), std::uint16_t{1}, __ATOMIC_RELAXED); }

void run_chats(benchmark::State& state) {
  int turns = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(turns);
    bench::chat(turns);
  }
}
void DisabledChat(benchmark::State& state) { run_chats(state); }
BENCHMARK(DisabledChat)->Apply(bench::several);
void HandledChat(benchmark::State& state) { run_chats(state); }
BENCHMARK(HandledChat)->Setup(attach_handler)->Teardown(detach_handler)->Apply(bench::several);
void HandledChatWithAttributes(benchmark::State& state) { run_chats(state); }
BENCHMARK(HandledChatWithAttributes)->Setup(attach_reader)->Teardown(detach_handler)->Apply(bench::several);
void ProbedChat(benchmark::State& state) { run_chats(state); }
BENCHMARK(ProbedChat)->Setup(raise_gate)->Teardown(lower_gate)->Apply(bench::several);

}  // namespace
