// SPDX-License-Identifier: Apache-2.0
// The checks of `nopspan doctor` that concern the host and not one process.
#pragma once

#include "doctor/check.h"

namespace nopspan::collector {

// Checks the kernel: its version, its features and its settings.
void check_kernel(Checks& checks);

// Checks the privileges of this program by trying: it loads BPF programs and attaches one to itself.
void check_privileges(Checks& checks);

}  // namespace nopspan::collector
