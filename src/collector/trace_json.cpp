// SPDX-License-Identifier: Apache-2.0
#include "trace_json.h"

#include "attributes_json.h"
#include "otlp_attributes.h"
#include "text.h"

#include <nopspan_probes.h>

#include <nlohmann/json.hpp>

#include <array>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

namespace nopspan::collector {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<const char*, 4> kStatuses = {"ok", "error", "cancelled", "exception"};
constexpr std::array<const char*, 6> kKinds = {"unspecified", "internal", "server", "client", "producer", "consumer"};
constexpr std::array<const char*, 6> kTops = {"", "root", "remote", "orphan", "missing", "circle"};
constexpr std::array<const char*, 4> kEnds = {"finished", "late", "evicted", "unfinished"};

template <std::size_t N>
const char* name_in(const std::array<const char*, N>& names, std::size_t index) {
  return index < N ? names[index] : "unknown";
}

std::string id_text(std::uint64_t id) {
  // As in OTLP: the bytes in the order in which a traceparent has them, the highest first.
  char bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(id >> (56 - 8 * i));
  return hex_text({bytes, sizeof(bytes)});
}

std::string id_text(const char* trace_id) { return hex_text({trace_id, sizeof(TraceId::bytes)}); }
std::string id_text(const TraceId& id) { return id_text(reinterpret_cast<const char*>(id.bytes)); }

void add_text(Json& object, const char* key, std::string_view text) {
  if (!text.empty()) object[key] = text;
}

Json process_json(const Process& process) {
  Json json = {{"pid", process.pid}, {"namespace_pid", process.namespace_pid}, {"command", process.command}};
  add_text(json, "executable", process.executable);
  add_text(json, "cgroup", process.cgroup);
  add_text(json, "container", process.container);
  add_text(json, "library", process.library);
  add_text(json, "library_version", process.library_version);
  add_text(json, "host", process.host);
  return json;
}

Json links_json(std::string_view links) {
  Json list = Json::array();
  for (; links.size() >= sizeof(nopspan_link); links.remove_prefix(sizeof(nopspan_link))) {
    nopspan_link link;
    std::memcpy(&link, links.data(), sizeof(link));
    list.push_back({{"trace_id", id_text(link.trace_id)}, {"span_id", id_text(link.span_id)}});
  }
  return list;
}

void add_attributes(Json& object, const Span& span) {
  if (span.attributes.empty()) return;
  bool malformed = false;
  object["attributes"] =
      attributes_json(span.attributes, span.kind == Kind::span ? kSpanAttributes : kEventAttributes, malformed);
  if (malformed) object["attributes_malformed"] = true;
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

Json span_json(const Span& span, const TraceEntry& entry, Top top) {
  Json json = {{"span_id", id_text(span.span_id)}};
  json["parent_id"] = span.parent_id == 0 ? Json() : Json(id_text(span.parent_id));
  if (top != Top::none) json["top"] = name_in(kTops, static_cast<std::size_t>(top));
  json["name"] = span.name;
  if (const std::uint32_t kind = (span.flags & NOPSPAN_FLAG_KIND_MASK) >> NOPSPAN_FLAG_KIND_SHIFT; kind != 0) {
    json["kind"] = name_in(kKinds, kind);
  }
  json["start_unix_ns"] = span.start_unix_ns;
  json["duration_ns"] = span.duration_ns;
  json["status"] = name_in(kStatuses, span.status);
  add_text(json, "error_type", span.error_type);
  add_text(json, "exception_kind", span.exception_kind);
  add_text(json, "engine", span.engine);
  add_text(json, "model", span.model);
  add_text(json, "tenant", span.tenant);
  add_text(json, "tool", span.text);
  add_measures(json, span);
  json["process"] = entry.process;
  json["thread_id"] = span.thread_id;
  add_flags(json, span);
  add_text(json, "tracestate", span.tracestate);
  add_attributes(json, span);
  if (!span.links.empty()) json["links"] = links_json(span.links);
  return json;
}

// An event or a retry.
Json point_json(const Span& point, const TraceEntry& entry) {
  const bool retry = point.kind == Kind::retry;
  Json json = {{"type", retry ? "retry" : "event"}, {"name", point.name}, {"time_unix_ns", point.start_unix_ns}};
  if (retry) {
    json["attempt"] = point.number;
    json["delay_ns"] = point.value;
    add_text(json, "reason", point.error_type);
  }
  json["process"] = entry.process;
  json["thread_id"] = point.thread_id;
  add_attributes(json, point);
  return json;
}

}  // namespace

nlohmann::ordered_json to_json(const AssembledTrace& assembled) {
  const Trace& trace = assembled.trace;
  const TraceLinks& links = assembled.links;
  Json spans = Json::array();
  Json events = Json::array();  // whose span is not here
  std::size_t failed = 0;
  constexpr std::size_t kNowhere = SIZE_MAX;
  std::vector<std::size_t> place(links.nodes().size(), kNowhere);  // of a node in `spans`
  for (const std::uint32_t i : links.preorder()) {
    const TraceLinks::Node& node = links.nodes()[i];
    const Span span = trace.view(*node.entry);
    if (span.kind == Kind::span) {
      place[i] = spans.size();
      spans.push_back(span_json(span, *node.entry, node.top));
      failed += span.failed() ? 1 : 0;
      continue;
    }
    Json point = point_json(span, *node.entry);
    if (node.parent != TraceLinks::kNone) {
      spans[place[node.parent]]["events"].push_back(std::move(point));
    } else {
      if (span.span_id != 0) point["span_id"] = id_text(span.span_id);
      events.push_back(std::move(point));
    }
  }
  Json processes = Json::array();
  for (const ProcessPointer& process : trace.processes()) processes.push_back(process_json(*process));
  Json json = {{"type", "trace"},
               {"request_id", trace.request_id()},
               {"trace_id", id_text(trace.id())},
               {"end", name_in(kEnds, static_cast<std::size_t>(assembled.end))},
               {"start_unix_ns", links.start_unix_ns()},
               {"duration_ns", links.end_unix_ns() - links.start_unix_ns()},
               {"span_count", spans.size()},
               {"error_count", failed + assembled.over_limit_failed},
               {"over_limit", assembled.over_limit},
               {"duplicates", links.duplicates()},
               {"processes", std::move(processes)},
               {"spans", std::move(spans)}};
  if (!events.empty()) json["events"] = std::move(events);
  return json;
}

nlohmann::ordered_json to_json(const TraceCounts& counts) {
  return {{"entries", counts.entries},
          {"outside", counts.outside},
          {"duplicates", counts.duplicates},
          {"over_limit", counts.over_limit},
          {"handed_over", counts.handed_over},
          {"held", counts.held},
          {"late", counts.late},
          {"finished", counts.finished},
          {"late_parts", counts.late_parts},
          {"evicted", counts.evicted},
          {"unfinished", counts.unfinished},
          {"hurried", counts.hurried},
          {"conflicts", counts.conflicts},
          {"circles", counts.circles}};
}

}  // namespace nopspan::collector
