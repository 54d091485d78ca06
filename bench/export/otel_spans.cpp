// SPDX-License-Identifier: Apache-2.0
// The same spans as those of spans.cpp, exported by opentelemetry-cpp: `otel_spans bare|chat SPANS RATE` sends them to
// $OTEL_EXPORTER_OTLP_TRACES_ENDPOINT in batches of at most $OTEL_BATCH. Prints the CPU time per span in ns until the
// last span was acknowledged. bench/export.sh compiles it.
#include "paced.h"

#include <opentelemetry/exporters/otlp/otlp_http_exporter_factory.h>
#include <opentelemetry/exporters/otlp/otlp_http_exporter_options.h>
#include <opentelemetry/sdk/resource/resource.h>
#include <opentelemetry/sdk/trace/batch_span_processor_factory.h>
#include <opentelemetry/sdk/trace/batch_span_processor_options.h>
#include <opentelemetry/sdk/trace/tracer_provider.h>
#include <opentelemetry/trace/scope.h>
#include <opentelemetry/trace/tracer.h>

#include <chrono>
#include <cstdint>
#include <utility>

namespace api = opentelemetry::trace;
namespace sdk = opentelemetry::sdk;
namespace otlp = opentelemetry::exporter::otlp;

namespace {

// The attributes of bench::chat() as `nopspan export` sends them.
void chat(api::Tracer& tracer, int turns) {
  api::StartSpanOptions options;
  options.kind = api::SpanKind::kClient;
  const auto span = tracer.StartSpan("chat llama-3",
                                     {{"gen_ai.operation.name", "chat"},
                                      {"gen_ai.provider.name", "llama.cpp"},
                                      {"gen_ai.request.model", "llama-3"},
                                      {"gen_ai.request.temperature", 0.7},
                                      {"gen_ai.request.top_p", 0.9},
                                      {"gen_ai.request.max_tokens", std::int64_t{256}},
                                      {"gen_ai.request.seed", std::int64_t{7}},
                                      {"gen_ai.conversation.id", "c-17"},
                                      {"server.address", "127.0.0.1"},
                                      {"server.port", std::int64_t{8080}}},
                                     options);
  const opentelemetry::nostd::string_view reasons[] = {"stop"};
  span->SetAttribute("gen_ai.usage.input_tokens", std::int64_t{100});
  span->SetAttribute("gen_ai.usage.output_tokens", std::int64_t{turns});
  span->SetAttribute("gen_ai.response.finish_reasons",
                     opentelemetry::nostd::span<const opentelemetry::nostd::string_view>(reasons));
  span->End();
}

}  // namespace

int main(int argc, char** argv) {
  const bench::Load load = bench::load_of(argc, argv);
  otlp::OtlpHttpExporterOptions receiver;  // reads the environment
  receiver.content_type = otlp::HttpRequestContentType::kBinary;
  sdk::trace::BatchSpanProcessorOptions batch;
  batch.max_queue_size = 1U << 18U;  // so that nothing is dropped
  batch.max_export_batch_size = static_cast<std::size_t>(std::atol(std::getenv("OTEL_BATCH")));
  sdk::trace::TracerProvider provider(
      sdk::trace::BatchSpanProcessorFactory::Create(otlp::OtlpHttpExporterFactory::Create(receiver), batch),
      sdk::resource::Resource::Create({{"service.name", "otel_spans"}}));
  const auto tracer = provider.GetTracer("bench");
  int turns = 0;
  const bench::CpuMeter cpu;
  bench::paced(load, [&] {
    const auto root = tracer->StartSpan("bench.request");
    const api::Scope scope(root);
    for (int i = 1; i < bench::kSpansPerTrace; ++i) {
      if (load.chats) {
        chat(*tracer, ++turns);
      } else {
        tracer->StartSpan("bench.step")->End();
      }
    }
    root->End();
  });
  provider.ForceFlush(std::chrono::seconds(60));
  provider.Shutdown();
  cpu.print(load.spans);
}
