// SPDX-License-Identifier: Apache-2.0
// The checks of `nopspan doctor` that concern processes and the files that they map.
#pragma once

#include "doctor/check.h"
#include "host/host.h"
#include "host/tracers.h"

#include <cstdint>

namespace nopspan::collector {

// Checks whether the process has probes, and whether an attach to them would work and show anything.
void check_process(Host& host, const Tracers& tracers, std::uint32_t pid, Checks& checks);

// Checks all files with probes that processes of this host map.
void check_files(Host& host, Checks& checks);

}  // namespace nopspan::collector
