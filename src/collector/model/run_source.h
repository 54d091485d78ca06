// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model/source.h"
#include "model/source_options.h"

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <utility>

namespace nopspan::collector {

// Runs the source until it ends, `stopping` (base/stopping.h) or --duration; then prints the ledger to stderr
// (to_text), unless `quiet`.
void run_source(Source& source, Sink& sink, const SourceOptions& options, bool quiet = false);
// Writes a text to stderr when the source is live: everything that ends from then on is reported.
class Announced : public Sink {
 public:
  Announced(Sink& sink, std::string text) : sink_(sink), text_(std::move(text)) {}
  void on_span(const Span& span) override { sink_.on_span(span); }
  void on_tick(std::uint64_t now_unix_ns) override;

 private:
  Sink& sink_;
  std::string text_;
};

// The source's remark as a line for stderr; "" if it has none. What run_source() prints with the ledger.
std::string remark_text(const Source& source);

// "clock": {"error_ns": …, "changes": …} (ClockState), if the source has one.
void add_clock(nlohmann::ordered_json& json, const Source& source);

}  // namespace nopspan::collector
