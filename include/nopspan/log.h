// SPDX-License-Identifier: Apache-2.0
/// @file
/// Where nopspan logs: its own warnings and errors, and the lines of the default loggers.
///
/// @code
/// nopspan::set_log_sink([](nopspan::LogLevel level, std::string_view message) {
///   fprintf(stderr, "[%s] %.*s\n", nopspan::to_string(level), int(message.size()), message.data());
/// });
/// @endcode
///
/// Thread safety: set_log_sink() may be called from any thread at any time. The sink must be prepared to run on several
/// threads at once.
#ifndef NOPSPAN_LOG_H
#define NOPSPAN_LOG_H

#include <nopspan/detail/config.h>
#include <nopspan/types.h>

#include <functional>
#include <string_view>
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE {

/// Receives messages. It runs on the thread that logs, while nopspan holds no lock. The message is one line without a
/// newline at its end, and is valid during the call. An exception that the sink throws is swallowed.
///
/// The sink may be called wherever a span begins, because an unknown name under a catalogue's prefix is logged there.
/// If the program uses spans in signal handlers, the sink must do only what a signal handler may do.
using LogSink = std::function<void(LogLevel, std::string_view message)>;

/// Replaces the sink. An empty sink restores the default. A thread that is logging may still use the old sink after
/// this returns, so what the old sink refers to must stay valid. The default depends on where a message arises:
///
/// - In a span or event (an unknown name, a handler that is attached to the name of a span, a handler that throws), the
///   message is not printed, because only traced programs have it, and stderr may block, end the program by
///   SIGPIPE, or be a file of the program. It is counted (stats().warnings), and the first 16 are kept: `nopspan ps`
///   and `nopspan doctor` show them.
/// - Elsewhere it goes to stderr: warnings about the environment, errors of testing::Recorder, and the lines of the
///   default loggers. They have the form "nopspan: LEVEL: MESSAGE", and each is written with one system call.
NOPSPAN_API void set_log_sink(LogSink sink) NOPSPAN_IN_SHELL();

}  // namespace NOPSPAN_NAMESPACE

#endif  // NOPSPAN_LOG_H
