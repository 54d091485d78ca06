// SPDX-License-Identifier: Apache-2.0
// The same histograms as the kernel's, of a recording.
#pragma once

#include "command.h"
#include "hist_source.h"

namespace nopspan::collector {

// Throws Failure.
HistTable read_recording(const SourceOptions& source, const HistOptions& options);

}  // namespace nopspan::collector
