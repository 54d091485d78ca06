// SPDX-License-Identifier: Apache-2.0
// Passes entries to receivers: all of them, those of a sample of the requests, or whole traces that a filter wants.
#pragma once

#include "export/export_bodies.h"
#include "export/export_body.h"
#include "export/export_encoder.h"
#include "model/filter.h"
#include "model/sampling.h"
#include "model/source.h"
#include "trace/trace_stage.h"

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace nopspan::collector {

class Exporter : public Sink, private TraceSink {
 public:
  // Whether single entries cannot tell which requests the filter wants, so that these must be assembled.
  static bool needs_traces(const Filter& filter);

  struct Signals {
    bool traces = true, logs = true;
  };
  // `options` apply if the filter needs traces. Entries that the filter does not want, and those of other signals, are
  // counted as left out.
  Exporter(const Filter& filter, const TraceStageOptions& options, Signals signals);
  void add(std::unique_ptr<Receiver> receiver) { receivers_.push_back(std::move(receiver)); }
  [[nodiscard]] const std::vector<std::unique_ptr<Receiver>>& receivers() const { return receivers_; }

  void on_entry(const Entry& entry) override;
  void on_tick(std::uint64_t now_unix_ns) override;
  // Call it when `source` has ended. Each receiver ends at most after `time`.
  void finish(const Source& source, std::chrono::nanoseconds time);

  // Whether the entry alone shows that it is exported.
  [[nodiscard]] bool surely_exports(const Entry& entry) const;
  // Whether anything matched the filter, or may still match it.
  [[nodiscard]] bool has_matched() const { return stage_ ? stage_->has_matched() : has_matched_; }

 private:
  bool on_trace(const AssembledTrace& assembled) override;
  void on_left_out(const AssembledTrace& assembled) override;
  bool wants_request_of(const Entry& entry);
  void pass(const Entry& entry);
  void leave_out(const ItemCounts& items);
  void drop(const ItemCounts& items, DropReason reason);
  void stage(const Entry& entry);
  // Returns the items of the trace for which it had no room, and forgets them.
  ItemCounts take_over_limit(const TraceId& id);

  const Filter filter_;
  const Signals signals_;
  SampleMark mark_;
  std::vector<std::unique_ptr<Receiver>> receivers_;
  std::optional<TraceStage> stage_;
  bool has_matched_ = false;
  RequestTraces traces_;  // of the requests that the filter wants, for the members of steps
  ItemCounts staged_;     // that the stage received and has not returned
  // The part of these for which their trace had no room, by trace. It is only known later whether the trace is wanted.
  std::map<std::array<unsigned char, sizeof(TraceId::bytes)>, ItemCounts> over_limit_;
  std::vector<const PackedEntry*> entries_;
};

}  // namespace nopspan::collector
