// SPDX-License-Identifier: Apache-2.0
// Delivers entries of processes to the command. Each entry is delivered once, and accounted for.
#pragma once

#include "live/accounts.h"
#include "live/attach_times.h"
#include "live/clock_map.h"
#include "live/held_messages.h"
#include "live/host_thread.h"
#include "model/filter.h"
#include "model/source.h"

#include <collector_events.h>
#include <nopspan/probes.h>

#include <cstdint>
#include <string_view>

namespace nopspan::collector {

class Delivery {
 public:
  using Account = Accounts::Account;

  // `same_numbers`: the kernel programs see the same pids as this program.
  Delivery(const Filter& filter, const ClockMap& clocks, AttachTimes& attach_times, bool same_numbers);

  void set_sink(Sink* sink) { sink_ = sink; }
  // From the detach on, a gap in a thread's sequence may consist of entries that another collector received, or that
  // were emitted after the end. Entries after a gap are no longer accepted.
  void set_detaching(std::uint64_t now_ns) { detaching_since_ns_ = now_ns; }
  void set_detached() { set_detaching(0); }
  // Messages from this time on are ignored.
  void set_ended(std::uint64_t now_ns) { ended_ns_ = now_ns; }
  // From now on entries are only counted, as missed, because there is no time left to deliver them.
  void set_counting_only() { is_counting_only_ = true; }

  // The account of a process. It is created on first use. `tgid` is 0 if it is not known.
  Account& account(std::uint32_t pid, std::uint32_t tgid = 0);
  // Sets or updates the description of a process.
  void describe(const Described& described);
  [[nodiscard]] Accounts& accounts() { return accounts_; }
  [[nodiscard]] const Accounts& accounts() const { return accounts_; }

  // Handles a message of a kernel program.
  void on_message(const nopspan_message& message, std::string_view bytes);
  // Handles messages that were held.
  void release(const HeldMessages::Released& released);
  // Handles entries that were fetched from a thread of a wanted process.
  void fetched(Account& account, const nopspan_thread& header, std::uint64_t address, std::string_view bytes,
               std::uint64_t now_ns);

  // What the thread held could not be fetched in time.
  void not_fetched(Account& account, const nopspan_thread& header, std::uint64_t now_ns) const;
  // Counts entries that a thread discarded because it had no buffer. No probe hit reports them.
  void note_discarded(Account& account, const nopspan_thread& header, std::uint64_t now_ns) const;

  // Begins the next round, and closes the ledgers of threads that ended at least two rounds ago.
  void next_round();
  [[nodiscard]] std::uint64_t round() const { return round_; }

 private:
  struct Batch {
    std::uint64_t sequence_id = 0;
    Sequences sequences;
    std::uint64_t discarded = 0, capacity = 0, header = 0;
    std::uint32_t thread_id = 0;
    std::uint64_t time_ns = 0;
  };

  // Whether entries that a thread holds at this time may follow entries that were emitted after the end.
  bool is_after_the_end(Account& account, std::uint64_t sequence_id, std::uint64_t first, std::uint64_t time_ns) const;
  ProcessAccount::Thread* take(Account& account, const Batch& batch, std::string_view bytes);
  void deliver(ProcessAccount& account, ProcessAccount::Thread& thread, const Batch& batch, std::string_view bytes);
  void deliver_entry(ProcessAccount& account, const Entry& entry);
  void end_thread(Account& account, const nopspan_message& message, ProcessAccount::Thread* thread) const;

  const Filter& filter_;
  const ClockMap& clocks_;
  AttachTimes& attach_times_;
  bool same_numbers_;
  std::uint64_t began_ns_;
  std::uint64_t detaching_since_ns_ = UINT64_MAX, ended_ns_ = UINT64_MAX;
  bool is_counting_only_ = false;
  Sink* sink_ = nullptr;
  Accounts accounts_;
  std::uint64_t round_ = 1;
};

}  // namespace nopspan::collector
