// SPDX-License-Identifier: Apache-2.0
#include "hist/hist_quantity.h"

#include <hist_events.h>
#include <nopspan/probes.h>

#include <algorithm>
#include <cstddef>

namespace nopspan::collector {

const std::vector<Quantity>& quantities() {
  using In = Quantity::In;
  static const std::vector<Quantity> all = {
      {"duration", "duration of spans", "span_stop", In::span, 0, NOPSPAN_HIST_STATUS_ARGUMENT},
      {"first-token", "time to the first token of spans", "first_token", In::first_token, 0, NOPSPAN_HIST_NO_STATUS},
      {"tool", "duration of tool calls", "tool_call", In::tool, 0, NOPSPAN_HIST_STATUS_ARGUMENT},
      {"engine", "duration of engine requests", "engine_request", In::engine, 0, NOPSPAN_HIST_STATUS_RECORD},
      {"queue", "queue time of engine requests", "engine_request", In::queue, offsetof(nopspan_engine, queue_ns),
       NOPSPAN_HIST_STATUS_RECORD},
      {"prefill", "prefill time of engine requests", "engine_request", In::prefill,
       offsetof(nopspan_engine, prefill_ns), NOPSPAN_HIST_STATUS_RECORD},
      {"decode", "decode time of engine requests", "engine_request", In::decode, offsetof(nopspan_engine, decode_ns),
       NOPSPAN_HIST_STATUS_RECORD},
      {"retry", "delay of retries", "retry", In::retry, 0, NOPSPAN_HIST_NO_STATUS},
  };
  return all;
}

const Quantity* find_quantity(std::string_view name) {
  const auto& all = quantities();
  const auto found = std::find_if(all.begin(), all.end(), [&](const Quantity& one) { return one.name == name; });
  return found == all.end() ? nullptr : &*found;
}

const std::vector<KeyPart>& key_parts() {
  static const std::vector<KeyPart> all = {{"name", NOPSPAN_HIST_NAME},
                                           {"model", NOPSPAN_HIST_MODEL},
                                           {"tenant", NOPSPAN_HIST_TENANT},
                                           {"engine", NOPSPAN_HIST_ENGINE}};
  return all;
}

const KeyPart* find_key_part(std::string_view name) {
  const auto& all = key_parts();
  const auto found = std::find_if(all.begin(), all.end(), [&](const KeyPart& one) { return one.name == name; });
  return found == all.end() ? nullptr : &*found;
}

bool measure(const Span& span, const Quantity& quantity, Measured& measured) {
  measured = {span.duration_ns, span.status, span.name};
  if (quantity.in == Quantity::In::retry) {
    measured = {static_cast<std::uint64_t>(span.value), kOk, span.text};
    return span.kind == Kind::retry;
  }
  if (span.kind != Kind::span) return false;
  switch (quantity.in) {
    case Quantity::In::span:
      return true;
    case Quantity::In::first_token:
      measured.value = span.first_token_ns;
      measured.status = kOk;  // it is not known yet when the token comes
      return span.has_first_token;
    case Quantity::In::tool:
      measured.name = span.text;
      return span.tells_tool;
    case Quantity::In::engine:
      return span.has_engine_times;
    case Quantity::In::queue:
      measured.value = span.engine_times.queue_ns;
      return span.has_engine_times;
    case Quantity::In::prefill:
      measured.value = span.engine_times.prefill_ns;
      return span.has_engine_times;
    case Quantity::In::decode:
      measured.value = span.engine_times.decode_ns;
      return span.has_engine_times;
    case Quantity::In::retry:
      break;
  }
  return false;
}

std::string_view text_of(const Span& span, const Measured& measured, const KeyPart& part) {
  switch (part.number) {
    case NOPSPAN_HIST_NAME:
      return measured.name;
    case NOPSPAN_HIST_MODEL:
      return span.model;
    case NOPSPAN_HIST_TENANT:
      return span.tenant;
    default:
      return span.engine;
  }
}

}  // namespace nopspan::collector
