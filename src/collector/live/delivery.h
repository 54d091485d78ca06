// SPDX-License-Identifier: Apache-2.0
// What comes from processes goes to the command here: every entry once, and with an account of each.
#pragma once

#include "host/host.h"
#include "live/accounts.h"
#include "live/clock_map.h"
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

  // `same_numbers`: the kernel's programs number processes as this program does.
  Delivery(const Filter& filter, Host& host, const ClockMap& clocks, bool same_numbers);

  void set_sink(Sink* sink) { sink_ = sink; }
  // From here on entries may have gone elsewhere that a gap would be made of: nothing is taken after one.
  void set_detached() { is_detached_ = true; }

  // The account of a process; made when it is first asked for. `command` is its name if nobody else knows it any more.
  // `tgid` 0: not known.
  Account& account(std::uint32_t pid, std::uint32_t tgid = 0, std::string_view command = {});
  [[nodiscard]] Accounts& accounts() { return accounts_; }
  [[nodiscard]] const Accounts& accounts() const { return accounts_; }

  // What a kernel program told.
  void record(const nopspan_record& record, std::string_view bytes);
  // What a thread of a wanted process was found to hold.
  void fetched(Account& account, const nopspan_thread& thread, std::uint64_t address, std::string_view bytes,
               std::uint64_t now_ns);

  // What a thread has thrown away for want of a buffer passes no probe.
  void note_discarded(Account& account, const nopspan_thread& thread, std::uint64_t now_ns);

  // Counts on: what has ended before the last two rounds is closed.
  void next_round();
  [[nodiscard]] std::uint64_t round() const { return round_; }

 private:
  struct Batch {
    std::uint64_t stream = 0;
    Sequences sequences;
    std::uint64_t discarded = 0, capacity = 0, header = 0;
    std::uint32_t thread_id = 0;
    std::uint64_t time_ns = 0;
  };

  // Its first record, or it is in another cgroup: what is known of it may be older.
  void note_moved(std::uint32_t pid, Account& account);
  // Whether what a thread holds may follow on what went elsewhere.
  bool is_after_the_end(Account& account, std::uint64_t stream, std::uint64_t first) const;
  ProcessAccount::Stream* take(Account& account, const Batch& batch, std::string_view bytes);
  void deliver(ProcessAccount& account, ProcessAccount::Stream& stream, const Batch& batch, std::string_view bytes);
  void give(ProcessAccount& account, const Span& span);
  void end_thread(Account& account, const nopspan_record& record, ProcessAccount::Stream* stream) const;

  const Filter& filter_;
  Host& host_;
  const ClockMap& clocks_;
  bool same_numbers_;
  std::uint64_t began_ns_;
  bool is_detached_ = false;
  Sink* sink_ = nullptr;
  Accounts accounts_;
  std::uint64_t round_ = 1;
};

}  // namespace nopspan::collector
