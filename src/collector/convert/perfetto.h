// SPDX-License-Identifier: Apache-2.0
// Writes a trace for Perfetto (ui.perfetto.dev, trace_processor): requests, steps of engines, gauges. The messages are
// those of protos/perfetto/trace/perfetto_trace.proto.
#pragma once

#include "convert/picture.h"
#include "export/exported_attributes.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

namespace nopspan::collector {

class Lanes;

class PerfettoTrace : public Picture {
 public:
  using Write = std::function<void(std::string_view)>;
  // Calls `write` with the parts of the file, in order. Times are those of CLOCK_MONOTONIC if `clocks` is not null,
  // otherwise of the wall clock. At most about so many bytes wait for their place. All arguments must outlive this
  // object.
  PerfettoTrace(const ClockSamples* clocks, StepFlows& flows, std::size_t most_bytes, Write write);
  ~PerfettoTrace() override;

  void add(const AssembledTrace& trace) override;
  void add(const Entry& entry) override;
  void finish(const Ledger& ledger, const std::string& remark, const std::optional<ClockState>& clock) override;

 private:
  struct Slice {
    std::uint64_t start = 0, duration = 0;  // by the clock of the file
    std::uint64_t parent = 0, id = 0;       // of spans
    std::string name_and_facts;             // name, DebugAnnotations and flows
    bool is_point = false;
  };
  // A slice that is in no request, below the track of its process. Its track is that of the span that it is on, or of
  // the span at the top of its trace. These may come later.
  struct Held {
    Slice slice;
    std::uint64_t process = 0;  // its track
    TraceId trace_id;
    std::string track;  // of a span at the top
    bool has_waited = false;
  };

  [[nodiscard]] std::uint64_t time_of(std::uint64_t unix_ns) const;
  using Names = std::map<std::string, std::uint32_t, std::less<>>;
  // Appends a name to a message: its number in field `id`, or if there are too many names, itself in field `text`.
  void append_name(std::string& out, Names& known, unsigned field, unsigned id, unsigned text, std::string_view name);
  void append_event_name(std::string& out, std::string_view name);
  void packet(std::string_view fields, std::uint64_t time_ns = 0);
  void flush();
  std::uint64_t new_track(std::uint64_t parent, std::string_view name, std::string_view fields = {});
  std::uint64_t process_track(const ProcessPointer& process);
  void event(unsigned type, std::uint64_t time, std::uint64_t track, std::string_view fields);
  void annotate(std::string& facts, std::string_view name, const Attribute& value);
  void annotate(std::string& facts, std::string_view name, std::string_view text);
  void annotate(std::string& facts, std::string_view name, std::uint64_t number);
  Slice slice_of(const Entry& entry);
  void add_gauge(const Entry& entry);
  // Writes the slices into lanes. These know which slices were written before.
  void write(std::vector<Slice>& slices, Lanes& lanes);
  // Writes what is held. What has no track yet may wait, if more may come.
  void write_held(bool may_wait);
  Lanes& lanes_of(std::uint64_t process, const std::string& track);

  const ClockSamples* clocks_;
  StepFlows& flows_;
  const std::size_t most_bytes_;
  Write write_;
  std::string packets_, interned_;  // not written yet; names that the next packet defines
  std::uint32_t sequence_ = 1;
  std::uint64_t next_uuid_ = 0, requests_ = 0, last_ns_ = 0;
  const IdHash hash_{random_seed()};
  Names names_, keys_;
  SpanKeys numbers_;
  std::map<std::uint64_t, std::uint64_t> processes_;  // tracks, by number of the process
  std::map<std::pair<std::uint64_t, std::string>, std::uint64_t> counters_;
  std::map<std::pair<std::uint64_t, std::string>, std::unique_ptr<Lanes>> lanes_;
  std::vector<Held> held_;
  std::size_t held_bytes_ = 0;
  ExportedAttributes attributes_{Semconv::v1_41};
  ByteBuffer key_values_;
};

}  // namespace nopspan::collector
