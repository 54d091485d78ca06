// SPDX-License-Identifier: Apache-2.0
#include "command/command_run.h"

#include "base/stopping.h"
#include "base/text_output.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <iostream>
#include <utility>

namespace nopspan::collector {
namespace {

// Stands before the other sinks. The first tick of a live source comes when it is live.
class Outermost : public Sink {
 public:
  Outermost(Sink& sink, std::string announcement, MetricsFile& metrics, const std::function<Ledger()>& ledger)
      : sink_(sink), announcement_(std::move(announcement)), metrics_(metrics), ledger_(ledger) {}
  [[nodiscard]] BatchSink* batches() override { return sink_.batches(); }
  void on_entry(const Entry& entry) override { sink_.on_entry(entry); }
  void on_tick(std::uint64_t now_unix_ns) override {
    sink_.on_tick(now_unix_ns);
    if (!announcement_.empty()) std::cerr << std::exchange(announcement_, {});
    metrics_.write_if_due(ledger_);
  }

 private:
  Sink& sink_;
  std::string announcement_;
  MetricsFile& metrics_;
  const std::function<Ledger()>& ledger_;
};

}  // namespace

CommandRun::CommandRun(const SourceOptions& options, Filter asked)
    : options_(options), asked_(std::move(asked)), metrics_(options.metrics, options.buffer_bytes) {}

void CommandRun::run(Source& source, Sink& sink, std::function<Ledger()> ledger, std::function<bool()> has_matched) {
  ledger_ = std::move(ledger);
  watch_.emplace(sink, asked_, options_.from, std::move(has_matched));
  Outermost outermost(*watch_, options_.from.empty() ? announcement_ : "", metrics_, ledger_);
  Deadline until(options_.duration_ns);
  {
    const struct Waits {
      explicit Waits(const Deadline& end) { standard_output().set_deadline(&end); }
      ~Waits() { standard_output().set_deadline(nullptr); }
    } waits(until);
    source.run(outermost, until);
  }
  if (until.has_expired()) standard_output().hurry();
  if (until.is_over()) stopping = true;  // for threads that draw meanwhile
}

void CommandRun::finish() { metrics_.write_and_wait(ledger_()); }

void add_clock(nlohmann::ordered_json& json, const Source& source) {
  const std::optional<ClockState> clock = source.clock();
  if (clock) json["clock"] = {{"error_ns", clock->error_ns}, {"changes", clock->changes}};
}

}  // namespace nopspan::collector
