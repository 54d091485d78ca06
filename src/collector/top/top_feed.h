// SPDX-License-Identifier: Apache-2.0
// What `nopspan top` makes of a source's spans: numbers, every now and then.
#pragma once

#include "model/filter.h"
#include "model/ledger.h"
#include "model/source.h"
#include "top/gauge_board.h"
#include "top/span_table.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace nopspan::collector {

struct TopSnapshot {
  TableNumbers table;
  std::optional<RowDetail> detail;  // of the row that was asked for
  std::vector<GaugeReading> gauges;
  std::uint64_t gauges_left_out = 0;
  std::uint64_t events = 0;    // since the beginning: they have no row
  std::string host;            // of the processes; several: "host-1, ..."
  std::size_t processes = 0;   // that something came from within the window
  Counts counts;               // of the ledger
  std::uint64_t sequence = 0;  // 1, 2, …
  bool is_last = false;        // the source has ended
};
using TopSnapshotPointer = std::shared_ptr<const TopSnapshot>;

// What a snapshot is to have. May change while the source runs.
struct TopRequest {
  struct Row {
    std::vector<std::string> texts;
    std::uint64_t process = 0;
    friend bool operator==(const Row& a, const Row& b) = default;
  };

  Grouping by = {Dimension::name, Dimension::model};  // another one begins with an empty table
  std::uint64_t interval_ns = 0;
  std::optional<Row> detail;
};

class TopFeed : public Sink {
 public:
  using Publish = std::function<void(TopSnapshotPointer)>;

  // `publish` is called by the thread that runs the source, after each interval and by finish(). `source` outlives
  // the feed. The first snapshot comes with the first tick, if `at_once`.
  TopFeed(const Source& source, Filter filter, unsigned window_seconds, std::size_t most_rows,
          const TopRequest& request, bool at_once, Publish publish);

  void on_span(const Span& span) override;
  void on_tick(std::uint64_t now_unix_ns) override;
  // The source has ended: what came since the last snapshot. May be called again, to have what was asked for since.
  void finish();

  // From any thread: another snapshot, with the next tick.
  void ask(const TopRequest& request);

 private:
  static constexpr std::size_t kMostProcesses = 4096;

  void take_request();
  void note_process(const Process& process);
  [[nodiscard]] TopSnapshotPointer snapshot(bool is_last);

  const Source& source_;
  const Filter filter_;
  const bool chooses_;  // whether the filter says something of a single span
  const unsigned window_seconds_;
  const std::size_t most_rows_;
  const Publish publish_;

  std::unique_ptr<SpanTable> table_;
  GaugeBoard gauges_;
  std::uint64_t events_ = 0, sequence_ = 0;
  std::uint64_t now_ns_ = 0, next_ns_ = 0;  // 0: with the next tick, or an interval after it
  bool at_once_;
  // Until when each counts as alive. The last one that something came from is remembered: spans come in batches.
  std::unordered_map<std::uint64_t, std::uint64_t> processes_;
  const Process* last_process_ = nullptr;  // since the last tick
  std::string host_;

  TopRequest request_;
  std::mutex mutex_;
  std::optional<TopRequest> asked_;
  std::atomic<bool> is_asked_ = false;
};

}  // namespace nopspan::collector
