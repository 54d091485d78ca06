// SPDX-License-Identifier: Apache-2.0
#include "command/open_source.h"

#include "host/cgroup_folder.h"
#include "host/hidden_processes.h"
#include "host/process_facts.h"
#include "live/live_source.h"
#include "recording/recording.h"

namespace nopspan::collector {

std::unique_ptr<Source> open_source(const SourceOptions& options) {
  if (!options.from.empty()) return open_recording(options);
  require_processes(options.filter.pids);
  require_cgroup(options.filter.cgroup);
  auto source = open_live_source(options);
  warn_of_hidden_processes();
  return source;
}

}  // namespace nopspan::collector
