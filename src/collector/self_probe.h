// SPDX-License-Identifier: Apache-2.0
// A probe of this program's own, to find out whether tracing works here: nobody else is disturbed.
#pragma once

#include <cstdint>
#include <string>

namespace nopspan::collector {

struct SelfProbe {
  // The step that was refused, and why: "" if all were done.
  enum class Step : std::uint8_t { map, program, event, attach, none };
  Step refused = Step::none;
  int error = 0;
  std::uint64_t hits = 0;       // that the BPF program counted, of one
  bool semaphore_rose = false;  // while it was attached
  bool semaphore_fell = false;  // after that
};

// Loads a BPF program that counts, attaches it to a site in this program for all processes, by perf_event_open(2) as
// libbpf does, passes the site once, and takes all away.
SelfProbe try_self_probe();

// The same attach by a link for many uprobes (Linux 6.6), without a hit. Returns 0, or the error number.
int try_uprobe_multi();

}  // namespace nopspan::collector
