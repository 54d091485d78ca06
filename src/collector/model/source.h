// SPDX-License-Identifier: Apache-2.0
// Where spans come from: this host's processes (live_source.h) or a file (recording.h).
#pragma once

#include "model/ledger.h"
#include "model/span.h"

#include <atomic>
#include <cstdint>
#include <string>

namespace nopspan::collector {

// Who is told. All calls come from the thread that runs the source.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual void on_span(const Span& span) = 0;
  // About ten times a second while the source is live, also when nothing comes; of a recording after each second of it.
  // `now_unix_ns` goes on with the source's time.
  virtual void on_tick(std::uint64_t now_unix_ns) = 0;
};

class Source {
 public:
  virtual ~Source() = default;
  // Gives everything to `sink`: until `stop` is set, or the recording ends. Throws Failure (failure.h).
  virtual void run(Sink& sink, const std::atomic<bool>& stop) = 0;
  // What was emitted and where it went. Whole after run(); while it runs, as of the last tick, for a sink to show.
  [[nodiscard]] virtual Ledger ledger() const = 0;
  // What a user should know besides, in a line; "" if nothing: a recording that was cut.
  [[nodiscard]] virtual std::string remark() const { return {}; }
};

}  // namespace nopspan::collector
