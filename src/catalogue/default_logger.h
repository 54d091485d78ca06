// SPDX-License-Identifier: Apache-2.0
// The handler that logs every event of a catalogue, a line each.
#pragma once

#include <nopspan/errc.h>
#include <nopspan/log_level.h>
#include <nopspan/name.h>

#include <string_view>

namespace nopspan::detail {

// Attaches it as `<catalogue>-telemetry-default-logger`. A line has the metadata under `key`, which is in static
// storage, and the measurements.
Errc attach_default_logger(std::string_view catalogue, EventNames events, std::string_view key,
                           LogLevel level) noexcept;
Errc detach_default_logger(std::string_view catalogue) noexcept;

}  // namespace nopspan::detail
