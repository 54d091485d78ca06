// SPDX-License-Identifier: Apache-2.0
// A probe in this program itself. Attaching to it shows whether tracing works here, without disturbing other programs.
#pragma once

#include <cstdint>

namespace nopspan::collector {

struct SelfProbe {
  // The step that the kernel refused, and its errno; `none` and 0 if all steps succeeded.
  enum class Step : std::uint8_t { load, attach, none };
  Step refused = Step::none;
  int error = 0;
  std::uint64_t hits = 0;       // counted by the BPF program; 1 is right
  bool semaphore_rose = false;  // while the probe was attached
  bool semaphore_fell = false;  // after the detach
};

// Loads a BPF program that counts hits, attaches it to a site in this program for all processes, as the collector does
// (probe_link.h), calls the site once, and detaches.
SelfProbe try_self_probe();

}  // namespace nopspan::collector
