// SPDX-License-Identifier: Apache-2.0
#include "model/span_json.h"

#include "base/text.h"
#include "model/attributes_json.h"
#include "model/otlp_attributes.h"
#include "model/span_links.h"

#include <nopspan/probes.h>
#include <nlohmann/json.hpp>

#include <array>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

namespace nopspan::collector {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<const char*, 4> kTypes = {"span", "event", "retry", "gauge"};
constexpr std::array<const char*, 4> kStatuses = {"ok", "error", "cancelled", "exception"};
constexpr std::array<const char*, 6> kKinds = {"unspecified", "internal", "server", "client", "producer", "consumer"};

template <std::size_t N>
const char* name_in(const std::array<const char*, N>& names, std::size_t index) {
  return index < N ? names[index] : "unknown";
}

Json links_json(std::string_view links) {
  Json list = Json::array();
  for_each_link(links, [&](const SpanLink& link) {
    list.push_back({{"trace_id", id_text(link.trace_id)}, {"span_id", id_text(link.span_id)}});
  });
  return list;
}

void add_flags(Json& object, const Span& span) {
  constexpr std::pair<std::uint32_t, const char*> kFlags[] = {
      {NOPSPAN_FLAG_ORPHAN, "orphan"},
      {NOPSPAN_FLAG_REMOTE_PARENT, "remote_parent"},
      {NOPSPAN_FLAG_FOREIGN_ID, "foreign_id"},
      {NOPSPAN_FLAG_ABANDONED, "abandoned"},
      {NOPSPAN_FLAG_ATTRIBUTES_DROPPED, "attributes_dropped"},
      {NOPSPAN_FLAG_LINKS_DROPPED, "links_dropped"},
      {NOPSPAN_FLAG_SAMPLED, "sampled"},
      {NOPSPAN_FLAG_GIVEN_TIMES, "given_times"},
      {NOPSPAN_FLAG_ASYNC, "async"},
  };
  Json names = Json::array();
  for (const auto& [flag, name] : kFlags) {
    if ((span.flags & flag) != 0) names.push_back(name);
  }
  if (!names.empty()) object["flags"] = std::move(names);
}

void add_measures(Json& object, const Span& span) {
  if (span.has_usage) {
    object["usage"] = {{"input", span.usage.input},
                       {"output", span.usage.output},
                       {"cached", span.usage.cached},
                       {"reasoning", span.usage.reasoning}};
  }
  if (span.has_first_token) object["first_token_ns"] = span.first_token_ns;
  if (!span.has_engine_times) return;
  const EngineTimes& times = span.engine_times;
  object["engine_times"] = {{"arrival_ns", times.arrival_ns},         {"queue_ns", times.queue_ns},
                            {"prefill_ns", times.prefill_ns},         {"decode_ns", times.decode_ns},
                            {"prefill_tokens", times.prefill_tokens}, {"decode_tokens", times.decode_tokens},
                            {"preemptions", times.preemptions}};
}

void add_times(Json& json, const Span& span) {
  if (span.kind != Kind::span) {
    json["time_unix_ns"] = span.start_unix_ns;
    return;
  }
  if (const std::uint32_t kind = (span.flags & NOPSPAN_FLAG_KIND_MASK) >> NOPSPAN_FLAG_KIND_SHIFT; kind != 0) {
    json["kind"] = name_in(kKinds, kind);
  }
  json["start_unix_ns"] = span.start_unix_ns;
  json["duration_ns"] = span.duration_ns;
  json["status"] = status_name(span.status);
}

void add_values(Json& json, const Span& span) {
  if (span.kind == Kind::retry) {
    json["attempt"] = span.number;
    json["delay_ns"] = span.value;
  } else if (span.kind == Kind::gauge) {
    json["value"] = span.value;
    if (span.number != 0) json["maximum"] = span.number;
  }
}

}  // namespace

const char* status_name(std::uint8_t status) { return name_in(kStatuses, status); }

void add_text(nlohmann::ordered_json& json, const char* key, std::string_view text) {
  if (!text.empty()) json[key] = text;
}

std::string id_text(std::uint64_t id) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text(16, '0');
  for (std::size_t i = text.size(); i-- > 0; id >>= 4U) text[i] = kDigits[id & 15U];
  return text;
}

std::string id_text(const TraceId& id) { return hex_text({reinterpret_cast<const char*>(id.bytes), sizeof(id.bytes)}); }

void add_facts(nlohmann::ordered_json& json, const Span& span) {
  json["name"] = span.name;
  add_times(json, span);
  add_values(json, span);
  add_text(json, span.kind == Kind::retry ? "reason" : "error_type", span.error_type);
  add_text(json, "exception_kind", span.exception_kind);
  add_text(json, "engine", span.engine);
  add_text(json, "model", span.model);
  add_text(json, "tenant", span.tenant);
  add_text(json, span.kind == Kind::span ? "tool" : "span", span.text);
  add_measures(json, span);
  add_flags(json, span);
  add_text(json, "tracestate", span.tracestate);
  if (!span.attributes.empty()) {
    bool malformed = false;
    json["attributes"] =
        attributes_json(span.attributes, span.kind == Kind::span ? kSpanAttributes : kEventAttributes, malformed);
    if (malformed) json["attributes_malformed"] = true;
  }
  if (!span.links.empty()) json["links"] = links_json(span.links);
}

nlohmann::ordered_json to_json(const Span& span) {
  Json json = {{"type", name_in(kTypes, static_cast<std::size_t>(span.kind))}};
  if (!span.trace_id.empty()) {
    json["request_id"] = request_id_of(span);
    json["trace_id"] = id_text(span.trace_id);
  }
  if (span.span_id != 0) json["span_id"] = id_text(span.span_id);
  if (span.parent_id != 0) json["parent_id"] = id_text(span.parent_id);
  if (span.root_id != 0) json["root_id"] = id_text(span.root_id);
  add_facts(json, span);
  const Process& process = **span.process;
  json["pid"] = process.pid;
  json["command"] = process.command;
  add_text(json, "container", process.container);
  add_text(json, "host", process.host);
  json["thread_id"] = span.thread_id;
  json["sequence_id"] = id_text(span.sequence_id);
  json["sequence"] = span.sequence;
  return json;
}

}  // namespace nopspan::collector
