// SPDX-License-Identifier: Apache-2.0
// What became of the entries of one process: from what arrived of its streams, and what the kernel's programs counted.
#pragma once

#include "live/stream_ledger.h"
#include "model/ledger.h"
#include "model/span.h"

#include <collector_events.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace nopspan::collector {

// Entries that kernel programs could not pass on, by NOPSPAN_REASON_*.
using Losses = std::array<std::uint64_t, NOPSPAN_REASONS>;

class ProcessAccount {
 public:
  // Of a process's streams so many are kept; the least recently used ones are closed for others. Far more than threads
  // are looked at: those that hold what was fetched stay, because it is told again.
  static constexpr std::size_t kMostStreams = 32768;

  struct Stream {
    StreamLedger ledger;
    ProcessPointer process;    // as it was when the stream began: it may execute another program
    std::uint32_t thread = 0;  // as the kernel's programs number it; 0: not known
    std::uint64_t header = 0;
    std::uint64_t capacity = 0;         // of its buffer, bytes
    std::uint64_t discarded_base = 0;   // by the library, before this collector
    std::uint64_t discarded = 0;        // in all
    std::uint64_t seen_ns = 0;          // when it was heard of last
    std::uint64_t fetched_next = 0;     // before it all was fetched that its thread held
    std::uint64_t handed_next = 0;      // before it all was handed over
    std::uint64_t held_since_ns = 0;    // since when it is known to hold what has not arrived; 0: it does not
    std::uint64_t closing_round = 0;    // its thread has ended: it is closed then; 0: not
    bool begins_when_heard_of = false;  // where it was when this collector began is not known
    Losses losses{};                    // as last told

    // What its thread has discarded in all was before `first`, which it held next.
    void note_discarded(std::uint64_t first, std::uint64_t entries) {
      if (first == ledger.base() && first != 0) discarded_base = entries;
      discarded = std::max(discarded, entries);
    }
    // Its thread, or what the kernel reads at its end, will tell again what was fetched.
    [[nodiscard]] bool holds_fetched() const { return fetched_next > handed_next; }
  };

  // `all_are_known`: what streams this collector does not know began after `since_ns`, when it did.
  ProcessAccount(ProcessPointer process, std::uint64_t since_ns, bool all_are_known)
      : process_(std::move(process)), since_ns_(since_ns), all_are_known_(all_are_known) {}

  [[nodiscard]] const ProcessPointer& process() const { return process_; }
  // It executed another program.
  void set_process(ProcessPointer process) { process_ = std::move(process); }
  // It is in another cgroup.
  void set_moved(const ProcessPointer& process);
  // Some streams could not be looked at: those that appear begin where they are first seen.
  void not_all_are_known() { all_are_known_ = false; }

  // The stream as it was when this collector began: before `next` nothing is its.
  void begin_stream(std::uint64_t id, std::uint64_t next, std::uint64_t discarded, std::uint64_t now_ns);
  // Whether streams were closed that go on.
  [[nodiscard]] bool has_forgotten() const { return has_forgotten_; }
  // Null if it is not known.
  Stream* find(std::uint64_t id);
  // The stream; begun if it is not known, of which `first` is the first that is heard of.
  Stream& open(std::uint64_t id, std::uint64_t first);
  [[nodiscard]] const std::unordered_map<std::uint64_t, Stream>& streams() const { return streams_; }
  std::unordered_map<std::uint64_t, Stream>& streams() { return streams_; }

  // Entries that came. Null if no thread could have emitted so many: that is counted as malformed. Which of them are
  // new says the stream's ledger.
  Stream* arriving(std::uint64_t id, Sequences sequences, std::uint64_t time_ns);

  // What became of those that were new.
  void delivered(std::uint64_t entries) { delivered_ += entries; }
  void filtered(std::uint64_t entries) { filtered_ += entries; }
  void malformed(std::uint64_t entries) { malformed_ += entries; }
  // Of no stream that is known: emitted and lost in one.
  void malformed_besides(std::uint64_t entries) { malformed_besides_ += entries; }
  void held_by_killed(std::uint64_t at_most) { held_by_killed_ += at_most; }
  // The process is gone, and the kernel lets nobody see what its threads held.
  void all_were_killed();

  // What the kernel's maps say now: of the process first, then of its streams.
  void process_losses(const Losses& losses) { losses_ = losses; }
  // `discarded` by the library, as a thread told with what was lost.
  void stream_losses(std::uint64_t id, Sequences sequences, const Losses& losses, std::uint64_t discarded,
                     std::uint64_t now_ns);

  // Closes those least recently used beyond so many.
  void bound_streams(std::size_t most);
  // Closes streams whose thread has ended before `round`.
  void close_ended(std::uint64_t round);
  // Those closed since it was asked last: the kernel's maps need not have them any more.
  std::unordered_set<std::uint64_t> take_closed() { return std::exchange(closed_ids_, {}); }

  [[nodiscard]] Counts counts() const;

 private:
  // The gaps of streams, by what explains them.
  struct Gaps {
    std::uint64_t arrived = 0;
    std::uint64_t discarded = 0;
    Losses explained{};
    std::uint64_t unexplained = 0;
    Losses told{};  // by the kernel of these streams, also where what was lost had been fetched before
    void add(const Stream& stream);
  };

  void close(std::unordered_map<std::uint64_t, Stream>::iterator stream);

  ProcessPointer process_;
  std::uint64_t since_ns_;
  bool all_are_known_;
  bool has_forgotten_ = false;  // streams that live
  std::unordered_map<std::uint64_t, Stream> streams_;
  Gaps closed_;
  std::unordered_set<std::uint64_t> closed_ids_;
  Losses losses_{};
  std::uint64_t delivered_ = 0, filtered_ = 0, malformed_ = 0, malformed_besides_ = 0, held_by_killed_ = 0;
};

}  // namespace nopspan::collector
