// SPDX-License-Identifier: Apache-2.0
#include "command/command_run.h"

#include "base/stopping.h"
#include "base/text_output.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <iostream>
#include <utility>

namespace nopspan::collector {

CommandRun::CommandRun(const SourceOptions& options, Filter asked)
    : options_(options), asked_(std::move(asked)), metrics_(options.metrics, options.buffer_bytes) {}

void CommandRun::run(Source& source, Sink& sink, std::function<Ledger()> ledger, std::function<bool()> has_matched) {
  ledger_ = std::move(ledger);
  watch_.emplace(sink, asked_, options_.from, std::move(has_matched));
  Deadline until(options_.duration_ns);
  {
    const struct Waits {
      explicit Waits(const Deadline& end) { standard_output().set_deadline(&end); }
      ~Waits() { standard_output().set_deadline(nullptr); }
    } waits(until);
    source.run(*this, until);
  }
  if (until.has_expired()) standard_output().hurry();
  if (until.is_over()) stopping = true;  // for threads that draw meanwhile
}

void CommandRun::on_tick(std::uint64_t now_unix_ns) {
  watch_->on_tick(now_unix_ns);
  if (!announcement_.empty() && options_.from.empty()) std::cerr << std::exchange(announcement_, {});
  metrics_.write_if_due(ledger_);
}

void CommandRun::finish() { metrics_.write_and_wait(ledger_()); }

void add_clock(nlohmann::ordered_json& json, const Source& source) {
  const std::optional<ClockState> clock = source.clock();
  if (clock) json["clock"] = {{"error_ns", clock->error_ns}, {"changes", clock->changes}};
}

}  // namespace nopspan::collector
