// SPDX-License-Identifier: Apache-2.0
// The interfaces between the origin of entries (Source) and a command (Sink). A source is this host's processes
// (command/tracing_process.h) or a file (recording.h).
#pragma once

#include "base/stopping.h"
#include "base/text.h"
#include "model/entry.h"
#include "model/ledger.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>

namespace nopspan::collector {

class ClockSamples;

// Counts entries by their kind.
struct EntryCounts {
  static constexpr std::array<const char*, 5> kOne = {"span", "event", "retry", "gauge", "part"};
  static constexpr std::array<const char*, 5> kMany = {"spans", "events", "retries", "gauges", "parts"};

  std::array<std::uint64_t, kOne.size()> by_kind{};

  std::uint64_t& operator[](Kind kind) { return by_kind[static_cast<std::size_t>(kind)]; }
  EntryCounts& operator+=(const EntryCounts& other) {
    for (std::size_t i = 0; i < by_kind.size(); ++i) by_kind[i] += other.by_kind[i];
    return *this;
  }
  [[nodiscard]] std::uint64_t all() const { return std::accumulate(by_kind.begin(), by_kind.end(), std::uint64_t{0}); }
  // "5 spans, 1 event". Spans are included even if there are none.
  [[nodiscard]] std::string text() const {
    std::string text;
    for (std::size_t i = 0; i < by_kind.size(); ++i) {
      if (by_kind[i] == 0 && i != 0) continue;
      text += (text.empty() ? "" : ", ") + counted(by_kind[i], kOne[i], kMany[i]);
    }
    return text;
  }
};

// Entries of one thread, as its process wrote them (<nopspan/probes.h>). BatchReader can read each of them. None has
// flags that are not in the bytes, such as Entry::before_attach.
struct EntryBatch {
  const ProcessPointer* process = nullptr;
  std::uint32_t thread_id = 0;
  std::uint64_t sequence_id = 0;
  std::uint64_t first = 0;  // the sequence of the first entry
  std::uint32_t entries = 0;
  std::string_view bytes;
  const ClockSamples* clocks = nullptr;
  EntryCounts counts;
};

// Receives batches instead of their entries.
class BatchSink {
 public:
  virtual ~BatchSink() = default;
  virtual void on_batch(const EntryBatch& batch) = 0;
};

// Receives the entries. All calls come from the thread that runs the source.
class Sink {
 public:
  virtual ~Sink() = default;
  // Not null if a source may pass batches there that contain nothing but what on_entry() would receive.
  [[nodiscard]] virtual BatchSink* batches() { return nullptr; }
  virtual void on_entry(const Entry& entry) = 0;
  // An entry that a filter before this sink has removed.
  virtual void on_removed(const Entry& /*entry*/) {}
  // Called about ten times per second while the source is live, even if no entries arrive. For a recording, called
  // after each second of it, and each second while nothing is written to its pipe, then with the time of its last
  // chunk. The first call comes before any entry. `now_unix_ns` follows the source's clock, which may be set back.
  virtual void on_tick(std::uint64_t now_unix_ns) = 0;
};

// The programs that write to a source, such as those that are connected to a socket.
struct Writers {
  std::uint64_t connected = 0;  // now
  // Connections that were closed. Their programs may connect again.
  std::uint64_t silent = 0;   // to make room, because they were silent for long
  std::uint64_t greedy = 0;   // because their process or their user had too many
  std::uint64_t foreign = 0;  // because they sent no recording
};
struct WriterField {
  const char* name;  // as reason in metrics, and in JSON
  std::uint64_t Writers::*count;
  const char* what;  // for messages
};
inline constexpr WriterField kClosedWriters[] = {
    {"silent", &Writers::silent, " closed to make room"},
    {"greedy", &Writers::greedy, " closed because a process or user had too many"},
    {"foreign", &Writers::foreign, " sent no recording"},
};

struct TimeRange {
  std::uint64_t first_unix_ns = 0, last_unix_ns = 0;
};

class Source {
 public:
  virtual ~Source() = default;
  // Passes everything to `sink` until the deadline or the end of the recording. The duration begins when the source is
  // live. Throws Failure (failure.h).
  virtual void run(Sink& sink, Deadline& until) = 0;
  // The ledger. It is complete after run(). During run(), call this only on the thread that executes run(). The ledger
  // is then as of the last tick.
  [[nodiscard]] virtual Ledger ledger() const = 0;
  // A remark for the user in one line, for example that a recording was cut; "" if there is none.
  [[nodiscard]] virtual std::string remark() const { return {}; }
  // Whether the last entries may be missing, for example because the recorder was killed or still runs. Call this after
  // run().
  [[nodiscard]] virtual bool is_cut() const { return false; }
  // The number of processes with probes that a live source knows now. Call this as ledger().
  [[nodiscard]] virtual std::size_t processes() const { return 0; }
  // How often the process that reads other processes ended unexpectedly. Empty if this source does not trace. Call this
  // as ledger().
  [[nodiscard]] virtual std::optional<std::uint64_t> reader_restarts() const { return {}; }
  // Empty if this source reads a file. Call this as ledger().
  [[nodiscard]] virtual std::optional<Writers> writers() const { return {}; }
  // Empty if this source does not convert times itself.
  [[nodiscard]] virtual std::optional<ClockState> clock() const { return {}; }
  // From when to when a file was recorded. Empty if this source reads no file.
  [[nodiscard]] virtual std::optional<TimeRange> times() const { return {}; }
};

}  // namespace nopspan::collector
