// SPDX-License-Identifier: Apache-2.0
// Finds out which tracers are attached to which probes of a file.
#pragma once

#include "host/probe_file.h"

#include <cstdint>
#include <string>
#include <vector>

namespace nopspan::collector {

// A tracer that is attached to places in one file.
struct Tracer {
  enum class Kind : std::uint8_t {
    program,  // a BPF program on a perf event or link
    event,    // an event in tracefs (by perf probe or written by hand) that is enabled there
    // Such an event that is not enabled, and a process that may use it (perf record). The kernel does not report which
    // processes use an event.
    perhaps,
  };
  Kind kind = Kind::program;
  // The process that holds it. 0 if none does: it is pinned in bpffs, or is an event that is enabled in tracefs.
  std::uint32_t pid = 0;
  std::string comm;
  std::string name;                    // the BPF program's name, or the event's "group:name"
  std::uint32_t program = 0;           // the BPF program's id
  std::string file;                    // the name that was used to attach
  FileId id;                           // of the file that this name leads to now; 0 if none
  std::vector<std::uint64_t> offsets;  // file offsets
};

// The probes of a file that one tracer is attached to.
struct AttachedTracer {
  const Tracer* tracer = nullptr;
  std::vector<std::string> probes;  // "span_stop", "batch"
  bool is_by_name = false;          // matched by name only: that name leads to another file now, or to none
};

// The mount point of tracefs; "" if it is not mounted or not readable.
std::string tracefs();

struct Tracers {
  // Finds all tracers of this host. It examines every open file of every process, so it is meant for a single call
  // and not for a loop. It takes some seconds at most, and ends when the program must stop.
  static Tracers find();

  // The tracers to this file. `path` is the name under which processes know it.
  [[nodiscard]] std::vector<AttachedTracer> of(const ProbeFile& file, const std::string& path) const;

  std::vector<Tracer> all;
  std::string incomplete;  // the part of the host that was not examined, and why; "" if nothing was left out
};

}  // namespace nopspan::collector
