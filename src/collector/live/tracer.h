// SPDX-License-Identifier: Apache-2.0
// Traces this host's processes, and passes on what they emit as messages.
#pragma once

#include "model/source_options.h"
#include "stream/message_pipe.h"

#include <functional>

namespace nopspan::collector {

// Traces until `stopping` is set, and passes on what there is then. Sets source_failure if not everything went well.
using LiveTracer = std::function<void()>;

// Traces the current and future processes of this host. Throws Failure if the kernel does not permit it. `pipe` must
// outlive the tracer.
LiveTracer open_live_tracer(const SourceOptions& options, MessagePipe& pipe);

}  // namespace nopspan::collector
