// SPDX-License-Identifier: Apache-2.0
#include "export/receiver_account.h"

#include "base/text.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <numeric>

namespace nopspan::collector {
namespace {

using RowCounts = std::array<std::uint64_t, kAccountSignals.size()>;

RowCounts rows_of(const ItemCounts& items) { return {items.spans, items.span_events, items.logs, items.points}; }

void move_count(std::uint64_t& from, std::uint64_t& to, std::uint64_t count) {
  count = std::min(count, from);
  from -= count;
  to += count;
}

}  // namespace

std::uint64_t SignalAccount::all_dropped() const {
  return std::accumulate(dropped.begin(), dropped.end(), std::uint64_t{0});
}

std::uint64_t SignalAccount::lost() const {
  return rejected + refused + unconfirmed + all_dropped() - dropped[static_cast<std::size_t>(DropReason::replaced)];
}

bool SignalAccount::is_balanced() const {
  std::uint64_t sum = all_dropped();
  for (const auto& state : kAccountStates) sum += this->*state.count;
  return taken + found == sum;
}

SignalAccount& SignalAccount::operator+=(const SignalAccount& other) {
  taken += other.taken;
  found += other.found;
  missing += other.missing;
  resent += other.resent;
  for (const auto& state : kAccountStates) this->*state.count += other.*state.count;
  for (std::size_t i = 0; i < dropped.size(); ++i) dropped[i] += other.dropped[i];
  return *this;
}

bool AccountTotals::is_balanced() const {
  return std::all_of(signals.begin(), signals.end(), [](const SignalAccount& one) { return one.is_balanced(); });
}

SignalAccount AccountTotals::total() const {
  SignalAccount sum;
  for (const SignalAccount& one : signals) sum += one;
  return sum;
}

bool AccountTotals::has_losses() const {
  const SignalAccount sum = total();
  return unreadable_bytes + sum.missing + sum.lost() > 0;
}

nlohmann::ordered_json to_json(const AccountTotals& account) {
  nlohmann::ordered_json json;
  json["balanced"] = account.is_balanced();
  json["requests"] = account.requests;
  json["malformed_answers"] = account.malformed_answers;
  json["warnings"] = account.warnings;
  json["unreadable_bytes"] = account.unreadable_bytes;
  for (std::size_t i = 0; i < account.signals.size(); ++i) {
    const SignalAccount& signal = account.signals[i];
    nlohmann::ordered_json& row = json["signals"][kAccountSignals[i]];
    row["taken"] = signal.taken;
    row["found"] = signal.found;
    for (const auto& state : kAccountStates) row[state.name] = signal.*state.count;
    for (std::size_t j = 0; j < kDropReasons.size(); ++j) row["dropped"][kDropReasons[j]] = signal.dropped[j];
    row["missing"] = signal.missing;
    row["resent"] = signal.resent;
    row["balanced"] = signal.is_balanced();
  }
  return json;
}

std::string to_text(const AccountTotals& account, const std::string& receiver) {
  std::string text;
  for (std::size_t i = 0; i < account.signals.size(); ++i) {
    const SignalAccount& signal = account.signals[i];
    if (signal.taken + signal.found + signal.missing == 0) continue;
    text += receiver + ": " + kAccountSignals[i] + ": " + std::to_string(signal.taken) + " taken";
    if (signal.found > 0) text += " + " + std::to_string(signal.found) + " found in the spool";
    std::string states;
    const auto add = [&](std::uint64_t count, std::string name) {
      std::replace(name.begin(), name.end(), '_', ' ');
      if (count > 0) states += (states.empty() ? "" : " + ") + std::to_string(count) + " " + name;
    };
    for (const auto& state : kAccountStates) add(signal.*state.count, state.name);
    for (std::size_t j = 0; j < kDropReasons.size(); ++j) {
      add(signal.dropped[j], std::string("dropped (") + kDropReasons[j] + ")");
    }
    text += (signal.is_balanced() ? " = " : " (does not add up) ") + (states.empty() ? "0" : states);
    if (signal.missing > 0) text += "; " + std::to_string(signal.missing) + " of earlier runs may be missing";
    if (signal.resent > 0) text += "; " + std::to_string(signal.resent) + " resent";
    text += "\n";
  }
  if (account.unreadable_bytes > 0) {
    text += receiver + ": " + counted(account.unreadable_bytes, "byte") +
            " of the spool cannot be read: the items in them are in no count\n";
  }
  if (account.malformed_answers > 0) {
    text += receiver + ": " + counted(account.malformed_answers, "malformed answer") + "\n";
  }
  return text;
}

template <class OnRow>
void ReceiverAccount::for_each_row(const ItemCounts& items, const OnRow& on_row) {
  const RowCounts rows = rows_of(items);
  for (std::size_t i = 0; i < rows.size(); ++i) on_row(totals_.signals[i], rows[i]);
}

void ReceiverAccount::add(const ItemCounts& items, Count state, Count origin) {
  const std::lock_guard lock(mutex_);
  for_each_row(items, [&](SignalAccount& signal, std::uint64_t count) {
    signal.*origin += count;
    signal.*state += count;
  });
}

void ReceiverAccount::drop_new(const ItemCounts& items, DropReason reason) {
  const std::lock_guard lock(mutex_);
  for_each_row(items, [&](SignalAccount& signal, std::uint64_t count) {
    signal.taken += count;
    signal.dropped[static_cast<std::size_t>(reason)] += count;
  });
}

void ReceiverAccount::miss(const ItemCounts& items) {
  const std::lock_guard lock(mutex_);
  for_each_row(items, [](SignalAccount& signal, std::uint64_t count) { signal.missing += count; });
}

void ReceiverAccount::send(const ItemCounts& items, Count from, bool may_have_arrived) {
  const std::lock_guard lock(mutex_);
  ++totals_.requests;
  for_each_row(items, [&](SignalAccount& signal, std::uint64_t count) {
    move_count(signal.*from, signal.in_flight, count);
    if (may_have_arrived) signal.resent += count;
  });
}

void ReceiverAccount::accept(const ItemCounts& items, std::uint64_t rejected, bool may_have_arrived) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t rejectable = items.total() - items.span_events;
  Count events = &SignalAccount::accepted;
  const Count unwanted = may_have_arrived ? &SignalAccount::unconfirmed : &SignalAccount::rejected;
  if (rejected > 0) events = rejected >= rejectable ? unwanted : &SignalAccount::unconfirmed;
  for_each_row(items, [&](SignalAccount& signal, std::uint64_t count) {
    if (&signal == &totals_.signals[kSpanEventsRow]) {
      move_count(signal.in_flight, signal.*events, count);
      return;
    }
    const std::uint64_t refused = std::min(rejected, count);
    rejected -= refused;
    move_count(signal.in_flight, signal.*unwanted, refused);
    move_count(signal.in_flight, signal.accepted, count - refused);
  });
}

void ReceiverAccount::move(const ItemCounts& items, Count from, Count to) {
  const std::lock_guard lock(mutex_);
  for_each_row(items, [&](SignalAccount& signal, std::uint64_t count) { move_count(signal.*from, signal.*to, count); });
}

void ReceiverAccount::drop(const ItemCounts& items, Count from, DropReason reason) {
  const std::lock_guard lock(mutex_);
  for_each_row(items, [&](SignalAccount& signal, std::uint64_t count) {
    move_count(signal.*from, signal.dropped[static_cast<std::size_t>(reason)], count);
  });
}

void ReceiverAccount::count(std::uint64_t AccountTotals::*which, std::uint64_t more) {
  const std::lock_guard lock(mutex_);
  totals_.*which += more;
}

AccountTotals ReceiverAccount::totals() const {
  const std::lock_guard lock(mutex_);
  return totals_;
}

}  // namespace nopspan::collector
