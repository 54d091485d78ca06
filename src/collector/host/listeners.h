// SPDX-License-Identifier: Apache-2.0
// Who listens to which probes of which file.
#pragma once

#include "host/probe_file.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace nopspan::collector {

// One that listens to places of one file.
struct Listener {
  enum class Kind : std::uint8_t {
    program,  // a BPF program on a perf event or link
    event,    // an event in tracefs (perf probe, or written by hand) that is switched on there
    perhaps,  // such an event that is not, and a process that may use it (perf record): the kernel does not tell
  };
  Kind kind = Kind::program;
  std::uint32_t pid = 0;  // who holds it; 0: nobody does (pinned in bpffs, or an event that is switched on in tracefs)
  std::string command;    // of that process
  std::string name;       // the BPF program's name, or the event's "group:name"
  std::uint32_t program = 0;            // the BPF program's id
  std::string file;                     // as it was named when it was attached to
  std::uint64_t device = 0, inode = 0;  // what that name leads to now; 0: nothing
  std::vector<std::uint64_t> offsets;   // in the file
};

// What one of them hears of a file.
struct Heard {
  const Listener* listener = nullptr;
  std::vector<std::string> probes;  // "span_stop", "batch"
  bool is_by_name = false;          // the name leads to another file by now: this one had it
};

class Listeners {
 public:
  // All of the host, as of now. Looks at every open file of every process: for a command, not for a loop.
  static Listeners find();

  // Those that listen to this file, which processes know by this path.
  [[nodiscard]] std::vector<Heard> of(const ProbeFile& file, const std::string& path) const;

  [[nodiscard]] const std::vector<Listener>& all() const { return listeners_; }
  // What could not be looked at, and what it needs; "" if nothing.
  [[nodiscard]] const std::string& incomplete() const { return incomplete_; }

 private:
  friend class ListenerSearch;

  std::vector<Listener> listeners_;
  std::map<std::uint32_t, std::string> others_;  // with perf events that no program belongs to: pid and command
  std::string incomplete_;
};

}  // namespace nopspan::collector
