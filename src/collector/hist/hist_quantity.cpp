// SPDX-License-Identifier: Apache-2.0
#include "hist/hist_quantity.h"

#include "base/saturating.h"
#include "facts/engine_facts.h"
#include "model/labels_and_attributes.h"
#include "model/steps.h"

#include <nopspan/probes.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <string>

namespace nopspan::collector {
namespace {

constexpr std::string_view kLatency = "gen_ai.latency.";  // attributes in seconds

const char* unit_of(std::string_view key) {
  if (key.starts_with(kLatency) || key.ends_with("_ns")) return "ns";
  for (const char* unit : {"tokens", "bytes", "blocks"}) {
    if (key.ends_with(unit)) return unit;
  }
  return "1";
}

using Number = std::optional<std::uint64_t>;

Number only_if(bool has, std::uint64_t value) { return has ? Number(value) : std::nullopt; }

// Nothing if the entry has no such attribute, or one that cannot be counted.
Number number_of_attribute(const Entry& entry, std::string_view key) {
  if (entry.kind != Kind::span && entry.kind != Kind::event) return {};
  if (entry.step != nullptr && is_step_fact(key)) {
    Number number;
    for_each_step_fact(*entry.step, [&](std::string_view fact, std::uint64_t value) {
      if (fact == key) number = value;
    });
    return number;
  }
  Attribute attribute;
  if (!find_attribute(entry, key, attribute)) return {};
  if (attribute.type == Attribute::Type::integer && attribute.integer >= 0) {
    return static_cast<std::uint64_t>(attribute.integer);
  }
  const double real = key.starts_with(kLatency) ? attribute.real * 1e9 : attribute.real;
  if (attribute.type != Attribute::Type::real || !(real >= 0 && real < 0x1p63)) return {};
  return static_cast<std::uint64_t>(std::llround(real));
}

Number percentage(Number part, Number whole) {
  if (!part || !whole || *whole == 0 || *part > *whole) return {};
  return static_cast<std::uint64_t>(std::lround(100.0 * static_cast<double>(*part) / static_cast<double>(*whole)));
}

// The quantity of an attribute, which owns its texts.
struct OfAttribute {
  OfAttribute(std::string_view name_of_it, std::string_view key_of_it)
      : name(name_of_it), key(key_of_it), of(key + " of spans and events") {}
  std::string name, key, of;
  Quantity quantity{name.c_str(), of.c_str(), Quantity::In::attribute, nullptr, unit_of(key), true, key};
};

const Quantity* quantity_of_attribute(std::string_view name, std::string_view key) {
  static std::map<std::string, std::unique_ptr<OfAttribute>, std::less<>> all;
  constexpr std::size_t kMostKey = 255;
  const auto is_shown = [](char c) { return c > ' ' && c <= '~'; };
  if (key.empty() || key.size() > kMostKey || !std::all_of(key.begin(), key.end(), is_shown)) return nullptr;
  auto& found = all[std::string(key)];
  if (found == nullptr) found = std::make_unique<OfAttribute>(name, key);
  return &found->quantity;
}

}  // namespace

const std::vector<Quantity>& quantities() {
  using In = Quantity::In;
  static const std::vector<Quantity> all = {
      {"duration", "duration of spans", In::span, [](const Entry& span) { return Number(span.duration_ns); }},
      {"ttft", "time to first token of spans", In::span,
       [](const Entry& span) { return only_if(span.has_first_token, span.first_token_ns); }, "ns", false},
      {"tool", "duration of tool calls", In::tool,
       [](const Entry& span) { return only_if(span.counts_tool, span.duration_ns); }},
      {"engine", "duration of engine requests", In::span,
       [](const Entry& span) { return only_if(span.has_engine_times, span.duration_ns); }},
      {"queue", "queue time of engine requests", In::span,
       [](const Entry& span) { return only_if(span.has_engine_times, span.engine_times.queue_ns); }},
      {"prefill", "prefill time of engine requests", In::span,
       [](const Entry& span) { return only_if(span.has_engine_times, span.engine_times.prefill_ns); }},
      {"decode", "decode time of engine requests", In::span,
       [](const Entry& span) { return only_if(span.has_engine_times, span.engine_times.decode_ns); }},
      {"retry", "delay of retries", In::retry,
       [](const Entry& retry) { return Number(static_cast<std::uint64_t>(retry.value)); }, "ns", false},
      {"step-tokens", "tokens of engine steps", In::step,
       [](const Entry& span) { return Number(saturating_sum(span.step->prefill_tokens, span.step->decode_tokens)); },
       "tokens"},
      {"step-prefill", "prefill tokens of engine steps", In::step,
       [](const Entry& span) { return Number(span.step->prefill_tokens); }, "tokens"},
      {"step-decode", "decode tokens of engine steps", In::step,
       [](const Entry& span) { return Number(span.step->decode_tokens); }, "tokens"},
      {"batch-size", "requests of engine steps", In::step,
       [](const Entry& span) { return Number(span.step->batch_size); }, "requests"},
      {"tpot", "time per output token of engine requests", In::span, time_per_output_token_ns},
      {"gap", "gaps between the tokens of spans", In::gap, nullptr, "ns", false},
      {"token-gap", "time of each token since the one before it", In::token_gap, nullptr, "ns", false},
      {"input-tokens", "input tokens of spans", In::span,
       [](const Entry& span) { return only_if(span.has_usage, span.usage.input); }, "tokens"},
      {"output-tokens", "output tokens of spans", In::span,
       [](const Entry& span) { return only_if(span.has_usage, span.usage.output); }, "tokens"},
      {"cache-hits", "share of the input tokens that came from a cache", In::span,
       [](const Entry& span) {
         return percentage(only_if(span.has_usage, span.usage.cached), only_if(span.has_usage, span.usage.input));
       },
       "percent"},
      {"acceptance", "share of the drafted tokens that were accepted", In::span,
       [](const Entry& span) {
         return percentage(number_of_attribute(span, "nopspan.accepted_tokens"),
                           number_of_attribute(span, "nopspan.drafted_tokens"));
       },
       "percent"},
  };
  return all;
}

const Quantity* find_quantity(std::string_view name) {
  const auto& all = quantities();
  const auto found = std::find_if(all.begin(), all.end(), [&](const Quantity& one) { return one.name == name; });
  if (found != all.end()) return &*found;
  constexpr std::string_view kAnyAttribute = "attr:";
  if (name.starts_with(kAnyAttribute)) return quantity_of_attribute(name, name.substr(kAnyAttribute.size()));
  if (find_engine_fact(name) == nullptr) return nullptr;
  if (name == "max_tokens") return quantity_of_attribute(name, "gen_ai.request.max_tokens");
  if (name == "cached_tokens") return quantity_of_attribute(name, "gen_ai.usage.cache_read.input_tokens");
  if (name == "n") return quantity_of_attribute(name, "gen_ai.request.choice.count");
  return quantity_of_attribute(name, "nopspan." + std::string(name));
}

bool measure(const Entry& entry, const Quantity& quantity, Measured& measured) {
  using In = Quantity::In;
  const bool is_attribute = quantity.in == In::attribute;
  if (quantity.is_list() || (!is_attribute && entry.kind != (quantity.in == In::retry ? Kind::retry : Kind::span))) {
    return false;
  }
  if (quantity.in == In::step && entry.step == nullptr) return false;
  const Number number = is_attribute ? number_of_attribute(entry, quantity.attribute) : quantity.read(entry);
  measured.value = number.value_or(0);
  measured.status = quantity.has_status ? entry.status : kOk;
  measured.name = quantity.is_named_by_text() ? entry.text : entry.name;
  return number.has_value();
}

}  // namespace nopspan::collector
