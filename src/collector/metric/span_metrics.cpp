// SPDX-License-Identifier: Apache-2.0
#include "metric/span_metrics.h"

#include "model/entry_json.h"
#include "model/service.h"

#include <nopspan/probes.h>
#include <nopspan/semconv.h>

namespace nopspan::collector {
namespace {

// The connector's bounds, and three for requests to models that take longer.
const std::vector<double> kSpanBounds = {0.002, 0.004, 0.006, 0.008, 0.01, 0.05, 0.1, 0.2, 0.4, 0.8,
                                         1,     1.4,   2,     5,     10,   15,   30,  60,  120};

std::string_view kind_text(const Entry& entry) {
  constexpr std::string_view kKinds[] = {"SPAN_KIND_UNSPECIFIED", "SPAN_KIND_INTERNAL", "SPAN_KIND_SERVER",
                                         "SPAN_KIND_CLIENT",      "SPAN_KIND_PRODUCER", "SPAN_KIND_CONSUMER"};
  const unsigned kind = (entry.flags & NOPSPAN_FLAG_KIND_MASK) >> NOPSPAN_FLAG_KIND_SHIFT;
  return kind < std::size(kKinds) ? kKinds[kind] : kKinds[0];
}

}  // namespace

std::string_view error_type_of(const Entry& entry) {
  if (!entry.failed()) return {};
  return entry.error_type.empty() ? semconv::error_type_other : entry.error_type;
}

SpanMetrics::SpanMetrics(MetricRegistry& registry)
    : calls_(registry.family({.name = "traces.span.metrics.calls",
                              .unit = "{call}",
                              .help = "Spans that ended.",
                              .labels = {"service.name", "span.name", "span.kind", "status.code", "nopspan.status"},
                              .is_integer = true})),
      duration_(registry.family({.name = "traces.span.metrics.duration",
                                 .unit = "s",
                                 .help = "Durations of spans.",
                                 .type = MetricType::histogram,
                                 .labels = {"service.name", "span.name", "span.kind", "status.code"},
                                 .bounds = kSpanBounds})),
      events_(registry.family({.name = "nopspan.events",
                               .unit = "{event}",
                               .help = "Point events.",
                               .labels = {"service.name", "event.name"},
                               .is_integer = true})),
      retries_(registry.family({.name = "nopspan.retries",
                                .unit = "{retry}",
                                .help = "Retries, by the reason that the program reported.",
                                .labels = {"service.name", "span.name", "gen_ai.request.model", "reason"},
                                .is_integer = true})) {}

void SpanMetrics::add(MetricWriter& writer, const Entry& entry, const Exemplar* exemplar) {
  const std::string_view service = service_of(**entry.process);
  if (entry.kind == Kind::event) {
    writer.add(events_, 1, {service, entry.name});
  } else if (entry.kind == Kind::retry) {
    writer.add(retries_, 1, {service, entry.span_name(), entry.model, entry.error_type});
  } else if (entry.kind == Kind::span) {
    const std::string_view kind = kind_text(entry);
    const std::string_view code = entry.failed() ? "STATUS_CODE_ERROR" : "STATUS_CODE_UNSET";
    writer.add(calls_, 1, {service, entry.name, kind, code, status_name(entry.status)});
    writer.observe(duration_, static_cast<double>(entry.duration_ns) / static_cast<double>(kSecond),
                   {service, entry.name, kind, code}, exemplar);
  }
}

}  // namespace nopspan::collector
