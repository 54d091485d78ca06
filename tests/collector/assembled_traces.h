// SPDX-License-Identifier: Apache-2.0
// Spans for the tests of the trace assembler, and what the assembler made of them.
#pragma once

#include "adds_up.h"
#include "parsed_json.h"
#include "trace/trace_assembler.h"
#include "trace/trace_tree.h"

#include <gtest/gtest.h>
#include <nopspan/probes.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <iterator>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nopspan::collector {

constexpr std::uint64_t kMillisecond = 1'000'000;
constexpr std::uint64_t kBegin = 1'700'000'000 * kSecond;  // Unix time

inline TraceId trace_number(std::uint8_t number) {
  TraceId id;
  id.bytes[0] = number;
  id.bytes[15] = 1;
  return id;
}

inline ProcessPointer process_number(std::uint32_t pid, const std::string& comm = "service") {
  auto process = std::make_shared<Process>();
  process->pid = process->namespace_pid = pid;
  process->start_ticks = 100;
  process->comm = comm;
  return process;
}

// A span of trace 1, thread and process 7, 1 s long.
inline Entry span_of(std::uint64_t id, std::uint64_t parent, std::string_view name = "step") {
  static const ProcessPointer process = process_number(7);
  Entry entry;
  entry.trace_id = trace_number(1);
  entry.span_id = id;
  entry.parent_id = parent;
  entry.root_id = 1;
  entry.start_unix_ns = kBegin + id;
  entry.duration_ns = kSecond;
  entry.name = name;
  entry.thread_id = 7;
  entry.process = &process;
  return entry;
}

inline Entry event_of(std::uint64_t span_id, std::string_view name = "said") {
  Entry event = span_of(span_id, 0, name);
  event.kind = Kind::event;
  event.duration_ns = 0;
  return event;
}

inline Entry in_trace(std::uint8_t number, Entry entry) {
  entry.trace_id = trace_number(number);
  return entry;
}
// `process` must live as long as the entry.
inline Entry of_process(const ProcessPointer& process, Entry entry) {
  entry.process = &process;
  return entry;
}

// Keeps bytes to which entries refer.
inline std::string_view kept_bytes(std::string bytes) {
  static std::deque<std::string> all;
  return all.emplace_back(std::move(bytes));
}

inline std::string_view links_to(const std::vector<std::pair<TraceId, std::uint64_t>>& targets) {
  std::string bytes;
  for (const auto& [trace, span_id] : targets) {
    nopspan_link link{};
    std::copy(std::begin(trace.bytes), std::end(trace.bytes), std::begin(link.trace_id));
    link.span_id = span_id;
    bytes.append(reinterpret_cast<const char*>(&link), sizeof(link));
  }
  return kept_bytes(std::move(bytes));
}

// A linked span: a span without a parent, in a trace of its own, with links to requests.
inline Entry linked_span(std::uint64_t id, std::string_view links, std::string_view name = "engine.step") {
  Entry entry = span_of(id, 0, name);
  entry.trace_id = TraceId();
  for (std::size_t i = 0; i < 8; ++i) entry.trace_id.bytes[8 + i] = static_cast<unsigned char>(id >> (8 * i));
  entry.root_id = id;
  entry.duration_ns = kMillisecond;
  entry.links = links;
  return entry;
}

// The bytes of members that did one decode token each.
inline std::string_view members_for(const std::vector<std::uint64_t>& requests, bool have_own_keys = false) {
  std::string bytes;
  for (const std::uint64_t request : requests) {
    nopspan_member member{};
    member.request = request;
    member.decode_tokens = 1;
    member.flags = have_own_keys ? NOPSPAN_MEMBER_OWN_KEY : 0;
    bytes.append(reinterpret_cast<const char*>(&member), sizeof(member));
  }
  return kept_bytes(std::move(bytes));
}

