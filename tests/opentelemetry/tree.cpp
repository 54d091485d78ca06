// SPDX-License-Identifier: Apache-2.0
// A tree of spans made through opentelemetry-cpp's API, from a seed. test_opentelemetry.py compares what nopspan
// exports of it with what the SDK exports.
//
//   tree SEED COUNT sdk URL     with an SDK, which exports to URL, installed before nopspan
//   tree SEED COUNT late URL    with an SDK that is installed after nopspan
//   tree SEED COUNT alone       without an SDK
//   tree hops                   prints the context that an untraced process sends, and whether its tracer is enabled
//
// It waits for a line on stdin before it makes spans, and before it ends.
#include <nopspan/opentelemetry.h>

#include <opentelemetry/context/runtime_context.h>
#include <opentelemetry/trace/context.h>
#include <opentelemetry/trace/provider.h>
#include <opentelemetry/trace/scope.h>
#include <opentelemetry/trace/span_metadata.h>
#include <opentelemetry/trace/trace_state.h>
#if OPENTELEMETRY_ABI_VERSION_NO == 1
#include <opentelemetry/exporters/otlp/otlp_http_exporter_factory.h>
#include <opentelemetry/exporters/otlp/otlp_http_exporter_options.h>
#include <opentelemetry/sdk/trace/batch_span_processor_factory.h>
#include <opentelemetry/sdk/trace/batch_span_processor_options.h>
#include <opentelemetry/sdk/trace/tracer_provider.h>
#include <opentelemetry/sdk/trace/tracer_provider_factory.h>
#endif

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace trace = opentelemetry::trace;
namespace common = opentelemetry::common;
namespace context = opentelemetry::context;
namespace nostd = opentelemetry::nostd;

namespace {

using Attributes = std::vector<std::pair<std::string, common::AttributeValue>>;
using ApiSpan = nostd::shared_ptr<trace::Span>;

void wait_for_line() {
  std::string line;
  std::getline(std::cin, line);
}

class Tree {
 public:
  Tree(std::uint64_t seed, std::size_t count) : random_(seed), count_(count) {
    const auto provider = trace::Provider::GetTracerProvider();
    tracers_ = {provider->GetTracer("shop", "1.2", "https://example.com/schema"), provider->GetTracer("größe"),
                provider->GetTracer("", "")};
  }
  // Tracers that were obtained before the SDK was installed are used too.
  void keep(nostd::shared_ptr<trace::Tracer> tracer) { tracers_[0] = std::move(tracer); }

  void grow() {
    while (number_ < count_) node(0);
    open_.clear();
  }

 private:
  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }
  bool happens(std::uint64_t percent) { return below(100) < percent; }

  std::string text() {
    static const char* const kWords[] = {"",          "a", "größe", "世界", "🙂 emoji", "\"quoted\\\"", "tab\tline\n",
                                         "plain text"};
    return kWords[below(8)] + std::to_string(below(1000));
  }
  // Keeps what a value refers to.
  template <class T>
  const T* keep_values(std::vector<T> values) {
    static std::deque<std::vector<T>> kept;
    return kept.emplace_back(std::move(values)).data();
  }
  nostd::string_view keep_text(std::string value) {
    static std::deque<std::string> kept;
    return kept.emplace_back(std::move(value));
  }

  common::AttributeValue value() {
    const std::size_t size = below(4);
    const auto many = [&](auto make) {
      using T = decltype(make());
      std::vector<T> values;
      for (std::size_t i = 0; i < size; ++i) values.push_back(make());
      return nostd::span<const T>(keep_values(std::move(values)), size);
    };
    switch (below(15)) {
      case 0:
        return happens(50);
      case 1:
        return static_cast<std::int32_t>(random_());
      case 2:
        return static_cast<std::int64_t>(random_());
      case 3:
        return static_cast<std::uint32_t>(random_());
      case 4:
        return static_cast<double>(random_()) / 1e9;
      case 5:
        return keep_text(text()).data();
      case 6:
        return keep_text(text());
      case 7: {
        static const bool kBools[] = {true, false, true, true};
        return nostd::span<const bool>(kBools, size);
      }
      case 8:
        return many([&] { return static_cast<std::int32_t>(random_()); });
      case 9:
        return many([&] { return static_cast<std::int64_t>(random_()); });
      case 10:
        return many([&] { return static_cast<std::uint32_t>(random_()); });
      case 11:
        return many([&] { return static_cast<double>(random_()) / 1e9; });
      case 12:
        return many([&] { return keep_text(text()); });
      case 13:
        return static_cast<std::uint64_t>(random_() >> 1U);
      default:
        return many([&] { return static_cast<std::uint64_t>(random_() >> 1U); });
    }
  }
  Attributes attributes(std::size_t most) {
    Attributes all;
    for (std::size_t i = below(most + 1); i > 0; --i) {
      all.emplace_back("key." + std::to_string(below(30)) + (happens(10) ? ".größe" : ""), value());
    }
    return all;
  }

