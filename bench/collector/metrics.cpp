// SPDX-License-Identifier: Apache-2.0
// The cost of one received entry to `nopspan serve`, and of a scrape with 10,000 series: of the copy, during which the
// entries wait, and of each format.
#include "metric/metric_feed.h"
#include "metric/metric_otlp.h"
#include "metric/metric_registry.h"
#include "metric/metric_text.h"
#include "model/otlp_wire.h"

#include <nopspan/probes.h>

#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace {

using namespace nopspan::collector;

constexpr std::size_t kSeries = 10'000;
constexpr std::uint64_t kNow = 1'700'000'000 * kSecond;

Entry span(std::string_view name, unsigned kind, const ProcessPointer& process) {
  Entry entry;
  entry.name = name;
  entry.model = "llama-3.1-8b-instruct";
  entry.engine = "example";
  entry.flags = kind << NOPSPAN_FLAG_KIND_SHIFT;
  entry.trace_id.bytes[0] = 1;
  entry.span_id = 7;
  entry.duration_ns = 5'000'000;
  entry.process = &process;
  return entry;
}

// As a client's request to a model has them.
std::string genai_attributes() {
  std::string out;
  for (const auto& [key, value] :
       std::vector<std::pair<std::string, std::string>>{{"gen_ai.operation.name", "chat"},
                                                        {"gen_ai.provider.name", "openai"},
                                                        {"gen_ai.request.model", "gpt-5"},
                                                        {"gen_ai.response.model", "gpt-5-2026"},
                                                        {"gen_ai.response.id", "chatcmpl-0123456789"},
                                                        {"server.address", "api.example.com"}}) {
    append_text_attribute(out, kSpanAttributes, key, value);
  }
  for (const char* key :
       {"server.port", "gen_ai.request.max_tokens", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"}) {
    append_integer_attribute(out, kSpanAttributes, key, 100);
  }
  return out;
}

ProcessPointer process() {
  const auto made = std::make_shared<Process>();
  made->pid = 100;
  made->comm = "chat_server";
  return made;
}

void FeedSpan(benchmark::State& state) {
  MetricRegistry registry;
  MetricFeed feed(registry, {});
  feed.on_tick(kNow);
  const ProcessPointer of = process();
  const Entry entry = span("work", 1, of);
  for (auto _ : state) feed.on_entry(entry);
}
BENCHMARK(FeedSpan);

void FeedRequestToAModel(benchmark::State& state) {
  MetricRegistry registry;
  MetricFeed feed(registry, {});
  feed.on_tick(kNow);
  const ProcessPointer of = process();
  const std::string attributes = genai_attributes();
  Entry entry = span("llm.step", 3, of);
  entry.attributes = attributes;
  entry.has_usage = entry.counts_tokens = true;
  entry.usage = {100, 100, 0, 0};
  for (auto _ : state) feed.on_entry(entry);
}
BENCHMARK(FeedRequestToAModel);

void FeedStep(benchmark::State& state) {
  MetricRegistry registry;
  MetricFeed feed(registry, {});
  feed.on_tick(kNow);
  const ProcessPointer of = process();
  nopspan_step step{};
  step.batch_size = 64;
  step.prefill_tokens = 512;
  step.decode_tokens = 63;
  step.budget_tokens = 2048;
  Entry entry = span("engine.step", 1, of);
  entry.flags |= NOPSPAN_FLAG_STEP;
  entry.step = &step;
  for (auto _ : state) feed.on_entry(entry);
}
BENCHMARK(FeedStep);

// A fifth of the series are histograms, with an exemplar in two buckets each.
class Filled {
 public:
  Filled() {
    MetricFamily& calls = registry.family(
        {.name = "calls", .unit = "{call}", .help = "Calls.", .labels = {"service.name", "span.name", "status.code"}});
    MetricFamily& times = registry.family(
        {.name = "duration",
         .unit = "s",
         .help = "Times.",
         .type = MetricType::histogram,
         .labels = {"service.name", "span.name", "status.code"},
         .bounds = {0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92}});
    registry.advance(kNow);
    MetricWriter writer(registry);
    Exemplar exemplar;
    exemplar.trace_id.bytes[0] = 1;
    exemplar.unix_ns = kNow;
    for (std::size_t i = 0; i < kSeries; ++i) {
      const std::string name = "span.name.number." + std::to_string(i);
      const std::string_view labels[] = {"chat_server", name, "STATUS_CODE_UNSET"};
      if (i % 5 != 0) {
        writer.add(calls, static_cast<double>(i), labels);
        continue;
      }
      for (int sample = 0; sample < 20; ++sample) {
        writer.observe(times, 0.003 * (sample + 1) * (sample + 1), labels, sample % 10 == 0 ? &exemplar : nullptr);
      }
    }
  }

  MetricRegistry registry{{.most_series = kSeries}};
};

void Copy(benchmark::State& state) {
  Filled filled;
  for (auto _ : state) benchmark::DoNotOptimize(filled.registry.snapshot());
}
BENCHMARK(Copy)->Unit(benchmark::kMillisecond);

template <class Encode>
void encode(benchmark::State& state, const Encode& encode_one) {
  const MetricSnapshot snapshot = Filled().registry.snapshot();
  std::size_t bytes = 0;
  for (auto _ : state) bytes = encode_one(snapshot);
  state.counters["bytes"] = static_cast<double>(bytes);
}

void PrometheusText(benchmark::State& state) {
  encode(state, [](const MetricSnapshot& snapshot) { return prometheus_text(snapshot).size(); });
}
void OpenMetricsText(benchmark::State& state) {
  encode(state, [](const MetricSnapshot& snapshot) { return openmetrics_text(snapshot).size(); });
}
void Otlp(benchmark::State& state) {
  encode(state, [](const MetricSnapshot& snapshot) {
    std::size_t bytes = 0;
    const auto resource_of = [](const Process* /*service*/) { return std::string(); };
    for (const OtlpMetrics& part : otlp_metrics(snapshot, resource_of, "1")) bytes += part.bytes.size();
    return bytes;
  });
}
BENCHMARK(PrometheusText)->Unit(benchmark::kMillisecond);
BENCHMARK(OpenMetricsText)->Unit(benchmark::kMillisecond);
BENCHMARK(Otlp)->Unit(benchmark::kMillisecond);

}  // namespace
