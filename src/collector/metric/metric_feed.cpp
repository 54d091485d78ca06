// SPDX-License-Identifier: Apache-2.0
#include "metric/metric_feed.h"

#include "facts/row_key.h"

#include <cstdint>
#include <optional>

namespace nopspan::collector {

MetricFeed::MetricFeed(MetricRegistry& registry, const MetricFeedOptions& options)
    : registry_(registry),
      is_exemplar_(options.is_exemplar),
      spans_(registry),
      genai_(registry, options.semconv),
      engines_(registry) {}

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
  MetricWriter writer(registry_, owner, process.claimed_by != 0 ? process.claimed_by : owner);
  spans_.add(writer, entry, example);
  if (entry.kind == Kind::span) genai_.note(entry);
  if (entry.kind == Kind::span && genai_span_.read(entry)) genai_.add(writer, entry, genai_span_, example);
  engines_.add(writer, entry, example);
}

void MetricFeed::on_tick(std::uint64_t now_unix_ns) { registry_.advance(now_unix_ns); }

}  // namespace nopspan::collector
