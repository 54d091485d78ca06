// SPDX-License-Identifier: Apache-2.0
// Which files with probes the processes of this host map, and what is known of these processes.
#pragma once

#include "host/probe_file.h"
#include "model/span.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace nopspan::collector {

// Not thread-safe. Throws std::bad_alloc and, from its constructor, Failure; what a process or file lets it not do is
// told by skipped().
class Host {
 public:
  struct Found {
    ProbeFilePointer file;
    std::string path;       // as the process that was first seen to map it names it, or as it was given
    std::uint32_t pid = 0;  // that process; 0: none maps it yet
  };
  // One copy of the library in a process: a file that is mapped twice (dlmopen) is two.
  struct Copy {
    ProbeFilePointer file;
    std::string path;                // as the process names it
    bool is_deleted = false;         // no longer under that name: deleted or replaced
    std::uint64_t gate_address = 0;  // of struct nopspan_gate_page in the process; 0: the file has none
  };
  struct Skipped {
    std::uint32_t pid = 0;
    std::string path;    // "" if it is about the whole process
    std::string reason;  // for people: what could not be done, and what it needs
  };
  struct Changes {
    // To be detached from, before anything is attached: no process has mapped them for a while, and none can by the
    // name that they had.
    std::vector<ProbeFilePointer> gone;
    // To be attached to; each inode once.
    std::vector<Found> appeared;
  };

  Host();
  ~Host();
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  // Looks at all processes; cheap enough for ten times a second: of those that it knows it reads /proc/PID/stat alone,
  // and their maps when their size changed, note_pid() told of them, or some time has passed.
  Changes scan();
  // Looks at what was noted by note_pid() and at the watched folders only.
  Changes scan_noted();

  // It executed a program or mapped a file: its maps are read at the next scan.
  void note_pid(std::uint32_t pid);
  // It ended. What is known of it is kept for a while, for what it emitted before.
  void note_exit(std::uint32_t pid);
  // It may be in another cgroup now: it is looked at at once.
  void note_moved(std::uint32_t pid);

  // Readable when a file appeared in a folder that has a known library: then call scan_noted().
  [[nodiscard]] int watch_fd() const;

  // A file to attach to although no process maps it yet (--binary). It comes with the next scan's `appeared`, and so
  // does what replaces it under this name. Throws Failure if it cannot be opened or has no probes.
  void add_file(const std::string& path);

  // All files at present, as `appeared` told of them.
  [[nodiscard]] std::vector<Found> files() const;
  // All processes that map a file with probes (or one that lost its notes), in order of pid.
  [[nodiscard]] std::vector<std::uint32_t> pids() const;
  // The copies of the library that a process has: as of the last scan, or at once if the process is not known yet.
  // Empty if it has none or is gone.
  const std::vector<Copy>& copies(std::uint32_t pid);
  // What is known of a process; never null. Looked up at once if it is not known yet; of one that is gone without a
  // trace the pid and the host alone are told. The same object as long as the process lives, is in the same cgroup and
  // executes no other program.
  ProcessPointer process(std::uint32_t pid);
  // What could not be looked at, and why, as of the last scan.
  [[nodiscard]] std::vector<Skipped> skipped() const;

 private:
  class Scanner;
  std::unique_ptr<Scanner> scanner_;
};

}  // namespace nopspan::collector
