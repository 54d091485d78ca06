// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model/source.h"
#include "model/source_options.h"

#include <memory>

namespace nopspan::collector {

// This host's processes, or the recording that --from names. Throws Failure.
std::unique_ptr<Source> open_source(const SourceOptions& options);

}  // namespace nopspan::collector
