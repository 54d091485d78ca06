// SPDX-License-Identifier: Apache-2.0
// The source that traces this host's processes.
#pragma once

#include "model/source.h"
#include "model/source_options.h"

#include <memory>

namespace nopspan::collector {

// Traces the current and future processes of this host. Throws Failure if the kernel does not permit it.
std::unique_ptr<Source> open_live_source(const SourceOptions& options);

}  // namespace nopspan::collector
