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

// The number of an attribute. False if the entry has none, or one that cannot be counted.
bool number_of_attribute(const Entry& entry, std::string_view key, std::uint64_t& number) {
  if (entry.kind != Kind::span && entry.kind != Kind::event) return false;
  if (entry.step != nullptr && is_step_fact(key)) {
    bool is_known = false;
    for_each_step_fact(*entry.step, [&](std::string_view fact, std::uint64_t value) {
      if (fact == key) number = value, is_known = true;
    });
    return is_known;
  }
  Attribute attribute;
  if (!find_attribute(entry, key, attribute)) return false;
  if (attribute.type == Attribute::Type::integer && attribute.integer >= 0) {
    number = static_cast<std::uint64_t>(attribute.integer);
    return true;
  }
  const double real = key.starts_with(kLatency) ? attribute.real * 1e9 : attribute.real;
  if (attribute.type != Attribute::Type::real || !(real >= 0 && real < 0x1p63)) return false;
  number = static_cast<std::uint64_t>(std::llround(real));
  return true;
}

bool percentage(std::uint64_t part, std::uint64_t whole, std::uint64_t& percent) {
  if (whole == 0 || part > whole) return false;
  percent = static_cast<std::uint64_t>(std::lround(100.0 * static_cast<double>(part) / static_cast<double>(whole)));
  return true;
}

// The quantity of an attribute, which owns its texts.
struct OfAttribute {
  OfAttribute(std::string_view name_of_it, std::string_view key_of_it)
      : name(name_of_it), key(key_of_it), of(key + " of spans and events") {}
  std::string name, key, of;
  Quantity quantity{name.c_str(), of.c_str(), Quantity::In::attribute, unit_of(key), key};
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
      {"duration", "duration of spans", In::span},
      {"ttft", "time to first token of spans", In::first_token},
      {"tool", "duration of tool calls", In::tool},
      {"engine", "duration of engine requests", In::engine},
      {"queue", "queue time of engine requests", In::queue},
      {"prefill", "prefill time of engine requests", In::prefill},
      {"decode", "decode time of engine requests", In::decode},
      {"retry", "delay of retries", In::retry},
      {"step-tokens", "tokens of engine steps", In::step_tokens, "tokens"},
      {"step-prefill", "prefill tokens of engine steps", In::step_prefill, "tokens"},
      {"step-decode", "decode tokens of engine steps", In::step_decode, "tokens"},
      {"batch-size", "requests of engine steps", In::batch_size, "requests"},
      {"tpot", "time per output token of engine requests", In::per_token},
      {"gap", "gaps between the tokens of spans", In::gap},
      {"token-gap", "time of each token since the one before it", In::token_gap},
      {"input-tokens", "input tokens of spans", In::input_tokens, "tokens"},
      {"output-tokens", "output tokens of spans", In::output_tokens, "tokens"},
      {"cache-hits", "share of the input tokens that came from a cache", In::cache_hits, "percent"},
      {"acceptance", "share of the drafted tokens that were accepted", In::acceptance, "percent"},
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
  if (quantity.in == Quantity::In::attribute) {
    measured.status = entry.status;
    measured.name = entry.name;
    return number_of_attribute(entry, quantity.attribute, measured.value);
  }
  const bool is_retry = quantity.in == Quantity::In::retry;
  if (entry.kind != (is_retry ? Kind::retry : Kind::span)) return false;
  if (quantity.is_of_step() && entry.step == nullptr) return false;
  measured.value = entry.duration_ns;
  measured.status = quantity.has_status() ? entry.status : kOk;
  measured.name = quantity.is_named_by_text() ? entry.text : entry.name;
  switch (quantity.in) {
    case Quantity::In::span:
      return true;
    case Quantity::In::first_token:
      measured.value = entry.first_token_ns;
      return entry.has_first_token;
    case Quantity::In::tool:
      return entry.counts_tool;
    case Quantity::In::engine:
      return entry.has_engine_times;
    case Quantity::In::queue:
      measured.value = entry.engine_times.queue_ns;
      return entry.has_engine_times;
    case Quantity::In::prefill:
      measured.value = entry.engine_times.prefill_ns;
      return entry.has_engine_times;
    case Quantity::In::decode:
      measured.value = entry.engine_times.decode_ns;
      return entry.has_engine_times;
    case Quantity::In::retry:
      measured.value = static_cast<std::uint64_t>(entry.value);
      return true;
    case Quantity::In::step_tokens:
      measured.value = saturating_sum(entry.step->prefill_tokens, entry.step->decode_tokens);
      return true;
    case Quantity::In::step_prefill:
      measured.value = entry.step->prefill_tokens;
      return true;
    case Quantity::In::step_decode:
      measured.value = entry.step->decode_tokens;
      return true;
    case Quantity::In::batch_size:
      measured.value = entry.step->batch_size;
      return true;
    case Quantity::In::per_token: {
      const auto time_ns = time_per_output_token_ns(entry);
      measured.value = time_ns.value_or(0);
      return time_ns.has_value();
    }
    case Quantity::In::input_tokens:
      measured.value = entry.usage.input;
      return entry.has_usage;
    case Quantity::In::output_tokens:
      measured.value = entry.usage.output;
      return entry.has_usage;
    case Quantity::In::cache_hits:
      return entry.has_usage && percentage(entry.usage.cached, entry.usage.input, measured.value);
    case Quantity::In::acceptance: {
      std::uint64_t accepted = 0, drafted = 0;
      return number_of_attribute(entry, "nopspan.accepted_tokens", accepted) &&
             number_of_attribute(entry, "nopspan.drafted_tokens", drafted) &&
             percentage(accepted, drafted, measured.value);
    }
    case Quantity::In::gap:
    case Quantity::In::token_gap:
    case Quantity::In::attribute:
      break;
  }
  return false;
}

}  // namespace nopspan::collector
