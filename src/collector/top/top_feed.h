// SPDX-License-Identifier: Apache-2.0
// A sink that counts a source's entries for `nopspan top` and publishes snapshots of the counts.
#pragma once

#include "model/filter.h"
#include "model/ledger.h"
#include "model/source.h"
#include "top/gauge_board.h"
#include "top/span_table.h"
#include "top/token_reports.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace nopspan::collector {

struct TopSnapshot {
  TableNumbers table;
  std::optional<RowDetail> detail;  // of the requested row
  std::vector<GaugeReading> gauges;
  std::uint64_t gauges_dropped = 0;
  FactSums facts;                 // since the beginning
  std::uint64_t events = 0;       // point events since the beginning, which have no row
  std::string host;               // of the processes; if there are several: "host-1, ..."
  std::size_t processes = 0;      // number of processes with entries in the window
  std::size_t all_processes = 0;  // since the beginning
  // Requests in the window that are known only as members of engine steps, by keys of the engine's own: they began
  // before the attach, or have no recorded span.
  std::size_t early_requests = 0;
  std::size_t all_early_requests = 0;  // since the beginning; one that was in no step for a window counts again
  std::uint64_t early_dropped = 0;  // members of steps since the beginning that would be further requests of this kind
  Ledger ledger;                    // without the processes
  bool is_last = false;             // the source has ended
};
using TopSnapshotPointer = std::shared_ptr<const TopSnapshot>;

// The content of the next snapshots. It may change while the source runs.
struct TopRequest {
  struct Row {
    std::vector<std::string> texts;
    std::uint64_t process = 0;
    friend bool operator==(const Row& a, const Row& b) = default;
  };

  Grouping by = {Dimension::name, Dimension::model};
  std::vector<Grouping> others;  // groupings that a later request may have; they are counted from the beginning
  // Otherwise only root spans have rows, unless `by` has name, tool or error, or the filter has a name.
  bool all_spans = false;
  std::uint64_t interval_ns = 0;
  std::optional<Row> detail;
};

class TopFeed : public Sink {
 public:
  using Publish = std::function<void(TopSnapshotPointer)>;
  static constexpr std::size_t kMostEarly = 65'536;  // limit of TopSnapshot::early_requests

  // The thread that runs the source calls `publish` after each interval and in finish(). If `at_once`, the first
  // snapshot is published at the first tick. `source` must outlive the feed.
  TopFeed(const Source& source, Filter filter, std::uint64_t window_seconds, std::size_t most_rows,
          const TopRequest& request, bool at_once, Publish publish);

  void on_entry(const Entry& entry) override;
  void on_tick(std::uint64_t now_unix_ns) override;
  // Publishes a last snapshot after the source has ended. May be called again, to apply a later ask().
  void finish();

  // Changes the request, from any thread. The next tick publishes a snapshot for it. Its grouping must be one of the
  // first request.
  void ask(const TopRequest& request);

  // The source's ledger, in which entries that the filter does not select count as filtered.
  [[nodiscard]] Ledger ledger() const { return filtered_.ledger(source_); }
  // Whether the filter has selected any entry.
  [[nodiscard]] bool has_matched() const { return has_matched_; }

 private:
  static constexpr std::size_t kMostProcesses = 4096;

  [[nodiscard]] SpanTable& table();
  void add_table(const Grouping& by, bool all_spans);
  // Adds it to all tables, and sets rows_.
  void count(const Entry& entry);
  void take_request();
  void note_process(const Process& process);
  void note_members(const Entry& entry);
  [[nodiscard]] TopSnapshotPointer snapshot(bool is_last);

  const Source& source_;
  const Filter filter_;
  const std::uint64_t window_seconds_;
  const std::size_t most_rows_;
  const Publish publish_;

  std::deque<SpanTable> tables_;  // one for each grouping
  FilteredCounts filtered_;
  bool has_matched_ = false;
  TokenReports tokens_;
  std::vector<std::uint64_t> rows_;  // of the current span, one in each table
  GaugeBoard gauges_;
  FactSums facts_;
  std::uint64_t events_ = 0, early_dropped_ = 0;
  std::uint64_t now_ns_ = 0, next_ns_ = 0;  // next_ns_ is 0 before the first tick
  bool at_once_;
  // The time until which each process counts as present. The last process is remembered, because entries arrive in
  // batches.
  std::unordered_map<std::uint64_t, std::uint64_t> processes_;
  const Process* last_process_ = nullptr;                                   // since the last tick
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::uint64_t> early_;  // likewise: process, the engine's key
  std::size_t processes_over_ = 0, early_over_ = 0;  // that were present, and are not in the maps any more
  std::string host_;

  TopRequest request_;
  std::mutex mutex_;
  std::optional<TopRequest> asked_;
};

}  // namespace nopspan::collector
