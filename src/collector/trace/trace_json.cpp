// SPDX-License-Identifier: Apache-2.0
// A trace, and the counts of all traces, as JSON.
#include "model/entry_json.h"
#include "model/service.h"
#include "trace/trace_assembler.h"

#include <nlohmann/json.hpp>

#include <array>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::array<const char*, 6> kRootKinds = {"", "request", "remote", "orphan", "missing", "cycle"};
constexpr std::array<const char*, 5> kEnds = {"finished", "late", "evicted", "partial", "unfinished"};

void write_process(JsonWriter& json, const Process& process) {
  json.begin_object();
  json.number("pid", std::uint64_t{process.pid});
  json.number("namespace_pid", std::uint64_t{process.namespace_pid});
  json.text("comm", process.comm);
  json.text_unless_empty("executable", process.executable);
  json.text_unless_empty("cgroup", process.cgroup);
  json.text_unless_empty("container", process.container);
  json.text_unless_empty("library", process.library);
  json.text_unless_empty("library_version", process.library_version);
  json.text_unless_empty("host", process.host);
  json.key("resource");
  json.begin_object();
  json.text("service.name", service_of(process));
  each_declared(process, [&](std::string_view key, std::string_view value) {
    if (key == "service.name") return;
    json.key_text(key);
    json.text(value);
  });
  json.end_object();
  json.end_object();
}

void write_place(JsonWriter& json, const PackedEntry& packed) {
  json.number("process", std::uint64_t{packed.process});
  json.number("thread_id", std::uint64_t{packed.thread_id});
}

// Writes the point events and retries of a list of siblings as the array `events`, unless there are none.
// `have_no_span`: their spans are not in the trace.
void write_points(JsonWriter& json, const Trace& trace, const TraceLinks& links, std::uint32_t first,
                  bool have_no_span) {
  bool has_any = false;
  for (std::uint32_t i = first; i != TraceLinks::kNone; i = links.nodes()[i].next_sibling) {
    const PackedEntry& packed = *links.nodes()[i].entry;
    if (packed.is_span()) continue;
    if (!std::exchange(has_any, true)) {
      json.key("events");
      json.begin_array();
    }
    const Entry point = trace.view(packed);
    json.begin_object();
    json.text("type", point.kind == Kind::retry ? "retry" : "event");
    write_facts(json, point);
    write_place(json, packed);
    if (have_no_span && point.span_id != 0) json.id("span_id", point.span_id);
    json.end_object();
  }
  if (has_any) json.end_array();
}

void write_span(JsonWriter& json, const Trace& trace, const TraceLinks& links, const TraceLinks::Node& node) {
  const Entry entry = trace.view(*node.entry);
  json.begin_object();
  json.id("span_id", entry.span_id);
  if (entry.parent_id != 0) json.id("parent_id", entry.parent_id);
  if (node.root != RootKind::none) json.text("root", kRootKinds[static_cast<std::size_t>(node.root)]);
  write_facts(json, entry);
  json.number("self_ns", links.self_ns(node));
  write_place(json, *node.entry);
  write_points(json, trace, links, node.first_child, false);
  json.end_object();
}

void write_longest(JsonWriter& json, const LongestStep& longest) {
  json.key("longest");
  json.begin_object();
  json.id("span_id", longest.step.span_id);
  json.number("start_unix_ns", longest.step.start_unix_ns);
  json.number("duration_ns", longest.step.duration_ns);
  json.number("requests", std::uint64_t{longest.step.requests});
  json.number("prefill_tokens", longest.step.prefill_tokens);
  json.number("own_prefill_tokens", longest.own_prefill_tokens);
  if (longest.most_prefill_tokens > 0) {
    json.key("most");
    json.begin_object();
    json.number("prefill_tokens", longest.most_prefill_tokens);
    if (longest.most_id != 0) json.id("span_id", longest.most_id);
    json.text_unless_empty("request_id", longest.most_request);
    json.text_unless_empty("tenant", longest.most_tenant);
    json.end_object();
  }
  json.end_object();
}