  trace::SpanContext remote() {
    std::uint8_t trace_id[16], span_id[8];
    for (auto& byte : trace_id) byte = static_cast<std::uint8_t>(random_() | 1U);
    for (auto& byte : span_id) byte = static_cast<std::uint8_t>(random_() | 1U);
    const auto state =
        happens(50) ? trace::TraceState::FromHeader("vendor=value,other=1") : trace::TraceState::GetDefault();
    return {trace::TraceId(trace_id), trace::SpanId(span_id), trace::TraceFlags(trace::TraceFlags::kIsSampled), true,
            state};
  }
  trace::SpanContext any_context() { return seen_.empty() || happens(30) ? remote() : seen_[below(seen_.size())]; }

  void set_parent(trace::StartSpanOptions& options) {
    const std::uint64_t which = below(100);
    if (which < 12) {
      options.parent = any_context();
    } else if (which < 20 && !open_.empty()) {
      context::Context around;
      options.parent = trace::SetSpan(around, open_[below(open_.size())]);
    } else if (which < 25) {
      options.parent = context::Context().SetValue(trace::kIsRootSpanKey, true);
    } else if (which < 30) {
      options.parent = context::Context();
    }
  }

  void node(std::size_t depth) {
    if (number_ >= count_) return;
    const std::string name = (happens(20) ? "größe 世界 🙂 " : "span ") + std::to_string(number_++);
    trace::StartSpanOptions options;
    options.kind = static_cast<trace::SpanKind>(below(5));
    set_parent(options);
    const bool has_times = happens(25);
    if (has_times) {
      const std::chrono::nanoseconds ago(1'000'000 + below(50'000'000));
      options.start_system_time = common::SystemTimestamp(std::chrono::system_clock::now() - ago);
      options.start_steady_time = common::SteadyTimestamp(std::chrono::steady_clock::now() - ago);
    }
    std::vector<std::pair<trace::SpanContext, Attributes>> links;
    for (std::size_t i = happens(30) ? below(4) : 0; i > 0; --i) links.emplace_back(any_context(), attributes(2));
    ApiSpan span = tracers_[below(tracers_.size())]->StartSpan(name, attributes(6), links, options);
    seen_.push_back(span->GetContext());
    open_.push_back(span);
    {
      const trace::Scope scope(span);
      change(*span);
      for (std::size_t i = depth < 8 ? below(4) : 0; i > 0; --i) node(depth + 1);
      change(*span);
    }
    if (happens(10)) span->UpdateName("renamed " + name);
    if (happens(15)) span->SetStatus(trace::StatusCode::kOk);
    if (happens(15))
      span->SetStatus(trace::StatusCode::kError, happens(70) ? keep_text("fehlgeschlagen: " + text()) : "");
    trace::EndSpanOptions end;
    if (has_times && happens(50)) end.end_steady_time = common::SteadyTimestamp(std::chrono::steady_clock::now());
    span->End(end);
    if (happens(10)) span->SetAttribute("after the end", true);
    if (happens(90)) open_.pop_back();  // the others stay parents after their end
  }

  void change(trace::Span& span) {
    for (const auto& [key, value] : attributes(3)) span.SetAttribute(key, value);
#if OPENTELEMETRY_ABI_VERSION_NO >= 2
    if (happens(10)) span.AddLink(any_context(), attributes(1));
#endif
    for (std::size_t i = happens(40) ? below(4) : 0; i > 0; --i) {
      const std::string name = (happens(30) ? "event größe 🙂 " : "event ") + std::to_string(below(1000));
      switch (below(4)) {
        case 0:
          span.AddEvent(name);
          break;
        case 1:
          span.AddEvent(name, attributes(3));
          break;
        default:
          const std::chrono::nanoseconds ago(below(50'000'000));
          span.AddEvent(name, common::SystemTimestamp(std::chrono::system_clock::now() - ago), attributes(3));
      }
    }
  }

