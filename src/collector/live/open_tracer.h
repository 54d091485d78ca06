// SPDX-License-Identifier: Apache-2.0
// Reads the open spans of this host's processes again and again, and passes on what it read as messages.
#pragma once

#include "live/tracer.h"
#include "stream/message_pipe.h"

#include <cstdint>
#include <vector>

namespace nopspan::collector {

struct OpenTracerOptions {
  std::vector<std::uint32_t> pids;  // only these processes; empty: all
  bool reads_held = false;          // also what threads hold, which names requests from before the attach
  bool watch = false;               // raises the gates, and reads at each interval
  std::uint64_t interval_ns = 0;
  std::uint64_t count = 0;  // of readings; 0: no limit
};

// Throws Failure. With `watch`, the first reading is from before the attach, and is not counted. `pipe` must outlive
// the tracer.
LiveTracer open_open_tracer(const OpenTracerOptions& options, MessagePipe& pipe);

}  // namespace nopspan::collector
