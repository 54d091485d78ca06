// SPDX-License-Identifier: Apache-2.0
// A folder for request bodies of traces or of logs that wait for a receiver, and for those that the memory queue cannot
// hold.
//
// Files are named NUMBER.nopspan. They contain bodies in the format of a recording (recording/chunks.h): a chunk
// `spooled`, which says how many items the body has, and another one with the body, compressed by gzip. After the
// answer to a body, the file `position` is replaced, which names the first body that has none. If the process is killed
// at any point, no body that was written is lost, and at most one is sent twice. That one counts as resent.
//
// The file `unsaved` has the number of items that are only in memory or were lost, and of bytes that cannot be read,
// but without those that the next run finds in the files again. It is written each second, after 256 entries, and
// whenever items have left the memory. If it is there at the start, the last run was killed or failed, and these items
// may be missing. What left the memory just before the kill, a body at most, may be among them. The number stays in the
// file until a run calls note_reported(), because nobody sees the account of a run that is killed or fails.
//
// Only close() waits for the disk (fdatasync of the last file), because a slow disk must not delay the source. So a
// power failure can lose the bodies of the last half minute or so, and send bodies again that had an answer.
#pragma once

#include "base/open_file.h"
#include "export/export_body.h"
#include "export/receiver_account.h"

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace nopspan::collector {

struct SpoolOptions {
  std::string folder;                                                                   // is made if it does not exist
  std::uint64_t most_bytes = 1ULL << 30U;                                               // of all files
  std::function<void(const std::string&)> say = [](const std::string& /*message*/) {};  // messages for the user
};

class Spool {
 public:
  // Opens the folder, and counts what an earlier run left there as found. Throws Failure with kUsageError if another
  // exporter uses the folder, or if other users could change it. `account` must outlive this object. `beside`: another
  // spool that has the same `most_bytes` together with this one. Each may have a quarter of them in any case.
  Spool(SpoolOptions options, ReceiverAccount& account, Spool* beside = nullptr);
  // If nothing is missing or lost, or the account was reported, the next run need not know that there was this one.
  ~Spool();
  Spool(const Spool&) = delete;
  Spool& operator=(const Spool&) = delete;

  // Writes a body of traces or logs. `may_have_arrived`: an attempt may have arrived. Returns why it could not be
  // written. The caller counts the items. From any thread.
  std::optional<DropReason> keep(const ExportBody& body, bool may_have_arrived, std::string packed_body = {});
  // The same body, compressed. It takes milliseconds, and may be given to keep().
  static std::string packed(const ExportBody& body);
  // `items` of this spool's signal are only in memory now, or were lost by this run. From any thread, but one call at a
  // time.
  void note_unsaved(const ItemCounts& items);
  // The user has the account, with what is missing and what was lost. After close().
  void note_reported() { is_reported_ = true; }
  // Whether the last body did not fit. From any thread.
  [[nodiscard]] bool is_full() const { return is_full_; }

  // The functions below are called by the thread that sends.
  struct Kept {
    ExportBody body;
    bool may_have_arrived = false;  // an earlier run may have sent it
  };
  [[nodiscard]] bool is_empty() const;
  // Reads the first body. Returns nothing if there is none, or if no file can be opened now (too many open files). A
  // body that can no longer be read is dropped, and the next one is read.
  std::optional<Kept> read();
  // The first body is about to be sent.
  void begin_sending();
  // The first body is settled. It will not be read again.
  void settle();
  // Writes the position and the files to the disk. `may_have_arrived`: of the first body. Further calls have no effect.
  void close(bool may_have_arrived);

  // Bytes of all files.
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  struct Unsaved {
    ItemCounts items;
    std::uint64_t unreadable_bytes = 0;
    friend bool operator==(const Unsaved& a, const Unsaved& b) = default;
  };
  struct Stored {
    std::uint64_t offset = 0;
    ItemCounts items;
    bool may_have_arrived = false;
  };
  struct File {
    std::uint64_t bytes = 0;
    std::deque<Stored> bodies;  // without an answer
    bool is_damaged = false;    // behind these bodies
    Unsaved lost;               // in the rest of the file, where the next run finds it again
  };
  struct Position {
    std::uint64_t file = 0, offset = 0;
    bool attempted = false;  // the body at this position may have been sent
    // All bodies of files with lower numbers may have been sent, because a position was lost.
    std::uint64_t attempted_until = 0;
  };

  void open_folder();
  void read_position();
  void lose_position(const char* why);
  void check_position(const std::vector<std::uint64_t>& numbers);
  // It keeps its `attempted_until`.
  void write_position(std::uint64_t file, std::uint64_t offset, bool attempted);
  void open_unsaved();
  void read_unsaved();
  void count_unreadable(std::uint64_t bytes);
  // Both return the items that were dropped.
  ItemCounts scan();
  ItemCounts scan_file(std::uint64_t number, std::uint64_t bytes);
  // What is known of a body that cannot be read.
  struct Rest {
    std::uint64_t next = 0;  // where the one behind it may begin, or the end of the file
    bool is_cut = false;     // the file ends in it
    bool is_one = false;     // nothing but this body is before `next`
  };
  [[nodiscard]] Rest rest_of(std::uint64_t number, std::uint64_t offset, std::uint64_t bytes, bool has_head) const;
  void set_aside(std::uint64_t number, const std::string& why);
  void end_use(std::uint64_t number);
  void begin_file();
  void drop_removed();
  void cut_file(std::uint64_t number, std::uint64_t bytes) const;
  void end_file();
  bool has_room(std::uint64_t bytes);
  int write(const std::string& head, const std::string& bytes);
  [[nodiscard]] std::map<std::uint64_t, File>::iterator first();  // with a body
  [[nodiscard]] std::string path_of(std::uint64_t number) const;

  const SpoolOptions options_;
  ReceiverAccount& account_;
  const Spool* beside_;  // null if there is none
  OpenFile folder_;      // holds the lock
  OpenFile unsaved_;
  std::optional<Unsaved> noted_;  // in that file; nothing if it is not known
  Unsaved earlier_;               // what earlier runs left there
  bool was_ended_ = false;        // the last run removed that file
  bool is_reported_ = false;

  std::atomic<std::uint64_t> bytes_ = 0;  // changed with mutex_
  std::atomic<bool> is_full_ = false;
  std::atomic<std::uint64_t> unreadable_bytes_ = 0;  // found by this run

  mutable std::mutex mutex_;
  std::map<std::uint64_t, File> files_;  // this and all below with mutex_
  std::uint64_t next_file_ = 1;
  std::uint64_t writing_ = 0;  // number of the file that is being written; 0: none
  std::uint64_t loaded_ = 0;   // number of the file whose first body read() has returned, until settle(); 0: none
  OpenFile file_;
  Position position_;
  bool is_closed_ = false, position_failed_ = false, note_failed_ = false, said_error_ = false;
};

}  // namespace nopspan::collector
