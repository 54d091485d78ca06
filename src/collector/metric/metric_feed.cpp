// SPDX-License-Identifier: Apache-2.0
#include "metric/metric_feed.h"

#include "facts/row_key.h"
#include "model/entry_json.h"
#include "model/service.h"

#include <nopspan/probes.h>

#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace nopspan::collector {

namespace {

// The connector's bounds, and three for requests to models that take longer.
constexpr double kSpanBounds[] = {0.002, 0.004, 0.006, 0.008, 0.01, 0.05, 0.1, 0.2, 0.4, 0.8,
                                  1,     1.4,   2,     5,     10,   15,   30,  60,  120};

std::string_view kind_text(const Entry& entry) {
  constexpr std::string_view kKinds[] = {"SPAN_KIND_UNSPECIFIED", "SPAN_KIND_INTERNAL", "SPAN_KIND_SERVER",
                                         "SPAN_KIND_CLIENT",      "SPAN_KIND_PRODUCER", "SPAN_KIND_CONSUMER"};
  const unsigned kind = (entry.flags & NOPSPAN_FLAG_KIND_MASK) >> NOPSPAN_FLAG_KIND_SHIFT;
  return kind < std::size(kKinds) ? kKinds[kind] : kKinds[0];
}

}  // namespace

MetricFeed::MetricFeed(MetricRegistry& registry, const MetricFeedOptions& options)
    : registry_(registry),
      is_exemplar_(options.is_exemplar),
      calls_(registry.counter(
          "traces.span.metrics.calls", "{call}", "Spans that ended.",
          {"service.name", "span.name", "span.kind", "status.code", "nopspan.status", "service.version"})),
      duration_(registry.histogram("traces.span.metrics.duration", "s", "Durations of spans.",
                                   {"service.name", "span.name", "span.kind", "status.code", "service.version"},
                                   kSpanBounds)),
      events_(registry.counter("nopspan.events", "{event}", "Point events.", {"service.name", "event.name"})),
      retries_(registry.counter("nopspan.retries", "{retry}", "Retries, by the reason that the program reported.",
                                {"service.name", "span.name", "gen_ai.request.model", "reason"})),
      genai_(registry, options.semconv),
      engines_(registry) {
  if (!options.has_targets) return;
  targets_ =
      &registry.gauge("target_info", "", "The resource of each service that metrics are about.", {"job", "instance"});
}

void MetricFeed::on_entry(const Entry& entry) {
  if (entry.kind == Kind::part) return;  // its step counts
  std::optional<Exemplar> exemplar;
  const bool has_ids = !entry.trace_id.empty() && entry.span_id != 0;
  if (entry.kind == Kind::span && has_ids && (!is_exemplar_ || is_exemplar_(entry))) {
    exemplar = {entry.trace_id, entry.span_id, 0, entry.start_unix_ns + entry.duration_ns};
  }
  const Exemplar* const example = exemplar ? &*exemplar : nullptr;
  const Process& process = **entry.process;
  const std::uint64_t owner = number_of(process);
  MetricWriter writer(registry_, process);
  if (targets_ != nullptr && written_.insert(owner).second) write_target(writer, process);
  count(writer, entry, example);
  if (entry.kind == Kind::span) genai_.add(writer, entry, example);
  engines_.add(writer, entry, example);
}

void MetricFeed::count(MetricWriter& writer, const Entry& entry, const Exemplar* exemplar) {
  const std::string_view service = service_of(**entry.process);
  if (entry.kind == Kind::event) {
    writer.add(events_, 1, {service, entry.name});
  } else if (entry.kind == Kind::retry) {
    writer.add(retries_, 1, {service, entry.span_name(), entry.model, entry.error_type});
  } else if (entry.kind == Kind::span) {
    const std::string_view kind = kind_text(entry);
    const std::string_view code = entry.failed() ? "STATUS_CODE_ERROR" : "STATUS_CODE_UNSET";
    const std::string_view version = resource_value(**entry.process, "service.version");
    writer.add(calls_, 1, {service, entry.name, kind, code, status_name(entry.status), version});
    writer.observe(duration_, static_cast<double>(entry.duration_ns) / static_cast<double>(kSecond),
                   {service, entry.name, kind, code, version}, exemplar);
  }
}

// As OpenTelemetry's specification of the compatibility with Prometheus demands, but for the labels of the service,
// which the other metrics have.
void MetricFeed::write_target(MetricWriter& writer, const Process& process) {
  MetricLabels labels;
  for (const char* const key : {"service.name", "service.version", "host.name", "container.id"}) {
    labels.emplace_back(key, resource_value(process, key));
  }
  // The first value of a key counts.
  each_declared(process, [&](std::string_view key, std::string_view value) { labels.emplace_back(key, value); });
  // The processes of a service that declare the same, on the same host and in the same container, are one target.
  const std::string_view declared = resource_value(process, "service.instance.id");
  const std::string instance =
      declared.empty() ? service_instance_id(resource_as_process(process)) : std::string(declared);
  writer.gauge(*targets_, 1, {service_path(process), instance}, labels);
}

void MetricFeed::on_tick(std::uint64_t now_unix_ns) {
  registry_.advance(now_unix_ns);
  if (std::exchange(minute_, now_unix_ns / (60 * kSecond)) != now_unix_ns / (60 * kSecond)) written_.clear();
}

}  // namespace nopspan::collector
