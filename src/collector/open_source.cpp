// SPDX-License-Identifier: Apache-2.0
#include "command.h"
#include "live_source.h"
#include "recording.h"

namespace nopspan::collector {

std::unique_ptr<Source> open_source(const SourceOptions& options) {
  return options.from.empty() ? open_live_source(options) : open_recording(options);
}

}  // namespace nopspan::collector
