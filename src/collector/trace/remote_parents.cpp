// SPDX-License-Identifier: Apache-2.0
#include "trace/remote_parents.h"

namespace nopspan::collector {

void RemoteParents::saw(const Process& process) {
  if (processes_.size() >= kMaxProcesses) processes_.clear();
  processes_.try_emplace({process.pid, process.start_ticks}, Clients::unknown);
}

void RemoteParents::learn(const Process& process, bool seen) {
  saw(process);
  Clients& clients = processes_[{process.pid, process.start_ticks}];
  if (seen) {
    clients = Clients::seen;
  } else if (clients == Clients::unknown) {
    clients = Clients::unseen;
  }
}

bool RemoteParents::may_come(const Process& process) const {
  if (processes_.size() < 2) return false;
  const auto known = processes_.find({process.pid, process.start_ticks});
  return known == processes_.end() || known->second != Clients::unseen;
}

}  // namespace nopspan::collector
