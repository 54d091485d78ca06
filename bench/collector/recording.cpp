// SPDX-License-Identifier: Apache-2.0
// The cost of one span to `nopspan record`, without a process that sends it: bench_recording FILE [SPANS [THREADS]]
//
// The span is that of docs/overhead.md: a name, ids and four attributes. The threads take turns with batches of 16.
#include "recording/recording.h"
#include "model/otlp_wire.h"
#include "recording/recorder.h"

#include <nopspan/probes.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

using namespace nopspan::collector;

namespace {

constexpr std::uint64_t kSecond = 1'000'000'000, kBatch = 16, kProcesses = 4;

class NoSource : public Source {
 public:
  void run(Sink& /*sink*/, Deadline& /*until*/) override {}
  [[nodiscard]] Ledger ledger() const override { return {}; }
};

class CountingSink : public Sink {
 public:
  void on_entry(const Entry& /*span*/) override { ++spans; }
  void on_tick(std::uint64_t /*now_unix_ns*/) override {}
  std::uint64_t spans = 0;
};

// The CPU time of this process in user and kernel mode.
double cpu_seconds() {
  timespec time = {};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

std::vector<ProcessPointer> make_processes() {
  std::vector<ProcessPointer> processes;
  for (std::uint32_t pid = 4711; processes.size() < kProcesses; ++pid) {
    Process process;
    process.pid = process.namespace_pid = pid;
    process.start_ticks = 1'000'000 + pid;
    process.comm = "chat_server";
    process.executable = "/opt/chat/bin/chat_server";
    process.cgroup = "/system.slice/chat.service";
    process.library = "/usr/lib/libnopspan.so.0.3";
    process.host = "host-1";
    processes.push_back(std::make_shared<const Process>(process));
  }
  return processes;
}

std::string attributes() {
  std::string run;
  append_text_attribute(run, kSpanAttributes, "gen_ai.operation.name", "chat");
  append_text_attribute(run, kSpanAttributes, "gen_ai.request.model", "small-1");
  append_integer_attribute(run, kSpanAttributes, "gen_ai.usage.input_tokens", 212);
  append_integer_attribute(run, kSpanAttributes, "gen_ai.usage.output_tokens", 384);
  return run;
}

std::uint64_t random_word(std::uint64_t& state) {
  state ^= state << 13U;
  state ^= state >> 7U;
  return state ^= state << 17U;
}

void record(Recorder& recorder, std::uint64_t count, std::uint64_t threads) {
  const auto processes = make_processes();
  const std::string own = attributes();
  std::vector<std::uint64_t> sequences(threads);
  std::uint64_t state = 88172645463325252U, now = 1'790'000'000 * kSecond;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t thread = i / kBatch % threads;
    Entry entry;
    entry.flags = NOPSPAN_FLAG_HAS_USAGE | NOPSPAN_FLAG_SAMPLED | 3U << NOPSPAN_FLAG_KIND_SHIFT;
    for (unsigned char& byte : entry.trace_id.bytes) byte = static_cast<unsigned char>(i / 5 * 37 + 1);
    entry.span_id = random_word(state);
    entry.parent_id = entry.root_id = random_word(state);
    entry.duration_ns = 1'000'000 + i % 1000;
    entry.start_unix_ns = now - entry.duration_ns;
    entry.name = "llm.chat";
    entry.model = "small-1";
    entry.attributes = own;
    entry.has_usage = entry.counts_tokens = true;
    entry.usage = {212, 384, 0, 0};
    entry.thread_id = static_cast<std::uint32_t>(5000 + thread);
    entry.sequence_id = 0x9e3779b97f4a7c15U * (thread + 1);
    entry.sequence = sequences[thread]++;
    entry.process = &processes[thread % processes.size()];
    recorder.on_entry(entry);
    now += 3333;  // 300,000 per second
    if (i % 30'000 == 0) recorder.on_tick(now);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return std::fprintf(stderr, "usage: %s FILE [SPANS [THREADS]]\n", argv[0]), 2;
  const std::uint64_t count = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 3'000'000;
  const std::uint64_t threads = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 8;
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  const double cpu = cpu_seconds();
  const NoSource source;
  RecorderOptions options;
  options.path = argv[1];
  options.force = true;
  Recorder recorder(options, source);
  record(recorder, count, threads);
  const double recorded_cpu = cpu_seconds() - cpu;
  const bool is_whole = recorder.finish();
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  const auto spans = static_cast<double>(count);
  std::printf("%.1f million spans: %.0f ns a span on one core, %.0f bytes a span, %.2f s with fdatasync%s\n",
              spans / 1e6, recorded_cpu / spans * 1e9, static_cast<double>(recorder.totals().bytes) / spans, seconds,
              is_whole ? "" : "; NOT WHOLE");
  const double before_reading = cpu_seconds();
  CountingSink sink;
  Deadline never;
  Recording recording(argv[1]);
  recording.run(sink, never);
  std::printf("read: %.0f ns a span\n", (cpu_seconds() - before_reading) / spans * 1e9);
  return is_whole && sink.spans == count ? 0 : 1;
}
