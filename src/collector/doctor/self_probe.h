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

// Loads a BPF program that counts, attaches it to a site in this program for all processes, as the collector does
// (probe_link.h), passes the site once, and takes all away.
SelfProbe try_self_probe();

}  // namespace nopspan::collector
