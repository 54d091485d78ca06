// SPDX-License-Identifier: Apache-2.0
#include "metric/engine_metrics.h"

#include "facts/engine_facts.h"
#include "facts/request_times.h"
#include "model/service.h"
#include "model/steps.h"

#include <nopspan/probes.h>

#include <algorithm>
#include <array>

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

// A gauge or counter of whole numbers.
MetricFamily& engine_numbers(MetricRegistry& registry, MetricType type, const char* name, const char* unit,
                             const char* help, std::initializer_list<const char*> more) {
  return registry.family(
      {.name = name, .unit = unit, .help = help, .type = type, .labels = engine_labels(more), .is_integer = true});
}

MetricFamily& engine_histogram(MetricRegistry& registry, const char* name, const char* unit, const char* help,
                               std::vector<double> bounds, std::initializer_list<const char*> more = {}) {
  return registry.family({.name = name,
                          .unit = unit,
                          .help = help,
                          .type = MetricType::histogram,
                          .labels = engine_labels(more),
                          .bounds = std::move(bounds)});
}

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
constexpr std::string_view kUsed = "kv_cache_used", kRunning = "running", kWaiting = "waiting", kSwapped = "swapped";

// Facts that are amounts: their sum is the amount of all spans or events together. Times, indexes and statistics of one
// request are not amounts.
constexpr std::string_view kAmounts[] = {"accepted_tokens",
                                         "batch_size",
                                         "blocks",
                                         "budget_tokens",
                                         "bytes",
                                         "cached_device_tokens",
                                         "cached_host_tokens",
                                         "decode_tokens",
                                         "drafted_tokens",
                                         "drafts",
                                         "cached_external_tokens",
                                         "external_hit_tokens",
                                         "external_queried_tokens",
                                         "hit_tokens",
                                         "preemptions",
                                         "prefill_tokens",
                                         "prompt_chunks",
                                         "queried_tokens",
                                         "recomputed_tokens",
                                         "tokens"};

// The facts that servers' metrics need, by attribute.
constexpr std::pair<std::string_view, EngineFact> kRequestFacts[] = {
    {"nopspan.recomputed_tokens", EngineFact::recomputed_tokens},
    {"nopspan.drafts", EngineFact::drafts},
    {"nopspan.drafted_tokens", EngineFact::drafted_tokens},
    {"nopspan.accepted_tokens", EngineFact::accepted_tokens},
};
constexpr std::pair<std::string_view, EngineFact> kCacheFacts[] = {
    {"nopspan.queried_tokens", EngineFact::queried_tokens},
    {"nopspan.hit_tokens", EngineFact::hit_tokens},
    {"nopspan.external_queried_tokens", EngineFact::external_queried_tokens},
    {"nopspan.external_hit_tokens", EngineFact::external_hit_tokens},
};
constexpr std::pair<std::string_view, std::string_view> kCachedFacts[] = {
    {"nopspan.cached_device_tokens", "device"},
    {"nopspan.cached_host_tokens", "host"},
    {"nopspan.cached_external_tokens", "storage"},
};

}  // namespace

EngineMetrics::EngineMetrics(MetricRegistry& registry, ServerNames names)
    : gauge_(engine_numbers(registry, MetricType::gauge, "nopspan.reported.value", "",
                            "Other gauges that programs report, by name.", {"process.pid", "gauge"})),
      maximum_(engine_numbers(registry, MetricType::gauge, "nopspan.reported.maximum", "",
                              "The greatest value that a gauge may have.", {"process.pid", "gauge"})),
      counter_(engine_numbers(registry, MetricType::counter, "nopspan.reported", "",
                              "Counters that programs report, by name.", {"process.pid", "counter"})),
      facts_(engine_numbers(registry, MetricType::counter, "nopspan.engine.facts", "",
                            "Amounts (tokens, blocks, bytes, drafts), by the engine's span or event.",
                            {"span.name", "fact"})),
      texts_(engine_numbers(registry, MetricType::counter, "nopspan.engine.reasons", "",
                            "Spans and events of engines by reason, mode, tier or direction.",
                            {"span.name", "fact", "value"})),
      phases_(engine_histogram(
          registry, "nopspan.engine.request.phase", "s",
          "Times that requests spent in each phase: admission, queue, prefill, decode.",
          {std::begin(semconv::metric::duration_boundaries), std::end(semconv::metric::duration_boundaries)},
          {"phase"})),
      token_gaps_(engine_histogram(
          registry, "nopspan.engine.request.token_gap", "s",
          "Time of each token of a response since the one before it.",
          {0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 10})),
      step_duration_(
          engine_histogram(registry, "nopspan.engine.step.duration", "s", "Durations of steps.",
                           {0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5})),
      step_time_(registry.family({.name = "nopspan.engine.step.time",
                                  .unit = "s",
                                  .help = "Time of steps on the device and on the host.",
                                  .labels = engine_labels({"where"})})),
      step_members_(engine_histogram(registry, "nopspan.engine.step.members", "{request}", "Requests, by step.",
                                     {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024})),
      step_tokens_(engine_histogram(registry, "nopspan.engine.step.tokens", "{token}",
                                    "Prefill and decode tokens, by step.",
                                    {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384})),
      malformed_(registry.family({.name = "nopspan.metrics.malformed",
                                  .unit = "{list}",
                                  .help = "Lists of gaps between tokens that are not as a StreamMeter makes them.",
                                  .labels = {"service.name"},
                                  .is_integer = true})),
      server_(registry, names) {
  for (const KnownGauge& known : kKnownGauges) {
    known_gauges_.emplace_back(known.name, &engine_numbers(registry, MetricType::gauge, known.family, known.unit,
                                                           known.help, {"process.pid"}));
  }
}

