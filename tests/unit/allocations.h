// SPDX-License-Identifier: Apache-2.0
// The number of calls of operator new on this thread. Link allocations.cpp into a program to count them.
#pragma once

#include <cstddef>

std::size_t allocations();
