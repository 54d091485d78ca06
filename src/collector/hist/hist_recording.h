// SPDX-License-Identifier: Apache-2.0
// The same histograms as the kernel's, of a recording.
#pragma once

#include "hist/hist_source.h"
#include "model/run_source.h"

namespace nopspan::collector {

// Of the whole of `source`; what of it is wanted is decided span by span. Throws Failure.
HistTable read_recording(Source& source, const SourceOptions& source_options, const HistOptions& options);

}  // namespace nopspan::collector
