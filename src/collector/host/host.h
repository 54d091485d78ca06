// SPDX-License-Identifier: Apache-2.0
// Finds the files with probes that the processes of this host map, and describes these processes. KnownFiles has the
// files.
#pragma once

#include "base/time_budget.h"
#include "host/known_files.h"
#include "host/maps.h"
#include "host/probe_file.h"
#include "host/process_facts.h"
#include "model/entry.h"
#include "model/ledger.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

namespace nopspan::collector {

// Not thread-safe. Every function may throw std::bad_alloc; the constructor may also throw Failure. If a process or
// file cannot be examined, skipped() has the reason.
class Host {
 public:
  using Found = KnownFiles::Found;
  // One copy of the library in a process. A file that is mapped twice (dlmopen) has two copies.
  struct Copy {
    ProbeFilePointer file;
    std::string path;                // the process's name for it
    bool has_text = true;            // the text with the probes is mapped from the file, not moved to other memory
    bool is_deleted = false;         // deleted or replaced: that name no longer leads to it
    std::uint64_t gate_address = 0;  // address of struct nopspan_gate_page in the process; 0 if the file has none
  };
  Host();

  // Examines all processes. Takes about a second at most for files that are new. Cheap enough for ten calls per second:
  // for known processes it reads only /proc/PID/stat. It reads their maps if their memory size has changed, note_pid()
  // named them, or some time has passed.
  void scan();
  // Examines the processes that note_pid() named or that have changed lately, once per second those that have copies of
  // the library, and a part of all others. Call it every 250 ms. If note_pid() names each process that executes a
  // program, a file that such a program maps at its start is found at the next call. Any other new file is found within
  // 30 s.
  void scan_some();
  // Examines only the processes that note_pid() named, and the watched folders.
  void scan_noted();

  // Examines these processes, or all if there are none. Goes on until no file is left, but at most for 10 s, because
  // programs that map new files again and again would keep it busy forever.
  void scan_completely(const std::vector<std::uint32_t>& pids = {});

  // Call it when the process has executed a program or mapped a file. Its maps are read at the next scan.
  void note_pid(std::uint32_t pid);
  // Call it when the process has ended. Its description is kept for a while, because entries that it emitted may still
  // arrive.
  void note_exit(std::uint32_t pid);
  // Call it when the process may have moved to another cgroup. It is described again immediately.
  void note_moved(std::uint32_t pid);

  // Call scan_noted() when its watch_fd() is readable.
  [[nodiscard]] KnownFiles& files() { return files_; }
  // All processes that map a file with probes (or a file that lost its notes), in order of pid.
  [[nodiscard]] std::vector<std::uint32_t> pids() const { return {with_copies_.begin(), with_copies_.end()}; }
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
  [[nodiscard]] bool has_crowds() const { return !with_crowds_.empty(); }
  // Whether there is a process whose mappings could never be read, so that they are not counted.
  [[nodiscard]] bool has_uncounted() const { return !uncounted_.empty(); }
  // The description of a process; never null. If the process is not known yet, it is examined now. If it is gone and
  // was never examined, only the pid and the host are set. The same object is returned as long as the process executes
  // no other program, stays in its cgroup, and has the same library.
  ProcessPointer process(std::uint32_t pid);
  // The real user of a process, when its memory last changed. If it is not known yet, the present one.
  [[nodiscard]] std::uint32_t user(std::uint32_t pid) const;
  // Whether the last scan left processes or files for the next one, because it took too long.
  [[nodiscard]] bool is_behind() const { return is_behind_; }
  // The processes that the last scan left for the next one, and those that note_pid() named since.
  [[nodiscard]] const std::set<std::uint32_t>& waiting() const { return noted_; }
  // Whether the last scan did not examine all processes, because this program has too many open files.
  [[nodiscard]] bool has_too_many_files() const { return has_too_many_files_; }
  // Processes and files that could not be examined, and why, as of the last scan.
  [[nodiscard]] std::vector<Unattached> skipped() const;

 private:
  using Clock = KnownFiles::Clock;
  // A mapping of a file's code that was examined.
  struct Seen {
    std::uint64_t device, inode, start;
    friend auto operator<=>(const Seen&, const Seen&) = default;  // NOLINT(modernize-use-nullptr): there is none
  };
  static Seen seen_key(const Mapping& mapping) { return {mapping.device, mapping.inode, mapping.start}; }
  struct Known {
    ProcessState state;
    Clock::time_point read_at, recognized_since;
    std::uint32_t user = kNoUser;               // as of its last change
    bool is_due = true;                         // its maps must be read
    bool is_settled = false;                    // its maps were read at least once after its last change
    unsigned reads_in_vain = 0;                 // successive reads that showed nothing new
    std::map<Seen, ProbeFilePointer> seen;      // with probes
    std::vector<std::uint64_t> without_probes;  // hashes of the others that were seen, in order
    std::vector<Copy> copies;
    std::vector<Mappings::Crowd> crowds;
    std::uint64_t all_mappings = 0;
    bool is_counted = true;  // false: its mappings could not be read, so it may have any number
    std::vector<Unattached> skipped;
    ProcessPointer process;
  };

  // Null if the process is gone. scan_some() looks at it again if it may still be loading files.
  Known* look_at(std::uint32_t pid);
  bool list(std::vector<std::uint32_t>& pids);
  void begin_scan();
  void end_scan();
  void update_files();
  // Looks at these processes, which are in ascending order. Begins with the first one that the last scan had no time
  // for.
  void look_in_turn(std::vector<std::uint32_t> turn);
  // Whether the process must wait, because its user has used up the budget.
  bool must_wait(std::uint32_t pid);
  // The scan had no time for the process, or for some of its files.
  void leave_for_next(std::uint32_t pid);

  // `began`: the time before the state was read.
  void update(std::uint32_t pid, Known& known, const ProcessState& state, Clock::time_point began);
  void charge(const Known& known, Clock::time_point since);
  void read_maps(std::uint32_t pid, Known& known);
  bool find_files(std::uint32_t pid, Known& known, const Mappings& mappings);
  void remember(Known& known, std::vector<std::uint64_t> without_probes);
  static void find_copies(Known& known, const Mappings& mappings);
  void describe(std::uint32_t pid, Known& known);
  void end(std::map<std::uint32_t, Known>::iterator ended);

  // Also notices the end of the process.
  void look_again(std::uint32_t pid);
  void look_at_next_of_all(Clock::time_point now);

  KnownFiles files_;
  std::map<std::uint32_t, Known> processes_;
  std::set<std::uint32_t> with_copies_;  // the processes that have copies of the library
  std::set<std::uint32_t> with_crowds_;  // the processes that have Known::crowds
  std::set<std::uint32_t> uncounted_;    // the processes that are not Known::is_counted
  bool is_behind_ = false;
  bool has_too_many_files_ = false;
  std::size_t mappings_ = 0;  // without probes, that are remembered
  TimeBudget budget_;
  Clock::time_point scan_ends_ = Clock::time_point::max(), budgets_count_ = Clock::time_point::max();
  // For scan_some().
  std::set<std::uint32_t> unsettled_;
  std::vector<std::uint32_t> all_;  // the processes of this round through all
  std::size_t next_of_all_ = 0;     // the first one that was not looked at
  Clock::time_point round_began_, traced_looked_at_;
  std::uint32_t begin_at_ = 0;  // the first process that the last scan had no time for
  std::set<std::uint32_t> noted_, left_;
  std::unordered_map<std::uint32_t, ProcessPointer> ended_;
  std::deque<std::uint32_t> ended_order_;
};

}  // namespace nopspan::collector
