// SPDX-License-Identifier: Apache-2.0
// The cost of one received span to `nopspan top`. Every fourth span has a time to first token, and a second passes
// every 100,000 spans. Also the cost of reading the table, for several numbers of rows.
#include "top/span_table.h"

#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace {

using namespace nopspan::collector;

constexpr std::uint64_t kSecond = 1'000'000'000;

class Spans {
 public:
  explicit Spans(std::size_t rows) : process_(std::make_shared<Process>()) {
    for (std::size_t i = 0; i < rows; ++i) names_.push_back("llm.step." + std::to_string(i));
    table.advance(now_);
  }

  void add() {
    random_ ^= random_ << 13U;
    random_ ^= random_ >> 7U;
    random_ ^= random_ << 17U;
    Entry entry;
    entry.name = names_[random_ % names_.size()];
    entry.model = "llama-3.1-8b-instruct";
    entry.duration_ns = 1'000'000 + random_ % 16'000'000;
    entry.has_first_token = random_ % 4 == 0;
    entry.first_token_ns = random_ % 1'000'000;
    entry.has_usage = entry.counts_tokens = true;
    entry.usage = {100, 20, 0, 0};
    entry.process = &process_;
    table.add(entry);
    if (++added_ % 100'000 == 0) table.advance(now_ += kSecond);
  }

  SpanTable table{{Dimension::name, Dimension::model}, 10, 1000};

 private:
  ProcessPointer process_;
  std::vector<std::string> names_;
  std::uint64_t random_ = 88172645463325252U, added_ = 0, now_ = 1'700'000'000 * kSecond;
};

void AddSpan(benchmark::State& state) {
  Spans spans(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) spans.add();
}
BENCHMARK(AddSpan)->Arg(1)->Arg(20)->Arg(200)->Arg(1000)->Arg(5000);

void TableNumbersOfRows(benchmark::State& state) {
  Spans spans(static_cast<std::size_t>(state.range(0)));
  for (int i = 0; i < 2'000'000; ++i) spans.add();
  for (auto _ : state) benchmark::DoNotOptimize(spans.table.numbers());
}
BENCHMARK(TableNumbersOfRows)->Arg(20)->Arg(1000)->Unit(benchmark::kMillisecond);

}  // namespace
