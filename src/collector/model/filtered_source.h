// SPDX-License-Identifier: Apache-2.0
// Removes the entries that a command does not select, and counts them as filtered in the ledger.
#pragma once

#include "model/filter.h"
#include "model/ledger.h"
#include "model/source.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace nopspan::collector {

// The entries that a source delivered and a command removed, by process.
class FilteredCounts {
 public:
  void add(const ProcessPointer& process);
  // Call it at each tick, so that ended processes are forgotten before there are too many.
  void forget_ended(const Source& source);
  // The source's ledger, in which these entries count as filtered.
  [[nodiscard]] Ledger ledger(const Source& source) const;

 private:
  LedgerSum filtered_;
  ProcessPointer last_process_;
  Counts* last_ = nullptr;  // of `last_process_`
};

// A source that delivers only the entries that Filter::selects().
class FilteredSource : public Source, private Sink {
 public:
  FilteredSource(std::unique_ptr<Source> source, Filter filter)
      : source_(std::move(source)), filter_(std::move(filter)) {}

  void run(Sink& sink, Deadline& until) override;
  [[nodiscard]] Ledger ledger() const override { return filtered_.ledger(*source_); }
  [[nodiscard]] std::string remark() const override { return source_->remark(); }
  [[nodiscard]] bool is_cut() const override { return source_->is_cut(); }
  [[nodiscard]] std::size_t processes() const override { return source_->processes(); }
  [[nodiscard]] std::optional<Writers> writers() const override { return source_->writers(); }
  [[nodiscard]] std::optional<ClockState> clock() const override { return source_->clock(); }

 private:
  [[nodiscard]] BatchSink* batches() override { return filter_.empty() ? sink_->batches() : nullptr; }
  void on_entry(const Entry& entry) override;
  void on_tick(std::uint64_t now_unix_ns) override;

  const std::unique_ptr<Source> source_;
  const Filter filter_;
  FilteredCounts filtered_;
  Sink* sink_ = nullptr;
};

}  // namespace nopspan::collector
