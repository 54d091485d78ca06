// SPDX-License-Identifier: Apache-2.0
#include "command.h"
#include "hidden_processes.h"
#include "live_source.h"
#include "recording.h"

namespace nopspan::collector {

std::unique_ptr<Source> open_source(const SourceOptions& options) {
  if (!options.from.empty()) return open_recording(options);
  auto source = open_live_source(options);
  warn_of_hidden_processes();
  return source;
}

}  // namespace nopspan::collector
