// SPDX-License-Identifier: Apache-2.0
// Users that count as one when something is shared among users.
#pragma once

#include <cstdint>

namespace nopspan::collector {

// From uid 65536 on, 65,536 users count as one, because a user may have so many subordinate ones (/etc/subuid).
// Returns the first of them.
constexpr std::uint32_t user_range(std::uint32_t user) { return user < 65536 ? user : user >> 16U << 16U; }

}  // namespace nopspan::collector
