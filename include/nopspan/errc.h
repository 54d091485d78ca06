// SPDX-License-Identifier: Apache-2.0
// What the registry's functions return.
#ifndef NOPSPAN_ERRC_H
#define NOPSPAN_ERRC_H

#include <nopspan/config.h>

#include <cstdint>

namespace nopspan {

// The compiler warns of one that is ignored.
enum class [[nodiscard]] Errc : std::uint8_t{
    ok = 0,
    already_exists,    // attach: a handler has this id, whatever its events
    not_found,         // detach: no handler has it
    invalid_argument,  // a null or empty id; an event name that is null, empty, over 127 bytes or has an empty segment,
                       // a control character or a NUL, or is not the catalogue's; an empty handler
    out_of_memory,
};
// What the value means, for a message.
NOPSPAN_API const char* describe(Errc error) noexcept;

}  // namespace nopspan

#endif  // NOPSPAN_ERRC_H
