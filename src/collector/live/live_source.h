// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model/source.h"
#include "model/source_options.h"

#include <memory>

namespace nopspan::collector {

// This host's processes, those that are to come too. Throws Failure if the kernel does not let it.
std::unique_ptr<Source> open_live_source(const SourceOptions& options);

}  // namespace nopspan::collector
