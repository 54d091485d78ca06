// SPDX-License-Identifier: Apache-2.0
// Counts the items for one receiver by what became of them.
#pragma once

#include "export/export_body.h"

#include <nlohmann/json_fwd.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

namespace nopspan::collector {

// Why an item was dropped before an attempt that may have arrived.
enum class DropReason : std::uint8_t {
  queue_full,
  spool_full,
  disk_error,
  not_encodable,
  no_time,
  replaced,
  memory_full,  // of --memory, before it was known whether the request is wanted
  request_too_large
};
inline constexpr std::array kDropReasons = {"queue_full", "spool_full", "disk_error",  "not_encodable",
                                            "no_time",    "replaced",   "memory_full", "request_too_large"};

// The counts of one signal: taken + found = the sum of the states.
struct SignalAccount {
  std::uint64_t taken = 0;  // from the source
  std::uint64_t found = 0;  // in the spool, written by an earlier run

  // The states. Every item is in exactly one.
  std::uint64_t left_out = 0;     // by --sample, --slower-than and other filters, or by --signals
  std::uint64_t queued = 0;       // in memory
  std::uint64_t spooled = 0;      // on disk, and not acknowledged
  std::uint64_t in_flight = 0;    // in a request without an answer
  std::uint64_t accepted = 0;     // the receiver acknowledged the request, and did not reject the item
  std::uint64_t rejected = 0;     // partial_success.rejected_*: never sent again
  std::uint64_t refused = 0;      // the answer was an error that must not be retried
  std::uint64_t unconfirmed = 0;  // sent, but no answer says what became of it: may be there
  std::array<std::uint64_t, kDropReasons.size()> dropped{};

  // Beside the sum: items that earlier runs had only in memory or had lost, and that no account has named, because they
  // were killed or failed. Some may have arrived.
  std::uint64_t missing = 0;
  // Items in a request whose earlier attempt may have arrived. A receiver has at most that many
  // duplicates.
  std::uint64_t resent = 0;

  [[nodiscard]] std::uint64_t all_dropped() const;
  // Items that did not arrive, or may not have. Metrics of which a newer snapshot was sent instead are not lost.
  [[nodiscard]] std::uint64_t lost() const;
  [[nodiscard]] bool is_balanced() const;
  SignalAccount& operator+=(const SignalAccount& other);
};

struct AccountState {
  const char* name;
  std::uint64_t SignalAccount::*count;
  bool waits = false;  // its items will be in another state
};
// The states, without the items that were dropped.
inline constexpr AccountState kAccountStates[] = {
    {"left_out", &SignalAccount::left_out},     {"queued", &SignalAccount::queued, true},
    {"spooled", &SignalAccount::spooled, true}, {"in_flight", &SignalAccount::in_flight, true},
    {"accepted", &SignalAccount::accepted},     {"rejected", &SignalAccount::rejected},
    {"refused", &SignalAccount::refused},       {"unconfirmed", &SignalAccount::unconfirmed},
};

// The rows of an account. Events inside spans have their own, because a receiver does not count them.
enum AccountRow : std::size_t { kTracesRow, kSpanEventsRow, kLogsRow, kMetricsRow };
inline constexpr std::array<const char*, 4> kAccountSignals = {"traces", "span_events", "logs", "metrics"};

struct AccountTotals {
  std::array<SignalAccount, kAccountSignals.size()> signals;  // by AccountRow
  std::uint64_t requests = 0;                                 // attempts, including those that failed
  std::uint64_t malformed_answers = 0;                        // unreadable, or more items rejected than were sent
  std::uint64_t warnings = 0;                                 // answers that accepted everything and had a message
  std::uint64_t unreadable_bytes = 0;                         // of the spool, with an unknown number of items

  [[nodiscard]] bool is_balanced() const;
  [[nodiscard]] SignalAccount total() const;
  // Whether items were lost, or may be.
  [[nodiscard]] bool has_losses() const;
};

// {"balanced": …, "requests": …, "signals": {"traces": {"taken": …, …, "dropped": {"queue_full": …}}}}
nlohmann::ordered_json to_json(const AccountTotals& account);
// One line for each signal that has items, for the end of a command.
std::string to_text(const AccountTotals& account, const std::string& receiver);

// Moves items from one state to another, so that the sums hold at every moment. If a caller moves more items than the
// state has, only those are moved. Thread-safe.
class ReceiverAccount {
 public:
  using Count = std::uint64_t SignalAccount::*;

  // Items from the source, or of an earlier run (`found`).
  void add(const ItemCounts& items, Count state, Count origin = &SignalAccount::taken);
  void drop_new(const ItemCounts& items, DropReason reason);
  // Items that earlier runs had only in memory or had lost.
  void miss(const ItemCounts& items);

  // A request begins. `from`: where the items waited. `may_have_arrived`: an earlier attempt may have arrived.
  void send(const ItemCounts& items, Count from, bool may_have_arrived);
  // The receiver accepted a request. `rejected`: how many of the spans, log records or data points it rejected. If it
  // rejected some of the spans, nobody knows which, so their events are unconfirmed. `may_have_arrived`: an earlier
  // attempt may have arrived. Then items that the receiver did not want this time are unconfirmed.
  void accept(const ItemCounts& items, std::uint64_t rejected = 0, bool may_have_arrived = false);
  void move(const ItemCounts& items, Count from, Count to);
  // Waiting items that will not be sent, or not again.
  void drop(const ItemCounts& items, Count from, DropReason reason);

  // Adds to a count that is not of a signal.
  void count(std::uint64_t AccountTotals::*which, std::uint64_t more = 1);

  [[nodiscard]] AccountTotals totals() const;

 private:
  // Calls on_row(SignalAccount&, number of items) for each row. With mutex_.
  template <class OnRow>
  void for_each_row(const ItemCounts& items, const OnRow& on_row);

  mutable std::mutex mutex_;
  AccountTotals totals_;  // with mutex_
};

}  // namespace nopspan::collector
