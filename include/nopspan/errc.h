// SPDX-License-Identifier: Apache-2.0
/// @file
/// The error codes of the functions that can fail: those of registry.h, agent::emit() and its siblings, and the default
/// loggers.
///
/// @code
/// const nopspan::Errc error = nopspan::Errc::not_found;  // what nopspan::detach("id") returned
/// if (error != nopspan::Errc::ok) puts(nopspan::describe(error));
/// @endcode
///
/// Thread safety: describe() may be called from any thread at any time.
#ifndef NOPSPAN_ERRC_H
#define NOPSPAN_ERRC_H

#include <nopspan/detail/config.h>

#include <cstdint>

namespace nopspan {

/// The result of a call. The compiler warns if it is ignored.
enum class [[nodiscard]] Errc : std::uint8_t{
    ok = 0,            ///< the call succeeded
    already_exists,    ///< a handler with this id is attached, to these or other events
    not_found,         ///< no handler with this id is attached
    invalid_argument,  ///< a null or empty id; an empty handler; a name that no event has: null, empty, over 63 bytes
                       ///< without .start, .stop, .exception or .iteration_start, not UTF-8, or with an empty segment,
                       ///< a control character or a "*" that is not the last segment; for a catalogue's functions, a
                       ///< name that the catalogue does not have, or a Value of the wrong type
    out_of_memory,     ///< there was no memory, or 65,536 detached handlers wait until running handlers have returned
                       ///< (see detach()); nothing was changed
};

/// The meaning of a code, for a message ("no handler with this id is attached"). The text is in static storage. It is
/// never null.
NOPSPAN_API const char* describe(Errc error) noexcept;

}  // namespace nopspan

#endif  // NOPSPAN_ERRC_H
