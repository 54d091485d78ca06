// SPDX-License-Identifier: Apache-2.0
#include "hist/hist_quantity.h"

#include <nopspan/probes.h>

#include <algorithm>

namespace nopspan::collector {

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
  };
  return all;
}

const Quantity* find_quantity(std::string_view name) {
  const auto& all = quantities();
  const auto found = std::find_if(all.begin(), all.end(), [&](const Quantity& one) { return one.name == name; });
  return found == all.end() ? nullptr : &*found;
}

bool measure(const Entry& entry, const Quantity& quantity, Measured& measured) {
  const bool is_retry = quantity.in == Quantity::In::retry;
  if (entry.kind != (is_retry ? Kind::retry : Kind::span)) return false;
  if (!quantity.is_time() && entry.step == nullptr) return false;
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
      measured.value = entry.step->prefill_tokens + entry.step->decode_tokens;
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
  }
  return false;
}

}  // namespace nopspan::collector
