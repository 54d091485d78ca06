// SPDX-License-Identifier: Apache-2.0
// Where spans come from: this host's processes (live_source.h) or a file (recording.h).
#pragma once

#include "base/stopping.h"
#include "model/ledger.h"
#include "model/span.h"

#include <cstdint>
#include <optional>
#include <string>

namespace nopspan::collector {

// Who is told. All calls come from the thread that runs the source.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual void on_span(const Span& span) = 0;
  // About ten times a second while the source is live, also when nothing comes; of a recording after each second of it.
  // The first comes before anything else. `now_unix_ns` goes on with the source's time, which may be set back.
  virtual void on_tick(std::uint64_t now_unix_ns) = 0;
};

// How well CLOCK_MONOTONIC, by which processes time, is known in wall-clock time.
struct ClockState {
  std::uint64_t error_ns = 0;  // the largest so far, but for the moments in which the clock changed
  std::uint64_t changes = 0;   // how often it was set, or the machine slept: by more than a millisecond
};

class Source {
 public:
  virtual ~Source() = default;
  // Gives everything to `sink` until then, or until the recording ends. The duration begins when the source is live.
  // Throws Failure (failure.h).
  virtual void run(Sink& sink, Deadline& until) = 0;
  // What was emitted and where it went. Whole after run(); while it runs, as of the last tick, for a sink to show.
  [[nodiscard]] virtual Ledger ledger() const = 0;
  // What a user should know besides, in a line; "" if nothing: a recording that was cut.
  [[nodiscard]] virtual std::string remark() const { return {}; }
  // Nothing: times were mapped by another.
  [[nodiscard]] virtual std::optional<ClockState> clock() const { return {}; }
};

}  // namespace nopspan::collector
