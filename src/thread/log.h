// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nopspan/log.h>

#include <string_view>

namespace nopspan::detail {

void log(LogLevel level, std::string_view message) noexcept;

// Around fork(): no lock is held by another thread in the child.
void lock_log() noexcept;
void unlock_log() noexcept;

}  // namespace nopspan::detail