void EngineMetrics::add(MetricWriter& writer, const Entry& entry, const GenAiSpan& genai, const Exemplar* exemplar) {
  labels_ = {service_of(**entry.process), entry.engine, entry.model, {}};
  if (entry.kind == Kind::gauge) {
    add_gauge(writer, entry);
    return;
  }
  if (has_engine_facts(entry)) add_facts(writer, entry);
  if (is_step(entry)) {
    add_step(writer, entry);
  } else if (entry.kind == Kind::span && (entry.has_engine_times || entry.name == "engine.request")) {
    add_request(writer, entry, genai, exemplar);
  } else if (entry.kind == Kind::event && entry.name == "engine.preempted") {
    server_.add(writer, EngineFact::preempted, 1, labels_);
  }
}

void EngineMetrics::add_gauge(MetricWriter& writer, const Entry& entry) {
  pid_ = std::to_string((*entry.process)->pid);
  labels_.pid = pid_;
  own_labels_.clear();
  own_views_.clear();
  std::string_view reason, tier;
  for_each_key_value(entry.attributes, kEventAttributes, [&](std::string_view key_value) {
    Attribute attribute;
    NumberText number;
    if (!read_attribute(key_value, attribute)) return;
    const std::string_view text = scalar_text(attribute, number);
    if (attribute.key == "reason") reason = attribute.text;
    if (attribute.key == "tier") tier = attribute.text;
    if (!text.empty()) own_labels_.emplace_back(attribute.key, text);
  });
  std::sort(own_labels_.begin(), own_labels_.end());
  for (const auto& [key, value] : own_labels_) own_views_.emplace_back(key, value);
  const std::array<std::string_view, 5> labels = {labels_.service, labels_.engine, labels_.model, pid_, entry.name};
  const auto value = static_cast<double>(entry.value);
  if ((entry.flags & NOPSPAN_FLAG_COUNTER) != 0 && entry.value >= 0) {
    writer.total_at(counter_, value, entry.start_unix_ns, labels, own_views_);
    return;
  }
  const auto known = std::find_if(known_gauges_.begin(), known_gauges_.end(),
                                  [&](const auto& one) { return one.first == entry.name; });
  writer.gauge_at(known == known_gauges_.end() ? gauge_ : *known->second, value, entry.start_unix_ns, labels,
                  own_views_);
  if (entry.number != 0) {
    writer.gauge_at(maximum_, static_cast<double>(entry.number), entry.start_unix_ns, labels, own_views_);
  }
  if (entry.name == kWaiting && !reason.empty())
    server_.add(writer, EngineFact::waiting_by_reason, value, labels_, reason);
  if (!reason.empty() || !tier.empty()) return;
  if (entry.name == kRunning) server_.add(writer, EngineFact::running, value, labels_);
  if (entry.name == kWaiting) server_.add(writer, EngineFact::waiting, value, labels_);
  if (entry.name == kSwapped) server_.add(writer, EngineFact::swapped, value, labels_);
  if (entry.name == kUsed && entry.number != 0) {
    server_.add(writer, EngineFact::kv_cache_usage, value / static_cast<double>(entry.number), labels_);
  }
}

void EngineMetrics::add_facts(MetricWriter& writer, const Entry& entry) {
  const bool is_request = entry.name == "engine.request", is_cache = entry.name == "engine.prefix_cache";
  const auto add_amount = [&](std::string_view name, std::uint64_t amount) {
    writer.add(facts_, static_cast<double>(amount), {labels_.service, labels_.engine, labels_.model, entry.name, name});
  };
  const auto on_number = [&](std::string_view key, std::uint64_t number) {
    const auto value = static_cast<double>(number);
    for (const auto& [name, fact] : kRequestFacts) {
      if (is_request && key == name) server_.add(writer, fact, value, labels_);
    }
    for (const auto& [name, fact] : kCacheFacts) {
      if (is_cache && key == name) server_.add(writer, fact, value, labels_);
    }
    for (const auto& [name, source] : kCachedFacts) {
      if (is_request && key == name && number != 0) {
        server_.add(writer, EngineFact::cached_by_source, value, labels_, source);
      }
    }
    if (!key.starts_with(kNopspan)) return;
    key.remove_prefix(kNopspan.size());
    if (is_request && key == "admission_ns") {
      writer.observe(phases_, in_seconds(number), {labels_.service, labels_.engine, labels_.model, "admission"});
    }
    if (std::find(std::begin(kAmounts), std::end(kAmounts), key) != std::end(kAmounts)) add_amount(key, number);
  };
  const auto on_text = [&](std::string_view key, std::string_view text) {
    writer.add(texts_, 1,
               {labels_.service, labels_.engine, labels_.model, entry.name, key.substr(kNopspan.size()), text});
  };
  for_each_engine_fact(entry, on_number, on_text);
  if (!is_request || !entry.has_usage) return;
  add_amount("input_tokens", entry.usage.input);
  add_amount("output_tokens", entry.usage.output);
  add_amount("cached_tokens", entry.usage.cached);
  add_amount("reasoning_tokens", entry.usage.reasoning);
}

