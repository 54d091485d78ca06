// SPDX-License-Identifier: Apache-2.0
#ifndef NOPSPAN_LOG_LEVEL_H
#define NOPSPAN_LOG_LEVEL_H

#include <nopspan/config.h>

#include <cstdint>

namespace nopspan {

enum class LogLevel : std::uint8_t { debug, info, warning, error };
// "debug", "info", "warning", "error".
NOPSPAN_API const char* to_string(LogLevel level) noexcept;

}  // namespace nopspan

#endif  // NOPSPAN_LOG_LEVEL_H
