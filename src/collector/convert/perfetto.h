// SPDX-License-Identifier: Apache-2.0
// Writes a trace for Perfetto (ui.perfetto.dev, trace_processor): requests, steps of engines, gauges. The messages are
// those of protos/perfetto/trace/perfetto_trace.proto.
#pragma once

#include "export/exported_attributes.h"
#include "model/entry.h"
#include "model/ledger.h"
#include "stream/clock_map.h"
#include "trace/trace_assembler.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

namespace nopspan::collector {

enum class Flows : std::uint8_t { none, some, all };

// The steps at which the flow of a request stops: the first with its prompt, the one that ended its longest gap, and
// the last. They are found before anything is written, because a flow without an end would be dropped.
class StepFlows {
 public:
  explicit StepFlows(Flows flows) : flows_(flows) {}

  // A step, or further members of one. In the order of their arrival.
  void see(const Entry& entry);
  // Whether steps name this span.
  [[nodiscard]] bool knows(std::uint64_t span_id) const { return requests_.contains(span_id); }
  // The request of this span is shown.
  void show(std::uint64_t span_id);
  // Whether a flow begins at this span.
  [[nodiscard]] bool begins_at(std::uint64_t span_id) const;
  enum class Stop : std::uint8_t { none, passes, ends };
  // What the flow of the request of the member does at the step.
  [[nodiscard]] Stop stop_of(const nopspan_member& member, std::uint64_t step_id) const;
  // Whether a flow stops at the step, or further members of one.
  [[nodiscard]] bool stops_at(const Entry& entry) const;
  // The instance of the engine whose step has this trace id, so that the entries that have it are inside the step; null
  // if there is none.
  [[nodiscard]] const std::uint64_t* engine_of(const TraceId& id) const {
    const auto found = steps_.find(id);
    return found == steps_.end() ? nullptr : &found->second;
  }

 private:
  struct Hash {
    std::size_t operator()(const TraceId& id) const { return hash_of(id, 0); }
  };
  struct Request {
    std::uint64_t first = 0, longest = 0, last = 0;    // ids of steps
    std::uint64_t first_ns = UINT64_MAX, last_ns = 0;  // when these began
    std::uint64_t end_ns = 0, longest_ns = 0;          // of the latest end, and of the longest gap
    bool is_shown = false;
  };

  Flows flows_;
  std::unordered_map<std::uint64_t, Request> requests_;     // by the id of the span that the members name
  std::unordered_map<TraceId, std::uint64_t, Hash> steps_;  // those without a parent
};

class PerfettoTrace {
 public:
  using Write = std::function<void(std::string_view)>;
  // Calls `write` with the parts of the file, in order. Times are those of CLOCK_MONOTONIC if `clocks` is not null,
  // otherwise of the wall clock. All arguments must outlive this object.
  PerfettoTrace(const ClockSamples* clocks, const StepFlows& flows, Write write);
  PerfettoTrace(const PerfettoTrace&) = delete;
  PerfettoTrace& operator=(const PerfettoTrace&) = delete;

  void add(const AssembledTrace& trace);
  // An entry that is in no trace: a step, what is inside it, a linked span, a gauge.
  void add(const Entry& entry);
  // Writes the steps, what is known of losses, and the rest of the file. `clock_error_ns` is the largest error of the
  // times; 0: unknown.
  void finish(const Ledger& ledger, const std::string& remark, std::uint64_t clock_error_ns);

  // What the file has.
  struct Counts {
    std::uint64_t requests = 0, spans = 0, points = 0, steps = 0, values = 0;
    Counts& operator+=(const Counts& other) {
      requests += other.requests;
      spans += other.spans;
      points += other.points;
      steps += other.steps;
      values += other.values;
      return *this;
    }
  };
  [[nodiscard]] const Counts& counts() const { return counts_; }

 private:
  struct Slice {
    std::uint64_t start = 0, duration = 0;  // by the clock of the file
    std::uint32_t name = 0;
    bool is_point = false;
    std::uint64_t parent = 0, id = 0;  // of spans
    std::string facts;                 // DebugAnnotations and flows
  };
  // Of one process, by name of what links to others, or its engines.
  using HeldKey = std::tuple<std::uint32_t, std::uint64_t, std::uint64_t, std::string>;
  struct Held {
    ProcessPointer process;
    std::string name;
    std::vector<Slice> slices;
  };

  [[nodiscard]] std::uint64_t time_of(std::uint64_t unix_ns) const;
  std::uint32_t interned(std::map<std::string, std::uint32_t, std::less<>>& known, unsigned field,
                         std::string_view name);
  void packet(std::string_view fields, std::uint64_t time_ns = 0);
  void flush();
  std::uint64_t new_track(std::uint64_t parent, std::string_view name, std::string_view fields = {});
  std::uint64_t process_track(const Process& process);
  void event(unsigned type, std::uint64_t time, std::uint64_t track, std::string_view fields);
  void annotate(std::string& facts, std::string_view name, const Attribute& value);
  void annotate(std::string& facts, std::string_view name, std::string_view text);
  void annotate(std::string& facts, std::string_view name, std::uint64_t number);
  [[nodiscard]] std::string facts_of(const Entry& entry);
  Slice slice_of(const Entry& entry);
  // Writes the slices into a track and, where they overlap, into tracks below it.
  void write(std::vector<Slice>& slices, std::uint64_t track);

  const ClockSamples* clocks_;
  const StepFlows& flows_;
  Write write_;
  std::string packets_, interned_;  // not written yet; names that the next packet defines
  std::uint32_t sequence_ = 1;
  std::uint64_t next_uuid_ = 0, requests_ = 0, last_ns_ = 0;
  std::map<std::string, std::uint32_t, std::less<>> names_, keys_;
  std::map<std::pair<std::uint32_t, std::uint64_t>, std::uint64_t> processes_;
  std::map<std::pair<std::uint64_t, std::string>, std::uint64_t> counters_;
  std::map<HeldKey, Held> held_;
  ExportedAttributes attributes_{Semconv::v1_41};
  ByteBuffer key_values_;
  Counts counts_;
};

}  // namespace nopspan::collector
