// SPDX-License-Identifier: Apache-2.0
/// @file
/// The severity of a log message; see log.h, and the default loggers of llm.h and agent.h.
///
/// @code
/// const char* name = nopspan::to_string(nopspan::LogLevel::warning);  // "warning"
/// @endcode
///
/// Thread safety: to_string() may be called from any thread at any time.
#ifndef NOPSPAN_LOG_LEVEL_H
#define NOPSPAN_LOG_LEVEL_H

#include <nopspan/detail/config.h>

#include <cstdint>

namespace nopspan {

/// The levels, from the least to the most severe.
enum class LogLevel : std::uint8_t { debug, info, warning, error };
/// "debug", "info", "warning" or "error": static storage, never null.
NOPSPAN_API const char* to_string(LogLevel level) noexcept;

}  // namespace nopspan

#endif  // NOPSPAN_LOG_LEVEL_H
