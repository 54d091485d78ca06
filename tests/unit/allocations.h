// SPDX-License-Identifier: Apache-2.0
// How often this thread has called operator new: allocations.cpp counts it, for programs that it is linked to.
#pragma once

#include <cstddef>

std::size_t allocations();
