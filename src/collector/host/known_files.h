// SPDX-License-Identifier: Apache-2.0
// The files that were examined. Files with probes are held open. For the many other files, only the identity is kept.
#pragma once

#include "base/file_watch.h"
#include "base/open_file.h"
#include "host/maps.h"
#include "host/probe_file.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace nopspan::collector {

class KnownFiles {
 public:
  using Clock = std::chrono::steady_clock;

  struct Found {
    ProbeFilePointer file;
    std::string path;       // the name that the first process seen with it uses, or the given name
    std::uint32_t pid = 0;  // that process; 0 if none maps the file yet
    // The users of the processes seen with it. Of a file in a watched folder, also its owner.
    std::set<std::uint32_t> users;
  };
  // Each file with probes is held open. So that no user can take all descriptors, a user's programs may have half of
  // the files that those of others leave.
  struct Refused {
    std::size_t files = 0;  // that were not held, since the start
    std::set<std::uint32_t> users;
  };
  struct Result {
    bool is_known = false;  // false: the process could not be read, or `until` was reached; try again later
    ProbeFilePointer file;  // null if it has no probes or cannot be examined
    std::string why_not;    // "" if there is nothing to report
  };
  // The files behind mappings. No new file is examined after `until`.
  std::vector<Result> find(const Target& process, const std::vector<Mapping>& mappings, Clock::time_point until);
  // Whether `until` was reached since the last call.
  bool take_is_behind() { return std::exchange(is_behind_, false); }
  // Adds a file to attach to, even if no process maps it yet (--binary). Later scans also find the files that replace
  // it under this name. Throws Failure if it cannot be opened or has no probes.
  void add(const std::string& path);
  // Examines the files that appeared in watched folders.
  void look_at_watched();
  // Records that a process still maps the file.
  void note_mapped(const ProbeFilePointer& file, Clock::time_point now);
  // Drops the files that no process has mapped for a while and whose former name no longer leads to them, and those
  // that have other content now. Returns whether there were any since the last call.
  bool update(Clock::time_point now);

  // Leases all files from now on (fcntl(2), F_SETLEASE). The kernel keeps a breakpoint for a place in a file, whatever
  // is written there. So a program that is written over a traced one would get a breakpoint somewhere in its text.
  // Because of the lease, a program that opens the file for writing waits until this one has detached from it. SIGIO
  // must be blocked in this thread, and only this thread may call any function from then on. A file that somebody opens
  // for writing is not among attachable() until it has been closed. Throws Failure.
  void begin_leases();
  // Readable when somebody waits for a file. Then call make_way(), detach from what is no longer among attachable(),
  // and call let_writers_in(). After the latter, the file may be written to. -1 if no files are leased.
  [[nodiscard]] int writers_fd() const { return lease_signal_.get(); }
  bool make_way();  // whether somebody waits
  void let_writers_in();
  void end_leases();
  // False for a file that somebody writes to, or that has other content now.
  [[nodiscard]] bool may_be_attached(const ProbeFile& file) const;
  [[nodiscard]] bool is_held(const ProbeFile& file) const;

  // All files that may be attached to now, each inode once; and those that somebody writes to.
  [[nodiscard]] std::vector<Found> attachable() const { return files_that(false); }
  // Those of them that were given to add().
  [[nodiscard]] std::vector<Found> added() const;
  [[nodiscard]] std::vector<Found> written() const { return files_that(true); }
  [[nodiscard]] const Refused& refused() const { return refused_; }
  // Readable when a file has appeared in a folder that has a known library.
  [[nodiscard]] int watch_fd() const { return watch_.fd(); }

 private:
  struct File {
    Found found;
    FileId id;                           // its identity when last seen
    std::optional<std::uint32_t> payer;  // the user who first mapped it, or who owns it in a watched folder
    Clock::time_point mapped_at;
    bool is_added = false;    // by add()
    bool is_watched = false;  // its path's folder is watched
    bool may_come_back = true;
    Clock::time_point looked_up_at;  // for may_come_back
    bool is_leased = false;
    bool makes_way = false;          // for a program that writes to it
    Clock::time_point makes_way_at;  // none if that program was seen to have the file open
  };

  File* known(const FileId& id);
  [[nodiscard]] const File* held(const ProbeFile& file) const;
  [[nodiscard]] std::vector<Found> files_that(bool make_way) const;
  bool find_known(const FileId& id, std::uint32_t pid, Result& result);
  void examine(const Target& process, const Mapping& mapping, const FileId& id, Result& result);
  // Null if the user may not hold more files.
  File* keep(const ProbeFilePointer& file, const std::string& path, std::uint32_t pid,
             std::optional<std::uint32_t> user);
  [[nodiscard]] bool may_hold_more(std::uint32_t user) const;
  // Counts a file that is not held. Returns the reason.
  std::string refuse(const FileId& id, std::uint32_t user);
  static void note_user(File& file, std::uint32_t user);
  // Leases the file, or makes way for its writer. Returns false if the file has other content than before. It then
  // makes way too, and must be dropped or leased again.
  bool lease(File& file, Clock::time_point now);
  // Reads the file again, whose identity now is `id`.
  enum class Again : std::uint8_t { same_probes, other_content, not_read };
  static Again read_again(File& file, const FileId& id);
  // Examines the file at this path in a watched folder, unless it is known.
  void look_at(const std::string& path);
  bool may_come_back(File& file, Clock::time_point now);
  // is_idle(), as it was within the last second.
  bool is_idle_now(std::uint64_t device, Clock::time_point now);
  void drop(std::size_t index);

  std::vector<File> files_;
  bool has_dropped_ = false;  // since the last update()
  FileWatch watch_;
  OpenFile lease_signal_;                   // empty if no files are leased
  std::vector<ProbeFilePointer> given_up_;  // leases to give up when these files are detached from
  std::map<std::uint64_t, bool> idle_;      // by device
  Clock::time_point idle_at_;
  bool is_behind_ = false;
  Refused refused_;
  std::unordered_set<FileId, FileIdHash> refused_ids_;
  // Files without probes, with the reason why not. Two generations: a file that is not looked up during one generation
  // is forgotten.
  std::unordered_map<FileId, std::string, FileIdHash> without_, old_without_;
};

}  // namespace nopspan::collector
