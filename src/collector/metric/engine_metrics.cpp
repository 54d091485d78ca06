// SPDX-License-Identifier: Apache-2.0
#include "metric/engine_metrics.h"

#include "facts/engine_facts.h"
#include "model/entry.h"
#include "model/otlp_wire.h"
#include "model/service.h"
#include "model/steps.h"

#include <nopspan/probes.h>
#include <nopspan/semconv.h>

#include <algorithm>
#include <string>

namespace nopspan::collector {
namespace {

double in_seconds(std::uint64_t ns) { return static_cast<double>(ns) / static_cast<double>(kSecond); }

constexpr std::string_view kNopspan = "nopspan.";

// The labels of all families here, and others.
std::vector<std::string> engine_labels(std::initializer_list<const char*> more = {}) {
  std::vector<std::string> labels = {"service.name", "nopspan.engine", "gen_ai.request.model"};
  labels.insert(labels.end(), more.begin(), more.end());
  return labels;
}

constexpr double kGapBounds[] = {0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075,
                                 0.1,   0.15,  0.2,   0.3,  0.5,  1,    2,    5,    10};
constexpr double kStepBounds[] = {0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5};
constexpr double kMemberBounds[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024};
constexpr double kTokenBounds[] = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};

struct KnownGauge {
  std::string_view name;  // as processes report it
  const char* family;
  const char* unit;
  const char* help;
};
constexpr KnownGauge kKnownGauges[] = {
    {"running", "nopspan.engine.running", "{request}", "Requests that an engine serves."},
    {"waiting", "nopspan.engine.waiting", "{request}",
     "Requests that wait. Those with a label `reason` are a part of those without."},
    {"swapped", "nopspan.engine.swapped", "{request}", "Requests whose blocks are in another memory."},
    {"kv_cache_used", "nopspan.engine.kv_cache.used", "{block}", "Blocks of the KV cache in use."},
    {"kv_cache_total", "nopspan.engine.kv_cache.capacity", "{block}", "Blocks that the KV cache has."},
};

}  // namespace

EngineMetrics::EngineMetrics(MetricRegistry& registry)
    : gauge_(registry.gauge("nopspan.reported.value", "", "Other gauges that programs report, by name.",
                            engine_labels({"process.pid", "gauge"}))),
      maximum_(registry.gauge("nopspan.reported.maximum", "", "The greatest value that a gauge may have.",
                              engine_labels({"process.pid", "gauge"}))),
      counter_(registry.counter("nopspan.reported", "", "Counters that programs report, by name.",
                                engine_labels({"process.pid", "counter"}))),
      facts_(registry.counter("nopspan.engine.facts", "",
                              "Amounts (tokens, blocks, bytes, drafts), by the engine's span or event.",
                              engine_labels({"span.name", "fact"}))),
      texts_(registry.counter("nopspan.engine.reasons", "",
                              "Spans and events of engines by reason, mode, tier or direction.",
                              engine_labels({"span.name", "fact", "value"}))),
      phases_(registry.histogram("nopspan.engine.request.phase", "s",
                                 "Times that requests spent in each phase: admission, queue, prefill, decode.",
                                 engine_labels({"phase"}), semconv::metric::duration_boundaries)),
      token_gaps_(registry.histogram("nopspan.engine.request.token_gap", "s",
                                     "Time of each token of a response since the one before it.", engine_labels(),
                                     kGapBounds)),
      step_duration_(
          registry.histogram("nopspan.engine.step.duration", "s", "Durations of steps.", engine_labels(), kStepBounds)),
      step_time_(registry.family({.name = "nopspan.engine.step.time",
                                  .unit = "s",
                                  .help = "Time of steps on the device and on the host.",
                                  .labels = engine_labels({"where"})})),
      step_members_(registry.histogram("nopspan.engine.step.members", "{request}", "Requests, by step.",
                                       engine_labels(), kMemberBounds)),
      step_tokens_(registry.histogram("nopspan.engine.step.tokens", "{token}", "Prefill and decode tokens, by step.",
                                      engine_labels(), kTokenBounds)),
      malformed_(registry.counter("nopspan.metrics.malformed", "{list}",
                                  "Lists of gaps between tokens that are not as a StreamMeter makes them.",
                                  {"service.name"})) {
  for (const KnownGauge& known : kKnownGauges) {
    known_gauges_.emplace_back(known.name,
                               &registry.gauge(known.family, known.unit, known.help, engine_labels({"process.pid"})));
  }
}

