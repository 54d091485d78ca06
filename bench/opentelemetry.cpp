// SPDX-License-Identifier: Apache-2.0
// The cost of a span of opentelemetry-cpp's API: with the no-op provider, with nopspan, and with the SDK. Prints rows
// of a table. bench/opentelemetry.sh builds and runs it. It waits for a tracer before it measures nopspan again.
#include <nopspan/opentelemetry.h>
#include <nopspan/span.h>

#include <opentelemetry/sdk/common/global_log_handler.h>
#include <opentelemetry/sdk/trace/batch_span_processor_factory.h>
#include <opentelemetry/sdk/trace/batch_span_processor_options.h>
#include <opentelemetry/sdk/trace/exporter.h>
#include <opentelemetry/sdk/trace/simple_processor_factory.h>
#include <opentelemetry/sdk/trace/span_data.h>
#include <opentelemetry/sdk/trace/tracer_provider_factory.h>
#include <opentelemetry/trace/noop.h>
#include <opentelemetry/trace/scope.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <thread>

#include <time.h>

namespace trace = opentelemetry::trace;
namespace sdk = opentelemetry::sdk;
namespace nostd = opentelemetry::nostd;

namespace {

using Provider = nostd::shared_ptr<trace::TracerProvider>;

// Drops what it gets.
class NullExporter final : public sdk::trace::SpanExporter {
 public:
  std::unique_ptr<sdk::trace::Recordable> MakeRecordable() noexcept override {
    return std::make_unique<sdk::trace::SpanData>();
  }
  sdk::common::ExportResult Export(
      const nostd::span<std::unique_ptr<sdk::trace::Recordable>>& /*spans*/) noexcept override {
    return sdk::common::ExportResult::kSuccess;
  }
  bool ForceFlush(std::chrono::microseconds /*timeout*/) noexcept override { return true; }
  bool Shutdown(std::chrono::microseconds /*timeout*/) noexcept override { return true; }
};

Provider with(std::unique_ptr<sdk::trace::SpanProcessor> processor) {
  return std::shared_ptr<trace::TracerProvider>(sdk::trace::TracerProviderFactory::Create(std::move(processor)));
}

std::int64_t cpu_ns() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

// The CPU time of a call, the minimum of many rounds.
template <class Work>
double ns_of(const Work& work) {
  constexpr int kRounds = 40, kCalls = 20'000;
  double best = 1e9;
  for (int round = 0; round < kRounds; ++round) {
    const std::int64_t begin = cpu_ns();
    for (int i = 0; i < kCalls; ++i) work();
    best = std::min(best, static_cast<double>(cpu_ns() - begin) / kCalls);
  }
  return best;
}

void row(const char* what, const Provider& provider) {
  const auto tracer = provider->GetTracer("bench", "1.0");
  const auto span = [&] { tracer->StartSpan("a span")->End(); };
  const auto with_two = [&] { tracer->StartSpan("a span", {{"http.route", "/orders"}, {"items", 7}})->End(); };
  const double alone = ns_of(span), two = ns_of(with_two);
  auto outer = tracer->StartSpan("outer");
  const trace::Scope scope(outer);
  std::printf("| %s | %.0f | %.0f | %.0f |\n", what, alone, two, ns_of(with_two));
  std::fflush(stdout);
}

}  // namespace

int main() {
  sdk::common::internal_log::GlobalLogHandler::SetLogLevel(sdk::common::internal_log::LogLevel::None);
  std::thread([] {}).join();  // the standard library then counts owners atomically, as in every server
  const Provider none(std::shared_ptr<trace::TracerProvider>(std::make_shared<trace::NoopTracerProvider>()));
  const Provider own = nopspan::opentelemetry::wrap(Provider(nullptr));
  const Provider simple = with(sdk::trace::SimpleSpanProcessorFactory::Create(std::make_unique<NullExporter>()));
  sdk::trace::BatchSpanProcessorOptions options;
  options.max_queue_size = 1U << 20U;  // a full queue would drop spans, which costs less
  const Provider batch = with(sdk::trace::BatchSpanProcessorFactory::Create(std::make_unique<NullExporter>(), options));
  row("the API's no-op provider", none);
  row("nopspan, nobody attached", own);
  row("the SDK, simple processor", simple);
  row("the SDK, batch processor", batch);
  row("the SDK, batch processor, and nopspan, nobody attached", nopspan::opentelemetry::wrap(batch));
  std::fprintf(stderr, "waiting for a tracer\n");
  while (!nopspan::Span("attached")) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  row("nopspan, `nopspan top` attached", own);
  row("the SDK, batch processor, and nopspan, `nopspan top` attached", nopspan::opentelemetry::wrap(batch));
}
