// SPDX-License-Identifier: Apache-2.0
// A source that reads a file of `nopspan record`.
#pragma once

#include "model/filter.h"
#include "model/source.h"
#include "recording/chunks.h"
#include "recording/recorded_batches.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

namespace nopspan::collector {

struct SourceOptions;

// What a recording may take of this program's memory, if many programs send recordings.
struct RecordingLimits {
  std::size_t processes = 4096;      // with counts of their own; the others are counted together
  std::size_t chunk = kMostPayload;  // bytes
  std::size_t parts = 65'536;        // that are checked; remark() says if there are more
  std::uint64_t claimed_by = 0;      // Process::claimed_by of all processes
  // Asked once, when there are more processes. Returns how many there may be then.
  std::function<std::size_t()> more_processes = {};
};

class Recording : public Source {
 public:
  // Opens `path` ("-": stdin). Throws Failure with kUsageError if it is not a recording.
  explicit Recording(const std::string& path, Filter filter = {});
  explicit Recording(ChunkReader reader, Filter filter = {}, RecordingLimits limits = {});

  void run(Sink& sink, Deadline& until) override;
  // The two parts of run(), for a thread that waits for data without the lock of the sink. The first waits for the next
  // chunk; it returns false at the end, and when `until` is over. The second passes its entries on.
  bool next(const Deadline& until) { return reader_.next(chunk_, until); }
  void pass(Sink& sink);
  // Call it when next() has returned false.
  void end(Sink& sink, const Deadline& until);
  // The recorder's last ledger, plus the entries that were read after it. Entries that the filter removed count as
  // filtered. Entries that the ledger counts as delivered, but that were not read, count as not_in_file.
  [[nodiscard]] Ledger ledger() const override;

  // A message about everything that could not be read; "" if all was read.
  [[nodiscard]] std::string missing() const;
  // Whether recordings overlap in time; "" if not.
  [[nodiscard]] std::string overlap() const;
  // Both.
  [[nodiscard]] std::string remark() const override;
  [[nodiscard]] bool is_cut() const override { return is_stopped_ || !reader_.state().ended; }
  [[nodiscard]] std::optional<TimeRange> times() const override {
    return TimeRange{state().first_unix_ns, state().last_unix_ns};
  }
  // What the recorders measured: the largest error of all of them, and the changes of the last one.
  [[nodiscard]] std::optional<ClockState> clock() const override { return clock_; }
  // Empty if the times of the file are those of the wall clock.
  [[nodiscard]] const std::optional<ClockSamples>& clocks() const { return batches_.clocks(); }
  [[nodiscard]] const ChunkReader::State& state() const { return reader_.state(); }
  // The part of this file that could not be read.
  [[nodiscard]] Damage damage() const {
    return {reader_.state().skipped, reader_.state().broken + invalid_, missing_ends_, repeated_parts_};
  }

 private:
  struct Tally {
    ProcessPointer process;
    std::uint64_t before = 0;     // entries before the last ledger
    std::uint64_t delivered = 0;  // entries after it
    std::uint64_t filtered = 0;
  };

  void set_processes();
  void deliver(const Entry& entry, Sink& sink) const;
  void read_entries(Sink& sink);
  void begin_recording(const std::string& id);
  void note_part(std::uint64_t part);
  [[nodiscard]] std::uint64_t missing_parts() const;
  void read_about();
  void read_ledger();
  void tick(std::uint64_t now, Sink& sink);
  [[nodiscard]] Ledger since_before() const;
  Tally& tally_of(const ProcessPointer& process);
  [[nodiscard]] bool has_room(std::size_t processes);
  void add(Ledger& to, const Ledger& ledger) const;
  [[nodiscard]] std::uint64_t broken_entries() const { return reader_.state().broken_entries + invalid_entries_; }

  ChunkReader reader_;
  Chunk chunk_;
  Filter filter_;
  RecordingLimits limits_;
  RecordedBatches batches_;
  bool is_filtered_;
  bool is_stopped_ = false;  // before the end of the file
  bool is_closed_ = true;    // no recording is being read
  bool overlaps_ = false;    // a recording began before the end of the one before
  bool is_in_order_ = true;  // the parts of each recording
  bool checks_parts_ = true;
  std::uint64_t end_ = 0, ticked_ = 0, missing_ends_ = 0, repeated_parts_ = 0;
  std::uint64_t end_before_ = 0;  // end_ before the chunk that is being read
  std::uint64_t must_begin_ = 0;  // the end of the recording before, until a chunk's time was compared with it
  std::uint64_t invalid_ = 0, invalid_entries_ = 0;         // chunks with a valid checksum and invalid content
  std::uint64_t broken_before_ledger_ = 0;                  // broken_entries() then
  std::uint64_t early_at_begin_ = 0, early_at_ledger_ = 0;  // early_entries then
  std::uint64_t part_ = 0, ledger_part_ = 0;  // of the recording that is being read, and of the last ledger
  std::uint64_t begins_unix_ns_ = 0;          // the part before is not here; 0 if it is, or if there is none
  std::string recording_;                     // id of the recording that is being read
  // The parts of each recording that were read. Recordings are known by their ids.
  std::map<std::string, std::set<std::uint64_t>> parts_;
  std::size_t parts_read_ = 0;
  std::optional<ClockState> clock_;
  Ledger before_, last_;  // of earlier recordings in the same file, and of this one
  std::map<ProcessKey, Tally> tallies_;
};

// Opens the recording, or the socket to which recordings are sent, that --from names. Nothing is read before `is_open`
// returns, so that it can give up what only opening needed. Throws Failure.
std::unique_ptr<Source> open_recording(const SourceOptions& options, const std::function<void()>& is_open);

}  // namespace nopspan::collector
