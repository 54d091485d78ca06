// SPDX-License-Identifier: Apache-2.0
// Accounts for every entry that processes emitted. No entry is lost without being counted.
#pragma once

#include "model/entry.h"

#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace nopspan::collector {

// Counts of entries (spans, events, retries, gauges). `emitted` is the sum of the counts up to `not_in_file`. The sum
// is exact unless processes were killed and the kernel does not let their last buffers be read.
struct Counts {
  std::uint64_t emitted = 0;     // from the sequence numbers that threads give to their entries
  std::uint64_t delivered = 0;   // delivered to the command
  std::uint64_t filtered = 0;    // removed by the filter, in the kernel or here
  std::uint64_t ring_full = 0;   // no room in the ring buffer; a larger --buffer or a filter helps
  std::uint64_t unreadable = 0;  // the kernel could not read them, because a page was not in memory
  std::uint64_t too_large = 0;   // batches beyond the largest size class
  std::uint64_t malformed = 0;   // invalid by the ABI, from a hostile or broken process
  std::uint64_t missed = 0;      // the kernel did not run the program for a hit
  std::uint64_t discarded = 0;   // by the library, because no tracer can get them
  // Not numbered, because the library could not record them: there was no memory, a limit was reached, or a signal
  // handler interrupted the library. These three are read from the library's own counts (nopspan::Stats).
  std::uint64_t no_memory = 0, over_limit = 0, reentrant = 0;
  std::uint64_t export_dropped = 0;  // delivered, and then lost by the command: disk full, receiver down
  std::uint64_t not_in_file = 0;     // delivered to a recorder, but not in its file: damaged, or a part is missing
  std::uint64_t held_by_killed = 0;  // upper bound of further entries in buffers that were gone; not in `emitted`
  // Threads that ran when the collector attached to a file of their process, not in `emitted`. Spans that they had
  // begun by then may be missing, and no count includes these.
  std::uint64_t threads_at_attach = 0;
  // Parts of entries that the library dropped: no memory, a limit, or invalid. Not in `emitted`.
  std::uint64_t attributes_dropped = 0, links_dropped = 0, members_dropped = 0;

  [[nodiscard]] std::uint64_t lost() const;
  // Whether there are no entries.
  [[nodiscard]] bool empty() const;
  [[nodiscard]] bool is_balanced() const { return emitted == delivered + filtered + lost(); }
  Counts& operator+=(const Counts& other);
  Counts& operator-=(const Counts& part);
  friend bool operator==(const Counts& a, const Counts& b) = default;
};

// The parts of recordings that could not be read. They may have held entries that no count includes.
struct Damage {
  std::uint64_t skipped_bytes = 0, broken_chunks = 0;
  std::uint64_t missing_ends = 0;    // recordings that were not closed, or not read to their end
  std::uint64_t repeated_parts = 0;  // that were read before, so that their entries count twice
  [[nodiscard]] bool empty() const { return *this == Damage(); }
  Damage& operator+=(const Damage& other);
  friend bool operator==(const Damage& a, const Damage& b) = default;
};

struct ProcessLedger {
  ProcessPointer process;
  Counts counts;
};

// What a collector could not attach to, or could not examine. Entries that its processes emitted are in no count.
struct Unattached {
  std::string path;       // of the file; "" if the whole process is left out
  std::uint32_t pid = 0;  // the only process that is left out; 0 if no process is attached to
  std::string comm;       // of the process; may be ""
  std::string why;
  friend bool operator==(const Unattached& a, const Unattached& b) = default;
};

struct Ledger {
  std::vector<ProcessLedger> processes;  // includes ended processes up to a limit; the rest is in `others`
  Counts others;
  std::uint64_t others_processes = 0;
  Counts total;
  Damage damage;
  // At most kMostUnattached, because anybody can run processes that cannot be attached to.
  std::vector<Unattached> unattached;
  static constexpr std::size_t kMostUnattached = 256;
  // A lower bound of those that are not in the list: two ledgers may mean the same ones.
  std::uint64_t unattached_others = 0;

  void add_unattached(const Ledger& other);
  // The part of the total that no listed process has. This is `others`, or more if the listed processes and `others` do
  // not add up to the total.
  [[nodiscard]] Counts rest() const;
  // Moves delivered entries to another count, in the total too. For a process that is not in the list, `others` is
  // changed.
  void move_delivered(const ProcessPointer& process, std::uint64_t Counts::*to, std::uint64_t entries);
  // The same for what `moved` counts there, process by process.
  void move_delivered(const Ledger& moved, std::uint64_t Counts::*to);
};

