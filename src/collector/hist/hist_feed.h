// SPDX-License-Identifier: Apache-2.0
// Counts a source's entries in the histograms of `nopspan hist`.
#pragma once

#include "facts/engine_facts.h"
#include "facts/row_key.h"
#include "hist/hist_table.h"
#include "model/filter.h"
#include "model/source.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <unordered_map>

namespace nopspan::collector {

struct HistOptions {
  Grouping by = {Dimension::name, Dimension::model};
  const Quantity* of = nullptr;
  Filter filter;                  // each span is tested by itself
  std::size_t most_rows = 512;    // all other keys share one row
  std::string host;               // the host of a live source, which is in the output even if nothing runs there
  std::uint64_t interval_ns = 0;  // between two calls of `publish`; 0: it is never called
};

// The part of the filter that the source may apply. It never drops an entry that HistFeed would count.
Filter filter_for_source(const HistOptions& options);

class HistFeed : public Sink {
 public:
  using Publish = std::function<void(const HistTable&)>;

  // `source` must outlive the feed. The thread that runs the source calls `publish`.
  HistFeed(const Source& source, HistOptions options, Publish publish);

  void on_entry(const Entry& entry) override;
  void on_tick(std::uint64_t now_unix_ns) override;
  // The source's ledger, in which entries that are in no histogram count as filtered.
  [[nodiscard]] Ledger ledger() const { return filtered_.ledger(source_); }
  // All rows up to now, with the current ledger.
  const HistTable& table();
  // Whether any time has been counted.
  [[nodiscard]] bool has_rows() const { return !table_.rows.empty(); }

 private:
  using Rows = std::unordered_map<RowKey, std::map<HistTable::Key, HistRow>::iterator, RowKeyHash, RowKeyEqual>;

  void add_gaps(const Entry& entry);
  [[nodiscard]] bool is_wanted(const Entry& entry, const Measured& measured) const;
  HistRow& row_of(const Entry& entry, const Measured& measured);
  // Merges a row into `other` for a new row of this process. Returns whether there is one that may be merged.
  bool make_room(std::uint64_t process);

  const Source& source_;
  const HistOptions options_;
  const bool wants_all_ = options_.filter.empty();
  const Publish publish_;
  HistTable table_;
  // The rows of `table_`. An entry's row is found here without building a Key.
  Rows rows_;
  RecentRows<Rows> recent_;
  RowShares<Rows::value_type> shares_;
  FilteredCounts filtered_;
  Gaps gaps_;
  std::uint64_t next_ns_ = 0;
};

}  // namespace nopspan::collector