void write_linked(JsonWriter& json, const Trace& trace, const LinkedSpans& linked) {
  json.begin_object();
  json.text("name", trace.text(linked.name));
  json.id("span_id", linked.linked_id);
  json.number("process", std::uint64_t{linked.process});
  json.number("count", linked.times.count());
  json.number("error_count", std::uint64_t{linked.failed});
  json.number("start_unix_ns", linked.start_unix_ns);
  json.number("end_unix_ns", linked.end_unix_ns);
  json.number("sum_ns", linked.times.sum());
  json.number("min_ns", linked.times.minimum());
  json.number("p50_ns", linked.times.quantile(50));
  json.number("p99_ns", linked.times.quantile(99));
  json.number("max_ns", linked.times.maximum());
  if (linked.is_of_steps) {
    json.number("prefill_tokens", linked.tokens.prefill);
    json.number("decode_tokens", linked.tokens.decode);
    json.number("drafted_tokens", linked.tokens.drafted);
    json.number("accepted_tokens", linked.tokens.accepted);
    write_longest(json, linked.longest);
  }
  if (!linked.each.empty()) {
    json.key("spans");
    json.begin_array();
    for (const LinkedSpan& entry : linked.each) {
      json.begin_object();
      write_id(json, entry.trace_id);
      json.id("span_id", entry.span_id);
      json.number("start_unix_ns", entry.start_unix_ns);
      json.number("duration_ns", entry.duration_ns);
      json.text("status", status_name(entry.status));
      json.number("requests", std::uint64_t{entry.requests});
      if (linked.is_of_steps) {
        json.number("instance", entry.instance);
        json.number("number", entry.number);
      }
      json.end_object();
    }
    json.end_array();
  }
  json.end_object();
}

}  // namespace

void write_json(JsonWriter& json, const AssembledTrace& assembled) {
  const Trace& trace = assembled.trace;
  const TraceLinks& links = assembled.links;
  const auto& nodes = links.nodes();
  json.begin_object();
  json.text("type", "trace");
  json.text("request_id", trace.request_id());
  write_id(json, trace.id());
  json.text("end", kEnds[static_cast<std::size_t>(assembled.end)]);
  json.number("start_unix_ns", links.start_unix_ns());
  json.number("duration_ns", links.end_unix_ns() - links.start_unix_ns());
  json.number("span_count", links.spans());
  json.number("error_count", links.failed() + assembled.over_limit_failed);
  json.number("over_limit", std::uint64_t{assembled.over_limit});
  json.number("duplicates", std::uint64_t{links.duplicates()});
  json.key("processes");
  json.begin_array();
  for (const ProcessPointer& process : trace.processes()) write_process(json, *process);
  json.end_array();
  json.key("spans");
  json.begin_array();
  for (std::uint32_t i = links.first_root(); i != TraceLinks::kNone; i = links.next_before_children(i)) {
    if (nodes[i].entry->is_span()) write_span(json, trace, links, nodes[i]);
  }
  json.end_array();
  write_points(json, trace, links, links.first_root(), true);
  if (!trace.linked().empty()) {
    json.key("linked");
    json.begin_array();
    for (const auto& linked : trace.linked()) write_linked(json, trace, *linked);
    json.end_array();
  }
  json.end_object();
}

nlohmann::ordered_json to_json(const TraceCounts& counts, const StepCounts& steps) {
  const auto joined = [](const JoinCounts& of, bool is_filtered) {
    nlohmann::ordered_json json = {{"all", of.all}, {"joined", of.joined}, {"late", of.late}, {"unknown", of.unknown}};
    if (is_filtered) json["filtered"] = of.filtered;
    json["over_limit"] = of.over_limit;
    json["held"] = of.held;
    return json;
  };
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
          {"links", joined(counts.links, true)},
          {"step_entries", counts.steps},
          {"steps",
           {{"all", steps.all},
            {"members", joined(steps.members, false)},
            {"inside", joined(steps.inside, false)},
            {"dropped", steps.dropped},
            {"missing", steps.missing},
            {"stray", steps.stray},
            {"requests_by_own_key", steps.by_own_key},
            {"requests_not_ended", steps.not_ended},
            {"requests_by_trace_id", steps.by_trace_id}}}};
}

}  // namespace nopspan::collector