// A step without a parent. `facts` must have its number of members.
inline Entry step_of(std::uint64_t id, std::string_view members, const nopspan_step& facts) {
  Entry entry = linked_span(id, "", "engine.step");
  entry.step = &facts;
  entry.members = members;
  return entry;
}
inline Entry part_of(std::uint64_t id, std::string_view members, std::uint64_t before) {
  Entry entry = linked_span(id, "", "");
  entry.kind = Kind::part;
  entry.members = members;
  entry.number = before;
  return entry;
}

// A trace that the assembler delivered.
struct Seen {
  TraceId id;
  TraceEnd end;
  std::uint32_t marks;
  std::size_t over_limit, over_limit_failed, duplicates, conflicts, cycles;
  std::uint64_t duration_ns, longest_root_ns;
  bool earlier_part_was_shown, before_attach;
  std::map<std::uint64_t, std::uint64_t> parents;  // of each span. 0: the span is a root
  std::map<std::uint64_t, RootKind> roots;
  std::map<std::string, std::uint64_t> events;                            // the span of each event. 0: none
  std::map<std::string, std::pair<std::uint64_t, std::uint64_t>> linked;  // linked span: target, requests
  std::string text;
  nlohmann::ordered_json json;
};

// An assembler with a clock. It records the traces that the assembler delivers.
class Assembly {
 public:
  explicit Assembly(const TraceLimits& limits = {}, TraceAssembler::Mark mark = {}, TraceAssembler::Wants wants = {})
      : assembler(
            limits, std::move(mark), [this](const AssembledTrace& trace) { return take(trace); }, std::move(wants)) {}

  ~Assembly() { EXPECT_TRUE(adds_up()); }
  Assembly(const Assembly&) = delete;
  Assembly& operator=(const Assembly&) = delete;

  template <class... Entries>
  void add(const Entries&... entries) {
    (assembler.add(entries), ...);
  }
  // Lets time pass without any new entry.
  void wait(std::uint64_t ns) {
    constexpr std::uint64_t kStep = 100 * kMillisecond;
    for (; ns >= kStep; ns -= kStep) assembler.tick(now += kStep);
    assembler.tick(now += ns);
  }
  [[nodiscard]] bool adds_up() const { return collector::adds_up(assembler); }
  // The trace that was delivered. If there is not exactly one, the test fails and ends.
  [[nodiscard]] const Seen& only() const {
    if (seen.size() != 1) throw std::runtime_error(std::to_string(seen.size()) + " traces");
    return seen[0];
  }

  std::vector<Seen> seen;
  TreeStyle style;
  bool shows = true;     // what the caller answers when it receives a trace
  bool draws = false;    // also renders each trace as text
  bool encodes = false;  // also renders each trace as JSON
  std::uint64_t now = kBegin;
  TraceAssembler assembler;

 private:
  bool take(const AssembledTrace& trace);
};

inline bool Assembly::take(const AssembledTrace& trace) {
  const TraceLinks& links = trace.links;
  Seen one{trace.trace.id(),
           trace.end,
           trace.marks,
           trace.over_limit,
           trace.over_limit_failed,
           links.duplicates(),
           links.conflicts(),
           links.cycles(),
           links.end_unix_ns() - links.start_unix_ns(),
           links.longest_root_ns(),
           trace.earlier_part_was_shown,
           trace.before_attach,
           {},
           {},
           {},
           {},
           {},
           {}};
  for (const TraceLinks::Node& node : links.nodes()) {
    const std::uint64_t parent = node.parent == TraceLinks::kNone ? 0 : links.nodes()[node.parent].entry->span_id;
    if (node.entry->is_span()) {
      one.parents[node.entry->span_id] = parent;
      if (node.parent == TraceLinks::kNone) one.roots[node.entry->span_id] = node.root;
    } else {
      one.events[std::string(trace.trace.text(node.entry->name))] = parent;
    }
  }
  for (const auto& linked : trace.trace.linked()) {
    one.linked[std::string(trace.trace.text(linked->name))] = {linked->linked_id, linked->times.count()};
  }
  if (draws) add_trace_text(trace, style, one.text);
  if (encodes) {
    JsonWriter json;
    write_json(json, trace);
    one.json = parsed(json);
  }
  seen.push_back(std::move(one));
  return shows;
}

}  // namespace nopspan::collector
