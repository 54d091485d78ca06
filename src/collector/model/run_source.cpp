// SPDX-License-Identifier: Apache-2.0
#include "model/run_source.h"

#include "base/stopping.h"
#include "base/text.h"

#include <chrono>
#include <iostream>

namespace nopspan::collector {
namespace {

// Ends the run when its time is over, counted from when the source is live.
class Limited : public Sink {
 public:
  Limited(Sink& sink, std::uint64_t duration_ns) : sink_(sink), duration_(duration_ns) {}
  void on_span(const Span& span) override { sink_.on_span(span); }
  void on_tick(std::uint64_t now_unix_ns) override {
    sink_.on_tick(now_unix_ns);
    const auto now = Clock::now();
    if (began_ == Clock::time_point()) began_ = now;
    if (now - began_ >= duration_) stopping = true;
  }

 private:
  using Clock = std::chrono::steady_clock;
  Sink& sink_;
  std::chrono::nanoseconds duration_;
  Clock::time_point began_;
};

}  // namespace

void run_source(Source& source, Sink& sink, const SourceOptions& options, bool quiet) {
  if (options.duration_ns > 0) {
    Limited limited(sink, options.duration_ns);
    source.run(limited, stopping);
  } else {
    source.run(sink, stopping);
  }
  if (quiet) return;
  std::cout.flush();
  std::cerr << remark_text(source) << to_text(source.ledger());
}

std::string remark_text(const Source& source) {
  const std::string remark = source.remark();
  return remark.empty() ? "" : "nopspan: " + printable(remark) + "\n";
}

}  // namespace nopspan::collector
