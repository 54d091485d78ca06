// SPDX-License-Identifier: Apache-2.0
// Traces this host's processes, and passes on what they emit as messages.
#pragma once

#include "model/filter.h"
#include "stream/message_pipe.h"

#include <cstdint>
#include <functional>
#include <vector>

namespace nopspan::collector {

// Traces until `stopping` is set, and passes on what there is then. Sets source_failure if not everything went well.
using LiveTracer = std::function<void()>;

// Traces the current and future processes of this host. Throws Failure if the kernel does not permit it. `pipe` must
// outlive the tracer.
LiveTracer open_live_tracer(const SourceOptions& options, MessagePipe& pipe);

struct OpenTracerOptions {
  std::vector<std::uint32_t> pids;  // only these processes; empty: all
  bool reads_held = false;          // also what threads hold, which names requests from before the attach
  bool watch = false;               // raises the gates, and reads at each interval
  std::uint64_t interval_ns = 0;
  std::uint64_t count = 0;  // of readings; 0: no limit
  bool when_asked = false;  // reads each time that `must_read` is set
};

// Reads the open spans of this host's processes, and passes on what it read as messages. Throws Failure. With `watch`,
// the first reading is from before the attach, and is not counted. `pipe` must outlive the tracer.
LiveTracer open_open_tracer(const OpenTracerOptions& options, MessagePipe& pipe);

}  // namespace nopspan::collector