void EngineMetrics::add_request(MetricWriter& writer, const Entry& entry, const GenAiSpan& genai,
                                const Exemplar* exemplar) {
  const auto phase = [&](std::string_view name, std::uint64_t ns, EngineFact fact) {
    writer.observe(phases_, in_seconds(ns), {labels_.service, labels_.engine, labels_.model, name}, exemplar);
    server_.add(writer, fact, in_seconds(ns), labels_, {}, exemplar);
  };
  if (entry.has_engine_times) {
    const EngineTimes& times = entry.engine_times;
    phase("queue", times.queue_ns, EngineFact::queue_s);
    phase("prefill", times.prefill_ns, EngineFact::prefill_s);
    phase("decode", times.decode_ns, EngineFact::decode_s);
  }
  if (!read_gaps(entry, GapsOf::tokens, gaps_)) writer.add(malformed_, 1, {labels_.service});
  for (const auto& [gap_ns, times] : gaps_) {
    writer.observe(token_gaps_, in_seconds(gap_ns), {labels_.service, labels_.engine, labels_.model}, exemplar, times);
    server_.add(writer, EngineFact::token_gap_s, in_seconds(gap_ns), labels_, {}, exemplar, times);
  }
  if (server_.empty()) return;
  const auto add = [&](EngineFact fact, double value) { server_.add(writer, fact, value, labels_, {}, exemplar); };
  std::string_view reason = genai.finish_reason();
  if (entry.status == kCancelled) reason = "abort";
  if (entry.failed()) reason = "error";
  server_.add(writer, EngineFact::requests, 1, labels_, reason);
  add(EngineFact::finished, 1);
  if (entry.status == kCancelled) add(EngineFact::aborted, 1);
  const double e2e_s = genai.number(GenAiSpan::e2e_s);
  add(EngineFact::e2e_s, e2e_s >= 0 ? e2e_s : in_seconds(entry.duration_ns));
  if (entry.has_first_token) add(EngineFact::first_token_s, in_seconds(entry.first_token_ns));
  const auto per_token_ns = time_per_output_token_ns(entry);
  if (per_token_ns) add(EngineFact::per_token_s, in_seconds(*per_token_ns));
  if (entry.has_engine_times) {
    add(EngineFact::inference_s, in_seconds(entry.engine_times.prefill_ns) + in_seconds(entry.engine_times.decode_ns));
    add(EngineFact::computed_tokens, static_cast<double>(entry.engine_times.prefill_tokens));
    add(EngineFact::preemptions, static_cast<double>(entry.engine_times.preemptions));
  }
  if (entry.has_usage) {
    add(EngineFact::input_tokens, static_cast<double>(entry.usage.input));
    add(EngineFact::output_tokens, static_cast<double>(entry.usage.output));
    add(EngineFact::cached_tokens, static_cast<double>(entry.usage.cached));
  }
  if (genai.number(GenAiSpan::max_tokens) >= 0) add(EngineFact::max_tokens, genai.number(GenAiSpan::max_tokens));
  if (genai.number(GenAiSpan::choices) >= 0) add(EngineFact::choices, genai.number(GenAiSpan::choices));
}

void EngineMetrics::add_step(MetricWriter& writer, const Entry& entry) {
  const std::array<std::string_view, 3> labels = {labels_.service, labels_.engine, labels_.model};
  writer.observe(step_duration_, in_seconds(entry.duration_ns), labels);
  server_.add(writer, EngineFact::steps, 1, labels_);
  if (entry.step == nullptr) return;
  const double tokens =
      static_cast<double>(entry.step->prefill_tokens) + static_cast<double>(entry.step->decode_tokens);
  const auto add_time = [&](std::string_view where, std::uint64_t ns) {
    if (ns != 0) writer.add(step_time_, in_seconds(ns), {labels_.service, labels_.engine, labels_.model, where});
  };
  add_time("device", entry.step->device_ns);
  add_time("host", entry.step->host_ns);
  if (entry.step->batch_size != 0) writer.observe(step_members_, entry.step->batch_size, labels);
  writer.observe(step_tokens_, tokens, labels);
  server_.add(writer, EngineFact::step_tokens, tokens, labels_);
}

}  // namespace nopspan::collector
