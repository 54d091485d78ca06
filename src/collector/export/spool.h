// SPDX-License-Identifier: Apache-2.0
// A folder for what waits for a receiver, and for the entries that the memory queue cannot hold.
//
// Files are named NUMBER.nopspan. They contain groups in the format of a recording (recording/chunks.h): a chunk
// `spooled`, which says how many items and chunks follow, and chunks of logs, steps and traces. A group is sent as a
// whole. Then the file `position` is replaced, which names the first group that has no answer. If the process is killed
// at any point, no group that was written is lost, and at most one is sent twice. That one counts as resent.
//
// The file `unsaved` has the number of items that are only in memory. It is written each second, after 256 entries, and
// whenever items have left the memory. close() removes it. If it is there at the start, the last run was killed, and
// these items may be missing. What left the memory just before the kill, a group at most, may be among them. The number
// stays in the file until a run ends with close(), because the account of a run that is killed itself is lost.
//
// Only close() waits for the disk (fdatasync of the last file), because a slow disk must not delay the source. So a
// power failure can lose the groups of the last half minute or so, and send groups again that had an answer.
#pragma once

#include "base/open_file.h"
#include "export/receiver_account.h"
#include "model/entry.h"
#include "recording/chunks.h"
#include "recording/otlp_reader.h"
#include "recording/otlp_spans.h"
#include "recording/recorded_steps.h"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace nopspan::collector {

struct SpoolGroupHead;

struct SpoolOptions {
  std::string folder;                      // is made if it does not exist
  std::uint64_t most_bytes = 1ULL << 30U;  // of all files
  std::size_t group_bytes = 512U << 10U;   // a group is written when it has this size
  std::function<void(const std::string&)> say = [](const std::string& /*message*/) {};  // messages for the user
};

class Spool {
 public:
  // Opens the folder, and counts what an earlier run left there as found. Throws Failure with kUsageError if another
  // exporter uses the folder, or if other users could change it. `account` must outlive this object. `beside`: another
  // spool that has the same `most_bytes` together with this one. Each may have a quarter of them in any case.
  Spool(SpoolOptions options, ReceiverAccount& account, Spool* beside = nullptr);
  ~Spool();
  Spool(const Spool&) = delete;
  Spool& operator=(const Spool&) = delete;

  // Called by the thread of the source. Adds an entry to the group that is not written yet. `items`: what the entry is
  // in a request. Returns whether groups were written.
  bool add(const Entry& entry, const ItemCounts& items);
  // Whether the entry is an event, or their span, of which the group has events but not the span yet.
  [[nodiscard]] bool awaits(const Entry& entry) const { return entry.span_id != 0 && awaited_.contains(entry.span_id); }
  // Writes the group, unless it awaits spans that may still come. Returns whether it was written.
  bool on_tick();
  // The items of that group.
  [[nodiscard]] const ItemCounts& pending() const { return pending_; }
  // Writes that group. Items that cannot be written are dropped and counted. Returns whether it was written.
  bool flush();

  // The functions below are called by the thread that sends.
  struct Group {
    ItemCounts items;
    bool was_found = false;          // written by an earlier run
    bool may_have_arrived = false;   // an earlier run may have sent it
    std::optional<ExportBody> body;  // of keep(); then there are no entries
  };
  [[nodiscard]] bool is_empty() const;
  // Whether the last group could be written, if there was one. From any thread.
  [[nodiscard]] bool can_write() const;
  // Reads the first group, and calls `each` with its entries: logs before steps and spans. Returns nothing if there is
  // none. A group that can no longer be read is dropped, and the next one is read. `begin_group` is called before the
  // entries of each group.
  std::optional<Group> read(const std::function<void()>& begin_group, const std::function<void(const Entry&)>& each);
  // The first group is about to be sent.
  void begin_sending();
  // The first group is settled. It will not be read again.
  void settle();
  // Writes a body of traces or logs as a group of its own, for the next run. `may_have_arrived`: an attempt may have
  // arrived. Returns why it could not be written. The caller counts the items.
  std::optional<DropReason> keep(const ExportBody& body, bool may_have_arrived);
  // `items` of this spool's signals are only in memory now. From any thread, but one call at a time.
  void note_unsaved(const ItemCounts& items);
  // Writes the position and the files to the disk. `may_have_arrived`: of the first group. Further calls have no
  // effect.
  void close(bool may_have_arrived);

  // Bytes of all files.
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  // Files that were renamed to NAME.damaged, because they are not readable as a spool.
  [[nodiscard]] std::uint64_t files_set_aside() const;

 private:
  struct Stored {
    std::uint64_t offset = 0;
    Group group;
  };
  struct File {
    std::uint64_t bytes = 0;
    std::deque<Stored> groups;  // without an answer
    bool is_damaged = false;    // behind these groups
  };
  struct Position {
    std::uint64_t file = 0, offset = 0;
    bool attempted = false;  // the group at this position may have been sent
    // All groups of files with lower numbers may have been sent, because a position was lost.
    std::uint64_t attempted_until = 0;
  };

  void open_folder();
  void read_position();
  void lose_position(const char* why);
  void check_position(const std::vector<std::uint64_t>& numbers);
  // It keeps its `attempted_until`.
  void write_position(std::uint64_t file, std::uint64_t offset, bool attempted);
  void read_unsaved();
  void scan();
  void scan_file(std::uint64_t number, std::uint64_t bytes);
  // What is known of a group that cannot be read.
  struct Rest {
    std::uint64_t next = 0;  // where the group behind it may begin, or the end of the file
    bool is_cut = false;     // the file ends in it
    bool is_one = false;     // nothing but this group is before `next`
  };
  // `chunks`: how many chunks its head announces; 0 if that cannot be read.
  [[nodiscard]] Rest rest_of(std::uint64_t number, std::uint64_t offset, std::uint64_t bytes,
                             std::uint64_t chunks) const;
  void set_aside(std::uint64_t number, const std::string& why);
  void end_use(std::uint64_t number);
  void begin_file();
  void end_file();
  std::optional<DropReason> write_group(SpoolGroupHead head, const std::vector<Chunk>& chunks);
  int write_chunks(const std::string& head, const std::vector<Chunk>& chunks);
  [[nodiscard]] std::string path_of(std::uint64_t number) const;

  const SpoolOptions options_;
  ReceiverAccount& account_;
  const Spool* beside_;  // null if there is none
  OpenFile folder_;      // holds the lock
  OpenFile unsaved_;
  ItemCounts noted_, missing_;  // in that file, and what earlier runs left there

  // Used by the thread of the source.
  OtlpEncoder logs_{Signal::logs}, traces_{Signal::traces};
  StepEncoder steps_;
  ItemCounts pending_;
  std::set<std::uint64_t> awaited_;  // the spans of events in that group that are not in it yet
  std::chrono::steady_clock::time_point awaited_since_;

  // Used by the thread that sends.
  OtlpReader reader_;
  StepReader step_reader_;

  std::atomic<std::uint64_t> bytes_ = 0;  // changed with mutex_

  mutable std::mutex mutex_;
  std::map<std::uint64_t, File> files_;  // this and all below with mutex_
  std::uint64_t next_file_ = 1, set_aside_ = 0;
  std::uint64_t writing_ = 0;  // number of the file that is being written; 0: none
  OpenFile file_;
  Position position_;
  bool is_closed_ = false, position_failed_ = false, note_failed_ = false, said_full_ = false, said_error_ = false;
};

}  // namespace nopspan::collector
