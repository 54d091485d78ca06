// SPDX-License-Identifier: Apache-2.0
// Turns what a tracer passes on into entries, and keeps the ledger. Each entry is delivered once, and accounted for.
//
// The reader knows processes only by these messages. So it does not matter who makes them, and when. Its time is that
// of the messages.
#pragma once

#include "model/filter.h"
#include "model/source.h"
#include "reader/batch_reader.h"
#include "reader/process_account.h"
#include "stream/clock_map.h"
#include "stream/messages.h"

#include <nopspan/probes.h>

#include <collector_events.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

// The times in which the tracer attached to files. What a process emits before its file is attached is not received.
// So a request that ran meanwhile may lack spans. All times are of CLOCK_MONOTONIC, so that changes of the wall clock
// do not matter.
class AttachTimes {
 public:
  // At first an attach is in progress: the one to everything that is found at the start. It has no begin, so it also
  // overlaps spans whose given times are before the start of the collector.
  AttachTimes() : intervals_{{0, kInProgress}} {}

  // An attach begins. Does nothing if one is in progress.
  void begin(std::uint64_t now_ns) {
    if (intervals_.back().ended_ns == kInProgress) return;
    if (intervals_.size() >= kMost) {
      intervals_[1].began_ns = intervals_[0].began_ns;
      intervals_.erase(intervals_.begin());
    }
    intervals_.push_back({now_ns, kInProgress});
  }
  // The attach has ended: everything that the processes emit from now on is received. If nothing was attached, the
  // attach is forgotten. Does nothing if no attach is in progress.
  void end(std::uint64_t now_ns, bool has_attached) {
    if (intervals_.back().ended_ns != kInProgress) return;
    intervals_.back().ended_ns = now_ns;
    if (!has_attached && intervals_.size() > 1) intervals_.pop_back();
  }
  void add(const AttachChange& change) {
    change.begins ? begin(change.time_ns) : end(change.time_ns, change.has_attached);
  }

  // Whether an attach was in progress in this time, or is in progress and began before `end_ns`.
  [[nodiscard]] bool overlap(std::uint64_t start_ns, std::uint64_t end_ns) const {
    // Most spans are short, so only the last interval is usually looked at.
    for (auto interval = intervals_.rbegin(); interval != intervals_.rend() && start_ns < interval->ended_ns;
         ++interval) {
      if (end_ns >= interval->began_ns) return true;
    }
    return false;
  }

 private:
  // If there are more, the oldest ones count as one.
  static constexpr std::size_t kMost = 1024;
  static constexpr std::uint64_t kInProgress = UINT64_MAX;

  struct Interval {
    std::uint64_t began_ns, ended_ns;
  };

  std::vector<Interval> intervals_;  // in order. If an attach is in progress, it is the last one
};

// Messages of processes of which something must be known before their entries are delivered.

// The host's thread may be slow, because the processes that it examines can delay it. No message therefore waits longer
// than kLongest, and the memory is bounded. Not thread-safe.
class HeldMessages {
 public:
  // In ns. A host that starts hundreds of processes at once needs this to examine them. It is less than the time for
  // which a request usually waits for further spans (TraceLimits::grace_ns).
  static constexpr std::uint64_t kLongest = 1'000'000'000;
  static constexpr std::size_t kMostBytesOfProcess = 1U << 20U;
  static constexpr std::size_t kMostBytes = 16U << 20U;

  struct Message {
    nopspan_message message;
    std::string bytes;
  };
  struct Released {
    std::uint32_t pid = 0;
    unsigned missing = 0;  // what the messages waited for and did not happen in time (Until)
    std::vector<Message> messages;
  };

  // What a process's messages wait for.
  enum Until : unsigned { described = 1, begun = 2, live = 4 };

  // From now on, all messages of the process wait. `until` has one or more of Until.
  void hold(std::uint32_t pid, unsigned until, std::uint64_t now_ns);
  [[nodiscard]] bool holds(std::uint32_t pid) const { return processes_.contains(pid); }
  // Adds a message of a process that is held. Returns false if there is no room for it. Then release the process.
  bool add(const nopspan_message& message, std::string_view bytes);
  // It has happened, for one process or for all.
  void happened(std::uint32_t pid, Until until);
  void happened(Until until);

  // The messages that have waited long enough, or need not wait any more.
  std::vector<Released> take_due(std::uint64_t now_ns);
  Released take(std::uint32_t pid);

