// SPDX-License-Identifier: Apache-2.0
// The default logger: a handler that logs every event of a catalogue, one line each.
#pragma once

#include <nopspan/errc.h>
#include <nopspan/log_level.h>
#include <nopspan/name.h>

#include <string_view>

namespace nopspan::detail {

// Attaches the logger with the id `<catalogue>-telemetry-default-logger`. A line has the metadata with the key `key`
// and all measurements. `key` must be in static storage.
Errc attach_default_logger(std::string_view catalogue, EventNames events, std::string_view key,
                           LogLevel level) noexcept;
Errc detach_default_logger(std::string_view catalogue) noexcept;

}  // namespace nopspan::detail