  std::mt19937_64 random_;
  const std::size_t count_;
  std::size_t number_ = 0;
  std::vector<nostd::shared_ptr<trace::Tracer>> tracers_;
  std::vector<trace::SpanContext> seen_;
  std::vector<ApiSpan> open_;
};

std::string text_of(const trace::SpanContext& span) {
  char trace_id[32], span_id[16];
  span.trace_id().ToLowerBase16(trace_id);
  span.span_id().ToLowerBase16(span_id);
  return std::string(trace_id, 32) + "-" + std::string(span_id, 16);
}

// The context of spans that are not recorded, inside those of another process.
void print_hops() {
  nopspan::opentelemetry::install();
  const auto tracer = trace::Provider::GetTracerProvider()->GetTracer("hops");
  const auto print = [](const char* what, const trace::SpanContext& span) {
    std::cout << what << " " << text_of(span) << std::endl;
  };
  print("alone", tracer->StartSpan("alone")->GetContext());
  std::uint8_t trace_id[16] = {1, 2, 3}, span_id[8] = {4, 5, 6};
  const trace::SpanContext caller(trace::TraceId(trace_id), trace::SpanId(span_id), trace::TraceFlags(1), true);
  print("caller", caller);
  trace::StartSpanOptions options;
  options.parent = caller;
  auto span = tracer->StartSpan("explicit", options);
  print("explicit", span->GetContext());
  {
    const trace::Scope scope(span);
    auto inner = tracer->StartSpan("inner");
    print("inner", inner->GetContext());
    const trace::Scope inside(inner);
    print("innermost", tracer->StartSpan("innermost")->GetContext());
    options.parent = context::Context().SetValue(trace::kIsRootSpanKey, true);
    print("root", tracer->StartSpan("root", options)->GetContext());
  }
#if OPENTELEMETRY_ABI_VERSION_NO >= 2 && (OPENTELEMETRY_VERSION_MAJOR > 1 || OPENTELEMETRY_VERSION_MINOR >= 20)
  std::cout << "enabled " << tracer->Enabled() << std::endl;
  wait_for_line();
  for (int i = 0; i < 600 && !tracer->Enabled(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  std::cout << "enabled " << tracer->Enabled() << std::endl;
#endif
}

#if OPENTELEMETRY_ABI_VERSION_NO == 1
std::shared_ptr<opentelemetry::sdk::trace::TracerProvider> make_sdk(const std::string& url) {
  namespace otlp = opentelemetry::exporter::otlp;
  namespace sdk = opentelemetry::sdk::trace;
  otlp::OtlpHttpExporterOptions exporting;
  exporting.url = url;
  exporting.content_type = otlp::HttpRequestContentType::kJson;
  sdk::BatchSpanProcessorOptions batching;
  batching.max_queue_size = 65536;
  batching.schedule_delay_millis = std::chrono::milliseconds(200);
  auto processor = sdk::BatchSpanProcessorFactory::Create(otlp::OtlpHttpExporterFactory::Create(exporting), batching);
  return std::static_pointer_cast<sdk::TracerProvider>(
      std::shared_ptr<trace::TracerProvider>(sdk::TracerProviderFactory::Create(std::move(processor))));
}
#endif

}  // namespace

int main(int count, char** arguments) {
  if (count < 4) {
    print_hops();
    return 0;
  }
  const std::string mode = arguments[3];
#if OPENTELEMETRY_ABI_VERSION_NO == 1
  std::shared_ptr<opentelemetry::sdk::trace::TracerProvider> sdk;
  if (mode != "alone") sdk = make_sdk(arguments[4]);
  const auto install_sdk = [&] {
    trace::Provider::SetTracerProvider(
        nostd::shared_ptr<trace::TracerProvider>(std::shared_ptr<trace::TracerProvider>(sdk)));
  };
  if (mode == "sdk") install_sdk();
#endif
  nopspan::opentelemetry::install();
  const auto early = trace::Provider::GetTracerProvider()->GetTracer("early", "0.1");
#if OPENTELEMETRY_ABI_VERSION_NO == 1
  if (mode == "late") {
    install_sdk();
    nopspan::opentelemetry::install();
  }
#endif
  Tree tree(std::strtoull(arguments[1], nullptr, 10), std::strtoull(arguments[2], nullptr, 10));
  tree.keep(early);
  std::cout << "ready" << std::endl;
  wait_for_line();
  tree.grow();
#if OPENTELEMETRY_ABI_VERSION_NO == 1
  if (sdk != nullptr) sdk->ForceFlush();
#endif
  std::cout << "done" << std::endl;
  wait_for_line();
  return 0;
}