struct CountField {
  const char* name;  // in JSON; of a loss, also as reason in metrics
  std::uint64_t Counts::*count;
  const char* loss = nullptr;  // if it counts lost entries: why, in a few words
  const char* why = nullptr;   // the same as a sentence
  const char* part = nullptr;  // if it counts lost parts of entries: their name
};
inline constexpr CountField kCountFields[] = {
    {"emitted", &Counts::emitted},
    {"delivered", &Counts::delivered},
    {"filtered", &Counts::filtered},
    {"ring_full", &Counts::ring_full, "buffer full",
     "lost because the ring buffer was full: use a larger --buffer, or a filter"},
    {"unreadable", &Counts::unreadable, "unreadable",
     "lost because the kernel could not read their memory page: it was not in RAM"},
    {"too_large", &Counts::too_large, "too large", "lost because their batch exceeded the largest size"},
    {"malformed", &Counts::malformed, "malformed", "lost because they violate the probe ABI"},
    {"missed", &Counts::missed, "missed",
     "missing in the sequence numbers: the kernel did not run the BPF program, or the process wrote false numbers"},
    {"discarded", &Counts::discarded, "discarded",
     "discarded by the library: it had no memory for them, or no tracer was attached any more"},
    {"no_memory", &Counts::no_memory, "no memory in the program",
     "not recorded by the library, because the program had no memory for them"},
    {"over_limit", &Counts::over_limit, "over a limit of the library",
     "not recorded by the library, because a limit was reached: see nopspan ps"},
    {"reentrant", &Counts::reentrant, "in a signal handler",
     "not recorded by the library, because a signal handler interrupted it"},
    {"export_dropped", &Counts::export_dropped, "not written",
     "lost because they could not be written (export_dropped): no reader was there, it was too slow, or the disk was "
     "full"},
    {"not_in_file", &Counts::not_in_file, "not in the file",
     "recorded, but not in the file: it is damaged, or a part of the recording is missing"},
    {"held_by_killed", &Counts::held_by_killed},
    {"threads_at_attach", &Counts::threads_at_attach},
    {"attributes_dropped", &Counts::attributes_dropped, nullptr, nullptr, "attribute"},
    {"links_dropped", &Counts::links_dropped, nullptr, nullptr, "link"},
    {"members_dropped", &Counts::members_dropped, nullptr, nullptr, "member"},
};
static_assert(sizeof(Counts) == sizeof(kCountFields) / sizeof(kCountFields[0]) * sizeof(std::uint64_t),
              "a field is missing");

inline constexpr std::pair<const char*, std::uint64_t Damage::*> kDamages[] = {
    {"skipped_bytes", &Damage::skipped_bytes},
    {"broken_chunks", &Damage::broken_chunks},
    {"missing_ends", &Damage::missing_ends},
    {"repeated_parts", &Damage::repeated_parts},
};

inline constexpr std::pair<const char*, std::string Unattached::*> kUnattachedTexts[] = {
    {"comm", &Unattached::comm}, {"path", &Unattached::path}, {"why", &Unattached::why}};

// Adds up ledgers, process by process. The same pid, start and host mean the same process.
class LedgerSum {
 public:
  static constexpr std::size_t kMostProcesses = 16384;
  explicit LedgerSum(std::size_t most_processes = kMostProcesses) : most_processes_(most_processes) {}

  // The counts of a process, or of the others if it is null or there is no room for it. Valid until
  // keep_listed().
  Counts& of(const ProcessPointer& process);
  // A process without a known start gets a row of its own, because the same pid in another ledger may be another
  // process.
  void add(const Ledger& ledger);

  // The number of processes that have counts of their own.
  [[nodiscard]] std::size_t processes() const { return processes_.size(); }
  // Moves the counts of processes that `ledger` does not list to the others.
  void keep_listed(const Ledger& ledger);

  [[nodiscard]] Counts total() const;
  // Processes without entries are left out.
  [[nodiscard]] Ledger ledger() const;

 private:
  // host, pid, start, and a number that separates processes without a start
  using Key = std::tuple<std::string, ProcessKey, std::uint64_t>;
  ProcessLedger* find_or_add(const ProcessPointer& process, std::uint64_t number);

  std::size_t most_processes_;
  std::map<Key, ProcessLedger> processes_;
  std::uint64_t without_start_ = 0;
  Counts others_;
  std::uint64_t others_processes_ = 0;
  Ledger rest_;  // its damage and what was not attached to
};

// {"emitted": …, …, "balanced": true}
nlohmann::ordered_json to_json(const Counts& counts);
// {"total": {…}, "processes": [{"pid": …, "comm": …, …}]}, and "damage": {…}, "unattached": [{"pid": …, …}] and
// "unattached_others": … if there are any
nlohmann::ordered_json to_json(const Ledger& ledger);
// The quality of the conversion from CLOCK_MONOTONIC, which processes use, to wall-clock time.
struct ClockState {
  std::uint64_t error_ns = 0;  // the largest error so far, except in the moments when the clock changed
  // How many times the clock was set or the machine slept, if that moved it by more than 1 ms.
  std::uint64_t changes = 0;
};
// Adds "clock": {"error_ns": …, "changes": …} if it is known.
void add_clock(nlohmann::ordered_json& json, const std::optional<ClockState>& clock);
std::optional<ClockState> clock_of(const nlohmann::ordered_json& json);
// The ledger and the clock as text, in which U+FFFD replaces bytes that are not UTF-8.
std::string json_text(const Ledger& ledger, const std::optional<ClockState>& clock);
// {"skipped_bytes": …, "broken_chunks": …, "missing_ends": …, "repeated_parts": …}
nlohmann::ordered_json to_json(const Damage& damage);
// [{"pid": …, "comm": …, "path": …, "why": …}]
nlohmann::ordered_json to_json(const std::vector<Unattached>& unattached);
// Reads a ledger that to_json() wrote. Missing parts of other JSON stay empty.
Ledger ledger_of(const nlohmann::ordered_json& json);
// A summary in a few lines, which commands print to stderr when they end: the number of delivered entries, the losses
// by reason, and what was not attached to.
std::string to_text(const Ledger& ledger);

}  // namespace nopspan::collector
