// SPDX-License-Identifier: Apache-2.0
// What the commands that read entries have in common: how long they run, what they say meanwhile, and --metrics FILE.
#pragma once

#include "facts/asked_keys.h"
#include "metric/ledger_metrics.h"
#include "model/filter.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {

class CommandRun : private Sink, private BatchSink {
 public:
  // `asked` is what the user asked for, as are the keys of `by` and `more`. The filter in the options may let more
  // through. Throws Failure if the file of --metrics cannot be written. The options must outlive this object.
  CommandRun(const SourceOptions& options, Filter asked, const Grouping& by = {},
             const std::vector<std::string>& more = {})
      : options_(options),
        asked_(std::move(asked)),
        keys_(asked_, by, more),
        metrics_(options.metrics, options.buffer_bytes) {}

  // `text` is called when the source is live, and its result written to stderr. Every span that ends after that is
  // reported.
  void announce(std::function<std::string()> text) { announcement_ = std::move(text); }
  // The run also ends when all processes that --pid names have ended, because nothing more can come.
  void end_with_processes() { ends_with_processes_ = options_.from.empty() && !options_.filter.pids.empty(); }
  // Runs the source until it ends, `stopping` (base/stopping.h) is set, or --duration is over. If the source is live
  // and nothing has matched `asked` for 5 s, because a request id or a tenant is mistyped for example, or no entry has
  // one of the keys, writes so to stderr, once. Without `has_matched`, every entry that arrives has matched, unless its
  // request is not wanted. `ledger` is what the file of --metrics gets. After a failed write to stdout the run ends.
  void run(Source& source, Sink& sink, std::function<Ledger()> ledger, std::function<bool()> has_matched = nullptr);
  // The command has counted everything: writes the file of --metrics for the last time.
  void finish() { metrics_.write_and_wait(ledger_()); }
  // 1, with a message, if nothing in a recording matches, or nothing has one of the keys.
  [[nodiscard]] int exit_status() const;

 private:
  [[nodiscard]] bool matches_nothing() const {
    return !asked_.empty() && !(has_matched_ ? has_matched_() : has_entries_);
  }

  // It stands before the other sinks. The first tick of a live source comes when it is live.
  [[nodiscard]] BatchSink* batches() override;
  void on_batch(const EntryBatch& batch) override;
  void on_entry(const Entry& entry) override;
  void on_removed(const Entry& entry) override { keys_.see(entry); }
  void on_tick(std::uint64_t now_unix_ns) override;
  void tell_if_nothing_matches(std::uint64_t now_unix_ns);
  [[nodiscard]] bool have_processes_ended() const;

  const SourceOptions& options_;
  const Filter asked_;
  AskedKeys keys_;
  std::function<std::string()> announcement_;
  MetricsFile metrics_;
  std::function<Ledger()> ledger_;
  std::function<bool()> has_matched_;
  Sink* sink_ = nullptr;
  BatchSink* batches_ = nullptr;  // of the sink
  bool has_entries_ = false, is_told_ = false, ends_with_processes_ = false;
  std::uint64_t began_unix_ns_ = 0;  // time of the first tick
  std::optional<TimeRange> times_;   // Source::times() after the run
};

}  // namespace nopspan::collector
