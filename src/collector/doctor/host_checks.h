// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "doctor/check.h"

namespace nopspan::collector {

// The kernel: what it is able to do, and what it is set to.
void check_kernel(Checks& checks);

// What this program may do here: tried for real.
void check_privileges(Checks& checks);

}  // namespace nopspan::collector
