// SPDX-License-Identifier: Apache-2.0
// The log: messages to the application's sink, or to stderr if there is none.
#pragma once

#include <nopspan/log.h>

#include <string_view>

namespace nopspan::detail {

void log(LogLevel level, std::string_view message) noexcept;

// Called before and after fork(), so that no other thread holds the lock when the child is copied.
void lock_log() noexcept;
void unlock_log() noexcept;

}  // namespace nopspan::detail
