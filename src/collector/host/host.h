// SPDX-License-Identifier: Apache-2.0
// Finds the files with probes that the processes of this host map, and describes these processes.
#pragma once

#include "host/probe_file.h"
#include "model/entry.h"
#include "model/ledger.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace nopspan::collector {

// Not thread-safe. Every function may throw std::bad_alloc; the constructor may also throw Failure. If a process or
// file cannot be examined, skipped() has the reason.
class Host {
 public:
  struct Found {
    ProbeFilePointer file;
    std::string path;       // the name that the first process seen with it uses, or the given name
    std::uint32_t pid = 0;  // that process; 0 if none maps the file yet
    // The users of the processes seen with it. Of a file in a watched folder, also its owner.
    std::set<std::uint32_t> users;
  };
  // One copy of the library in a process. A file that is mapped twice (dlmopen) has two copies.
  struct Copy {
    ProbeFilePointer file;
    std::string path;                // the process's name for it
    bool has_text = true;            // the text with the probes is mapped from the file, not moved to other memory
    bool is_deleted = false;         // deleted or replaced: that name no longer leads to it
    std::uint64_t gate_address = 0;  // address of struct nopspan_gate_page in the process; 0 if the file has none
  };
  // Each file with probes is held open. So that no user can take all descriptors, a user's programs may have half of
  // the files that those of others leave.
  struct Refused {
    std::size_t files = 0;  // that were not held, since the start
    std::set<std::uint32_t> users;
  };
  struct Changes {
    // Files to detach from, before attaching to any: no process has mapped them for a while, and their former name no
    // longer leads to them.
    std::vector<ProbeFilePointer> gone;
    // Files to attach to. Each inode is reported once.
    std::vector<Found> appeared;
  };

  Host();
  ~Host();
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  // Examines all processes. Takes about a second at most for files that are new. Cheap enough for ten calls per second:
  // for known processes it reads only /proc/PID/stat. It reads their maps if their memory size has changed, note_pid()
  // named them, or some time has passed.
  Changes scan();
  // Examines the processes that note_pid() named or that have changed lately, once per second those that have copies of
  // the library, and a part of all others. Call it every 250 ms. If note_pid() names each process that executes a
  // program, a file that such a program maps at its start is found at the next call. Any other new file is found within
  // 30 s.
  Changes scan_some();
  // Examines only the processes that note_pid() named, and the watched folders.
  Changes scan_noted();

  // Examines these processes, or all if there are none. Goes on until no file is left, but at most for 10 s, because
  // programs that map new files again and again would keep it busy forever.
  void scan_completely(const std::vector<std::uint32_t>& pids);

  // Call it when the process has executed a program or mapped a file. Its maps are read at the next scan.
  void note_pid(std::uint32_t pid);
  // Call it when the process has ended. Its description is kept for a while, because entries that it emitted may still
  // arrive.
  void note_exit(std::uint32_t pid);
  // Call it when the process may have moved to another cgroup. It is described again immediately.
  void note_moved(std::uint32_t pid);

  // Readable when a file has appeared in a folder that has a known library. Then call scan_noted().
  [[nodiscard]] int watch_fd() const;

  // Adds a file to attach to, even if no process maps it yet (--binary). The next scan reports it in `appeared`. Later
  // scans also report the files that replace it under this name. Throws Failure if it cannot be opened or has no
  // probes.
  void add_file(const std::string& path);

  // Leases all files from now on (file_leases.h). SIGIO must be blocked in this thread, and only this thread may call
  // any function from then on. A file that somebody opens for writing is not among files() until it has been closed.
  // Throws Failure.
  void begin_leases();
  // Readable when somebody waits for a file. Then call make_way(), detach from what is no longer among files(), and
  // call let_writers_in(). After the latter, the file may be written to. -1 if no files are leased.
  [[nodiscard]] int writers_fd() const;
  bool make_way();  // whether somebody waits
  void let_writers_in();
  void end_leases();
  // False for a file that somebody writes to, or that has other content now.
  [[nodiscard]] bool may_be_attached(const ProbeFile& file) const;

  // All files that may be attached to now, in the form of `appeared`; and those that somebody writes to.
  [[nodiscard]] std::vector<Found> files() const;
  [[nodiscard]] std::vector<Found> written_files() const;
  // All processes that map a file with probes (or a file that lost its notes), in order of pid.
  [[nodiscard]] std::vector<std::uint32_t> pids() const;
  // The copies of the library in a process, as of the last scan. If the process is not known yet, it is examined now.
  // Empty if it has no copy or is gone.
  const std::vector<Copy>& copies(std::uint32_t pid);
  // The processes that map a file, as of the last scan, in order of pid. An attach to the file takes time for each
  // mapping, in whatever process, and all forks on this host wait meanwhile. Of a file in Mappings::crowds(), the
  // mappings of a page are counted, otherwise its copies. In another container the same file may have another device
  // (ProbeFile::may_be).
  struct Mapper {
    std::uint32_t pid = 0;
    std::uint64_t mappings = 0;  // of the file
    std::uint32_t user = 0;
    std::string comm;
    std::uint64_t all_mappings = 0;  // of the process
    // A number that changes when the process executes another program, or another process has its pid. 0: not known.
    // Without randomized addresses, it stays the same after an exec of the same program with the same arguments.
    std::uint64_t program = 0;
  };
  // `only_crowds`: only those that have Mappings::crowds().
  std::vector<Mapper> mappers(const ProbeFile& file, bool only_crowds = false);
  // Whether any process has Mappings::crowds().
  [[nodiscard]] bool has_crowds() const;
  // Whether there is a process whose mappings could never be read, so that they are not counted.
  [[nodiscard]] bool has_uncounted() const;
  // The description of a process; never null. If the process is not known yet, it is examined now. If it is gone and
  // was never examined, only the pid and the host are set. The same object is returned as long as the process executes
  // no other program, stays in its cgroup, and has the same library.
  ProcessPointer process(std::uint32_t pid);
  // The real user of a process, when its memory last changed. If it is not known yet, the present one.
  [[nodiscard]] std::uint32_t user(std::uint32_t pid) const;
  // Whether the last scan left processes or files for the next one, because it took too long.
  [[nodiscard]] bool is_behind() const;
  // The processes that the last scan left for the next one, and those that note_pid() named since.
  [[nodiscard]] const std::set<std::uint32_t>& waiting() const;
  // Whether the last scan did not examine all processes, because this program has too many open files.
  [[nodiscard]] bool has_too_many_files() const;
  // Processes and files that could not be examined, and why, as of the last scan.
  [[nodiscard]] std::vector<Unattached> skipped() const;
  [[nodiscard]] const Refused& refused() const;

 private:
  class Scanner;
  std::unique_ptr<Scanner> scanner_;
};

}  // namespace nopspan::collector
