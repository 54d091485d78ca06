// SPDX-License-Identifier: Apache-2.0
// Turns what a tracer passes on into entries, and keeps the ledger. Each entry is delivered once, and accounted for.
//
// The reader knows processes only by these messages. So it does not matter who makes them, and when. Its time is that
// of the messages.
#pragma once

#include "model/filter.h"
#include "model/source.h"
#include "reader/attach_times.h"
#include "reader/batch_reader.h"
#include "reader/held_messages.h"
#include "reader/process_account.h"
#include "stream/clock_map.h"
#include "stream/messages.h"

#include <collector_events.h>
#include <nopspan/probes.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

namespace nopspan::collector {

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
  void on_gone(std::uint32_t pid) override;
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
