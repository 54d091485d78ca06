// SPDX-License-Identifier: Apache-2.0
// Runs a source for a command and reports its end.
#pragma once

#include "model/source.h"
#include "model/source_options.h"

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <utility>

namespace nopspan::collector {

// Runs the source until it ends, `stopping` (base/stopping.h) is set, or --duration is over. Then prints the ledger to
// stderr (to_text), unless `quiet`.
void run_source(Source& source, Sink& sink, const SourceOptions& options, bool quiet = false);
// Writes a text to stderr when the source is live. Every span that ends after that is reported.
class Announced : public Sink {
 public:
  Announced(Sink& sink, std::string text) : sink_(sink), text_(std::move(text)) {}
  [[nodiscard]] BatchSink* batches() override { return sink_.batches(); }
  void on_entry(const Entry& entry) override { sink_.on_entry(entry); }
  void on_tick(std::uint64_t now_unix_ns) override;

 private:
  Sink& sink_;
  std::string text_;
};

// The source's remark as a line for stderr; "" if it has none. run_source() prints it with the ledger.
std::string remark_text(const Source& source);

// Adds "clock": {"error_ns": …, "changes": …} (ClockState) if the source has one.
void add_clock(nlohmann::ordered_json& json, const Source& source);

}  // namespace nopspan::collector
