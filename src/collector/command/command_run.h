// SPDX-License-Identifier: Apache-2.0
// What the commands that read entries have in common: how long they run, what they say meanwhile, and --metrics FILE.
#pragma once

#include "command/match_watch.h"
#include "metric/metrics_file.h"
#include "model/source.h"
#include "model/source_options.h"

#include <nlohmann/json_fwd.hpp>

#include <functional>
#include <optional>
#include <string>

namespace nopspan::collector {

class CommandRun : private Sink {
 public:
  // `asked` is what the user asked for. The filter in the options may let more through. Throws Failure if the file of
  // --metrics cannot be written. The options must outlive this object.
  CommandRun(const SourceOptions& options, Filter asked);

  // Written to stderr when the source is live. Every span that ends after that is reported.
  void announce(std::string text) { announcement_ = std::move(text); }
  // Runs the source until it ends, `stopping` (base/stopping.h) is set, or --duration is over. `has_matched`: see
  // MatchWatch. `ledger` is what the file of --metrics gets.
  void run(Source& source, Sink& sink, std::function<Ledger()> ledger, std::function<bool()> has_matched = nullptr);
  // The command has counted everything: writes the file of --metrics for the last time.
  void finish();
  // 1, with a message, if nothing in a recording matches.
  [[nodiscard]] int exit_status() const { return watch_ ? watch_->exit_status() : 0; }

 private:
  // It stands before the other sinks. The first tick of a live source comes when it is live.
  [[nodiscard]] BatchSink* batches() override { return watch_->batches(); }
  void on_entry(const Entry& entry) override { watch_->on_entry(entry); }
  void on_tick(std::uint64_t now_unix_ns) override;

  const SourceOptions& options_;
  const Filter asked_;
  std::string announcement_;
  MetricsFile metrics_;
  std::function<Ledger()> ledger_;
  std::optional<MatchWatch> watch_;
};

// Adds "clock": {"error_ns": …, "changes": …} (ClockState) if the source has one.
void add_clock(nlohmann::ordered_json& json, const Source& source);

}  // namespace nopspan::collector
