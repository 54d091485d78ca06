// SPDX-License-Identifier: Apache-2.0
// Where nopspan says what went wrong.
#ifndef NOPSPAN_LOG_H
#define NOPSPAN_LOG_H

#include <nopspan/config.h>
#include <nopspan/log_level.h>

#include <functional>
#include <string_view>

namespace nopspan {

// Called on the thread that has something to say, with no lock held. What it throws is swallowed.
using LogSink = std::function<void(LogLevel, std::string_view message)>;

// Replaces the sink; an empty one restores the default, which writes warnings and errors to stderr as
// "nopspan: LEVEL: MESSAGE". A call that runs on another thread may still use the old one when this returns.
// Thread-safe.
NOPSPAN_API void set_log_sink(LogSink sink);

}  // namespace nopspan

#endif  // NOPSPAN_LOG_H