void EngineMetrics::add(MetricWriter& writer, const Entry& entry, const Exemplar* exemplar) {
  common_ = {service_of(**entry.process), entry.engine, entry.model};
  if (entry.kind == Kind::gauge) {
    add_gauge(writer, entry);
    return;
  }
  if (has_engine_facts(entry)) add_facts(writer, entry);
  if (is_step(entry)) {
    add_step(writer, entry);
  } else if (entry.kind == Kind::span && (entry.has_engine_times || entry.name == kRequestName)) {
    add_request(writer, entry, exemplar);
  }
}

void EngineMetrics::add_gauge(MetricWriter& writer, const Entry& entry) {
  const std::string pid = std::to_string((*entry.process)->pid);
  own_labels_.clear();
  for_each_key_value(entry.attributes, kEventAttributes, [&](std::string_view key_value) {
    Attribute attribute;
    NumberText number;
    if (!read_attribute(key_value, attribute)) return;
    const std::string_view text = scalar_text(attribute, number);
    if (!text.empty()) own_labels_.emplace_back(attribute.key, text);
  });
  std::sort(own_labels_.begin(), own_labels_.end());
  const auto values = labels(pid, entry.name);
  const auto value = static_cast<double>(entry.value);
  if ((entry.flags & NOPSPAN_FLAG_COUNTER) != 0 && entry.value >= 0) {
    writer.total(counter_, value, values, own_labels_, entry.start_unix_ns);
    return;
  }
  const auto known = std::find_if(known_gauges_.begin(), known_gauges_.end(),
                                  [&](const auto& one) { return one.first == entry.name; });
  writer.gauge(known == known_gauges_.end() ? gauge_ : *known->second, value, values, own_labels_, entry.start_unix_ns);
  if (entry.number != 0) {
    writer.gauge(maximum_, static_cast<double>(entry.number), values, own_labels_, entry.start_unix_ns);
  }
}

void EngineMetrics::add_facts(MetricWriter& writer, const Entry& entry) {
  const bool is_request = entry.name == kRequestName;
  const auto add_amount = [&](std::string_view name, std::uint64_t amount) {
    writer.add(facts_, static_cast<double>(amount), labels(entry.name, name));
  };
  const auto on_number = [&](std::string_view key, std::uint64_t number) {
    if (!key.starts_with(kNopspan)) return;
    key.remove_prefix(kNopspan.size());
    if (is_request && key == "admission_ns") {
      writer.observe(phases_, in_seconds(number), labels("admission"));
    }
    const auto* const fact = find_engine_fact(key);
    if (fact != nullptr && fact->is_amount) add_amount(key, number);
  };
  const auto on_text = [&](std::string_view key, std::string_view text) {
    writer.add(texts_, 1, labels(entry.name, key.substr(kNopspan.size()), text));
  };
  for_each_engine_fact(entry, on_number, on_text);
  if (!is_request || !entry.has_usage) return;
  add_amount("input_tokens", entry.usage.input);
  add_amount("output_tokens", entry.usage.output);
  add_amount("cached_tokens", entry.usage.cached);
  add_amount("reasoning_tokens", entry.usage.reasoning);
}

void EngineMetrics::add_request(MetricWriter& writer, const Entry& entry, const Exemplar* exemplar) {
  const auto phase = [&](std::string_view name, std::uint64_t EngineTimes::*time, std::string_view key) {
    const auto ns = engine_time_ns(entry, time, key);
    if (ns) writer.observe(phases_, in_seconds(*ns), labels(name), exemplar);
  };
  phase("queue", &EngineTimes::queue_ns, "nopspan.queue_ns");
  phase("prefill", &EngineTimes::prefill_ns, "nopspan.prefill_ns");
  phase("decode", &EngineTimes::decode_ns, "nopspan.decode_ns");
  if (!read_gaps(entry, GapsOf::tokens, gaps_)) writer.add(malformed_, 1, {common_[0]});
  for (const auto& [gap_ns, times] : gaps_) {
    writer.observe(token_gaps_, in_seconds(gap_ns), common_, exemplar, times);
  }
}

void EngineMetrics::add_step(MetricWriter& writer, const Entry& entry) {
  writer.observe(step_duration_, in_seconds(entry.duration_ns), common_);
  if (entry.step == nullptr) return;
  const double tokens =
      static_cast<double>(entry.step->prefill_tokens) + static_cast<double>(entry.step->decode_tokens);
  const auto add_time = [&](std::string_view where, std::uint64_t ns) {
    if (ns != 0) writer.add(step_time_, in_seconds(ns), labels(where));
  };
  add_time("device", entry.step->device_ns);
  add_time("host", entry.step->host_ns);
  if (entry.step->batch_size != 0) writer.observe(step_members_, entry.step->batch_size, common_);
  writer.observe(step_tokens_, tokens, common_);
}

}  // namespace nopspan::collector