 private:
  struct Process {
    unsigned until = 0;
    std::uint64_t since_ns = 0;
    std::size_t bytes = 0;
    std::vector<Message> messages;
  };

  std::map<std::uint32_t, Process> processes_;
  std::size_t bytes_ = 0;
};

class Reader : public MessageSink {
 public:
  using Account = Accounts::Account;

  // The filter must outlive the reader.
  explicit Reader(const Filter& filter) : filter_(filter) {}
  // `on_live` is called before the first tick, which comes before all entries.
  void set_sink(Sink* sink, std::function<void()> on_live);

  void on_start(const TracerStart& start) override;
  void on_batch(const nopspan_message& message, std::string_view bytes) override;
  void on_clock(const ClockSample& sample) override { clocks_.add(sample); }
  void on_attach(const AttachChange& change) override { attach_times_.add(change); }
  void on_process(const Described& described) override;
  void on_begun(const Begun& begun) override;
  void on_held(const Held& held) override;
  void on_dropped(const LibraryDropped& dropped) override;
  void on_losses(const AllLosses& losses) override;
  void on_gone(std::uint32_t pid) override { account(pid).is_gone = true; }
  void on_closed(const Closed& closed) override;
  void on_forgotten(const ForgottenThreads& forgotten) override;
  void on_mark(Mark mark, std::uint64_t time_ns) override;
  void on_state(const TracerState& state) override { state_ = state; }
  void on_text(std::string_view text) override;
  void on_end(const TracerEnd& end) override { end_ = end; }
  // No more messages come, although the last one has not come: passes on what has waited for others.
  void abandon();

  [[nodiscard]] Ledger ledger() const;
  [[nodiscard]] const ClockSamples& clocks() const { return clocks_; }
  [[nodiscard]] const TracerState& state() const { return state_; }
  // Empty until the tracer has ended.
  [[nodiscard]] const std::optional<TracerEnd>& end() const { return end_; }
  [[nodiscard]] bool has_started() const { return has_started_; }
  [[nodiscard]] bool is_live() const { return is_live_; }
  // The account of a process. It is created on first use. `tgid` is 0 if it is not known.
  Account& account(std::uint32_t pid, std::uint32_t tgid = 0);

 private:
  struct Batch {
    std::uint64_t sequence_id = 0;
    Sequences sequences;
    std::uint64_t discarded = 0, capacity = 0, header = 0;
    std::uint32_t thread_id = 0;
    std::uint64_t time_ns = 0;
  };

  // The reasons why the message must wait (HeldMessages::Until). 0 if it can be delivered.
  unsigned why_hold(const nopspan_message& message);
  void release(const HeldMessages::Released& released);
  void release_due();
  void deliver(const nopspan_message& message, std::string_view bytes);
  // Whether entries that a thread holds at this time may follow entries that were emitted after the end.
  bool is_after_the_end(Account& account, std::uint64_t sequence_id, std::uint64_t first, std::uint64_t time_ns) const;
  ProcessAccount::Thread* take(Account& account, const Batch& batch, std::string_view bytes);
  void deliver(ProcessAccount& account, ProcessAccount::Thread& thread, const Batch& batch, std::string_view bytes);
  bool pass_whole(ProcessAccount& account, const ProcessAccount::Thread& thread, const Batch& batch,
                  std::string_view bytes, const std::vector<Sequences>& fresh);
  [[nodiscard]] bool is_before_attach(const ProcessAccount& account, const BatchReader& reader) const;
  void end_thread(Account& account, const nopspan_message& message, ProcessAccount::Thread* thread) const;
  void take_fetched(Account& account, const Held& held);
  static void take_discarded(Account& account, const Held& held);
  void end_round();
  void go_live();

  const Filter& filter_;
  TracerStart start_;
  bool has_started_ = false;
  TracerState state_;
  std::optional<TracerEnd> end_;
  ClockSamples clocks_{ClockSample()};
  AttachTimes attach_times_;
  HeldMessages held_;
  Accounts accounts_;
  Sink* sink_ = nullptr;
  BatchSink* batches_ = nullptr;  // where whole batches go; null: nowhere
  std::function<void()> on_live_;
  std::uint64_t now_ns_ = 0, round_ = 1;
  std::uint64_t detaching_since_ns_ = UINT64_MAX, ended_ns_ = UINT64_MAX;
  bool is_attaching_ = true, is_live_ = false, is_detached_ = false, is_counting_only_ = false;
};

}  // namespace nopspan::collector
