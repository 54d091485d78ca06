// SPDX-License-Identifier: Apache-2.0
// A folder for request bodies of traces and of logs that wait for a receiver, and for those that the memory queue
// cannot hold.
//
// Each body is a file NUMBER-SPANS-EVENTS-LOGS.otlp.gz: it is compressed by gzip, and its name has the counts of its
// items. A file has the name `new` until it is whole. While it is sent, it has mode 0400, which says that it may have
// arrived. After the answer it is removed. If the process is killed at any point, no body that was written is lost, and
// at most one of each signal is sent twice. That one counts as resent.
//
// The file `unsaved` has the number of items that are only in memory or were lost, and of bytes that cannot be read. It
// is written each second, after 256 entries, and whenever items have left the memory. If it is there at the start, the
// last run was killed or failed, and these items may be missing. What left the memory just before the kill, a body at
// most, may be among them. The number stays in the file until a run calls note_reported(), because nobody sees the
// account of a run that is killed or fails.
//
// Only close() waits for the disk, because a slow disk must not delay the source. So a power failure can lose the
// bodies of the last half minute or so, and send bodies again that had an answer.
#pragma once

#include "base/open_file.h"
#include "export/export_body.h"
#include "export/receiver_account.h"

#include <sys/types.h>

#include <array>
#include <cstdint>
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
  // Of a file on the disk. The last block of each file counts as a whole.
  static constexpr std::uint64_t kBlockBytes = 4096;

  // Opens the folder, and counts what an earlier run left there as found. Throws Failure with kUsageError if another
  // exporter uses the folder, or if other users could change it. `account` must outlive this object.
  Spool(SpoolOptions options, ReceiverAccount& account);
  // If nothing is missing or lost, or the account was reported, the next run need not know that there was this one.
  ~Spool();
  Spool(const Spool&) = delete;
  Spool& operator=(const Spool&) = delete;

  // Writes a body of traces or logs. Each of the two may have a quarter of the space in any case. `may_have_arrived`:
  // an attempt may have arrived. Returns why it could not be written. The caller counts the items. From any thread.
  std::optional<DropReason> keep(const ExportBody& body, bool may_have_arrived);
  // `items` are only in memory now, or were lost by this run. From any thread.
  void note_unsaved(const ItemCounts& items);
  // The user has the account, with what is missing and what was lost. After close().
  void note_reported() { is_reported_ = true; }
  // Whether the last body of the signal did not fit. From any thread.
  [[nodiscard]] bool is_full(Signal signal) const {
    const std::lock_guard lock(mutex_);
    return lane_of(signal).is_full;
  }

  // The functions below are called by the thread that sends.
  struct Kept {
    ExportBody body;
    bool may_have_arrived = false;  // an earlier run may have sent it
  };
  [[nodiscard]] bool is_empty(Signal signal) const {
    const std::lock_guard lock(mutex_);
    return lane_of(signal).bodies.empty();
  }
  // Reads the first body. Returns nothing if there is none, or if no file can be opened now (too many open files). A
  // body that can no longer be read is dropped, and the next one is read.
  std::optional<Kept> read(Signal signal);
  // The first body is about to be sent.
  void begin_sending(Signal signal);
  // It has not arrived.
  void note_failure(Signal signal);
  // The first body is settled. It will not be read again.
  void settle(Signal signal);
  // Writes all files to the disk. Later bodies are refused. Further calls have no effect.
  void close();

  // Bytes of the signal's files, in whole blocks.
  [[nodiscard]] std::uint64_t bytes(Signal signal) const {
    const std::lock_guard lock(mutex_);
    return lane_of(signal).bytes;
  }

 private:
  struct Unsaved {
    ItemCounts items;
    std::uint64_t unreadable_bytes = 0;
    friend bool operator==(const Unsaved& a, const Unsaved& b) = default;
  };
  struct Stored {
    ItemCounts items;
    std::uint64_t bytes = 0;  // in whole blocks
    bool may_have_arrived = false;
  };
  struct Lane {
    std::map<std::uint64_t, Stored> bodies;  // without an answer, by the numbers of their files
    std::uint64_t bytes = 0;
    bool is_full = false;
    bool is_loaded = false;  // read() has returned the first body, which is not settled
  };

  void open_folder();
  void read_unsaved();
  void write_unsaved(const Unsaved& unsaved);
  void scan();
  void scan_file(const std::string& name);
  void report_others(std::vector<std::string> names);
  void set_aside(const std::string& name, const std::string& why);
  void lose(const ItemCounts& items);
  void drop_removed();
  void erase_first(Lane& lane);
  bool has_room(Lane& lane, std::uint64_t bytes);
  [[nodiscard]] int write(const std::string& name, const std::string& bytes, mode_t mode) const;
  void mark_first(Signal signal, mode_t mode);
  void say_repeats(int error);
  [[nodiscard]] Lane& lane_of(Signal signal) { return lanes_[signal == Signal::logs ? 1 : 0]; }
  [[nodiscard]] const Lane& lane_of(Signal signal) const { return lanes_[signal == Signal::logs ? 1 : 0]; }

  const SpoolOptions options_;
  const std::string shown_;  // the folder, for messages
  ReceiverAccount& account_;
  OpenFile folder_;  // holds the lock
  bool is_reported_ = false;

  mutable std::mutex mutex_;
  std::array<Lane, 2> lanes_;  // of traces and of logs; this and all below with mutex_
  std::uint64_t next_ = 1;     // number of the next file
  OpenFile unsaved_;
  Unsaved earlier_;  // what earlier runs left in that file, and bytes that this run cannot read
  Unsaved noted_;    // what that file has to contain
  bool is_noted_ = false, is_closed_ = false;
  bool said_unwritten_ = false, said_repeats_ = false, said_not_noted_ = false;
};

}  // namespace nopspan::collector
