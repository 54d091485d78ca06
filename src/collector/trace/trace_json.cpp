// SPDX-License-Identifier: Apache-2.0
// A trace, and the counts of all traces, as JSON.
#include "model/entry_json.h"
#include "trace/trace_assembler.h"

#include <nlohmann/json.hpp>

#include <array>
#include <string_view>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<const char*, 6> kRootKinds = {"", "request", "remote", "orphan", "missing", "cycle"};
constexpr std::array<const char*, 5> kEnds = {"finished", "late", "evicted", "partial", "unfinished"};

Json process_json(const Process& process) {
  Json json = {{"pid", process.pid}, {"namespace_pid", process.namespace_pid}, {"comm", process.comm}};
  add_text(json, "executable", process.executable);
  add_text(json, "cgroup", process.cgroup);
  add_text(json, "container", process.container);
  add_text(json, "library", process.library);
  add_text(json, "library_version", process.library_version);
  add_text(json, "host", process.host);
  return json;
}

Json span_json(const Entry& entry, const TraceLinks& links, const TraceLinks::Node& node) {
  const RootKind root = node.root;
  Json json = {{"span_id", id_text(entry.span_id)}};
  if (entry.parent_id != 0) json["parent_id"] = id_text(entry.parent_id);
  if (root != RootKind::none) json["root"] = kRootKinds[static_cast<std::size_t>(root)];
  add_facts(json, entry);
  json["self_ns"] = links.self_ns(node);
  json["process"] = node.entry->process;
  json["thread_id"] = entry.thread_id;
  return json;
}

// A point event or a retry.
Json point_json(const Entry& point, const PackedEntry& packed) {
  Json json = {{"type", point.kind == Kind::retry ? "retry" : "event"}};
  add_facts(json, point);
  json["process"] = packed.process;
  json["thread_id"] = point.thread_id;
  return json;
}

Json linked_json(const Trace& trace, const LinkedSpans& linked) {
  Json json = {{"name", trace.text(linked.name)},     {"span_id", id_text(linked.linked_id)},
               {"process", linked.process},           {"count", linked.times.count()},
               {"error_count", linked.failed},        {"start_unix_ns", linked.start_unix_ns},
               {"end_unix_ns", linked.end_unix_ns},   {"sum_ns", linked.times.sum()},
               {"min_ns", linked.times.minimum()},    {"p50_ns", linked.times.quantile(50)},
               {"p99_ns", linked.times.quantile(99)}, {"max_ns", linked.times.maximum()}};
  for (const LinkedSpan& entry : linked.each) {
    json["spans"].push_back({{"trace_id", id_text(entry.trace_id)},
                             {"span_id", id_text(entry.span_id)},
                             {"start_unix_ns", entry.start_unix_ns},
                             {"duration_ns", entry.duration_ns},
                             {"status", status_name(entry.status)},
                             {"requests", entry.requests}});
  }
  return json;
}

}  // namespace

nlohmann::ordered_json to_json(const AssembledTrace& assembled) {
  const Trace& trace = assembled.trace;
  const TraceLinks& links = assembled.links;
  Json spans = Json::array();
  Json events = Json::array();  // events whose span is not in the trace
  std::size_t failed = 0;
  constexpr std::size_t kNowhere = SIZE_MAX;
  std::vector<std::size_t> place(links.nodes().size(), kNowhere);  // index in `spans` of each node
  for (const std::uint32_t i : links.preorder()) {
    const TraceLinks::Node& node = links.nodes()[i];
    const Entry entry = trace.view(*node.entry);
    if (entry.kind == Kind::span) {
      place[i] = spans.size();
      spans.push_back(span_json(entry, links, node));
      failed += entry.failed() ? 1 : 0;
      continue;
    }
    Json point = point_json(entry, *node.entry);
    if (node.parent != TraceLinks::kNone) {
      spans[place[node.parent]]["events"].push_back(std::move(point));
    } else {
      if (entry.span_id != 0) point["span_id"] = id_text(entry.span_id);
      events.push_back(std::move(point));
    }
  }
  Json processes = Json::array();
  for (const ProcessPointer& process : trace.processes()) processes.push_back(process_json(*process));
  Json json = {{"type", "trace"},
               {"request_id", trace.request_id()},
               {"trace_id", id_text(trace.id())},
               {"end", kEnds[static_cast<std::size_t>(assembled.end)]},
               {"start_unix_ns", links.start_unix_ns()},
               {"duration_ns", links.end_unix_ns() - links.start_unix_ns()},
               {"span_count", spans.size()},
               {"error_count", failed + assembled.over_limit_failed},
               {"over_limit", assembled.over_limit},
               {"duplicates", links.duplicates()},
               {"processes", std::move(processes)},
               {"spans", std::move(spans)}};
  if (!events.empty()) json["events"] = std::move(events);
  for (const auto& linked : trace.linked()) json["linked"].push_back(linked_json(trace, *linked));
  return json;
}

nlohmann::ordered_json to_json(const TraceCounts& counts) {
  return {{"entries", counts.entries},
          {"outside", counts.outside},
          {"duplicates", counts.duplicates},
          {"over_limit", counts.over_limit},
          {"assembled", counts.assembled},
          {"held", counts.held},
          {"late", counts.late},
          {"finished", counts.finished},
          {"late_parts", counts.late_parts},
          {"evicted", counts.evicted},
          {"partial", counts.partial},
          {"unfinished", counts.unfinished},
          {"hurried", counts.hurried},
          {"conflicts", counts.conflicts},
          {"cycles", counts.cycles},
          {"linked", counts.linked},
          {"links",
           {{"all", counts.links.all},
            {"joined", counts.links.joined},
            {"late", counts.links.late},
            {"unknown", counts.links.unknown},
            {"filtered", counts.links.filtered},
            {"over_limit", counts.links.over_limit},
            {"held", counts.links.held}}}};
}

}  // namespace nopspan::collector
