// SPDX-License-Identifier: Apache-2.0
#include "hist/hist_feed.h"

#include <algorithm>
#include <string>
#include <utility>

namespace nopspan::collector {
namespace {

// "chat_server 1234 on host": a recording may have several hosts, with the same pids.
HistTable::Key key_of(const RowKeyView& view, const Grouping& by, const Process& process) {
  HistTable::Key key;
  for (std::size_t i = 0; i < by.size(); ++i) {
    key.push_back(by[i] == Dimension::process ? process_text(process) + " on " + process.host
                                              : std::string(view.texts[i]));
  }
  return key;
}

}  // namespace

Filter filter_for_source(const HistOptions& options) {
  Filter filter = options.filter;
  // The kernel compares --slower-than with the duration of whole requests, which other times may exceed.
  filter.slower_than_ns = 0;
  // The kernel compares --name with the names of spans only. These entries are named by their text, or may be events.
  if (options.of->is_named_by_text() || options.of->in == Quantity::In::attribute) filter.name.clear();
  return filter;
}

HistFeed::HistFeed(const Source& source, HistOptions options, Publish publish)
    : source_(source), options_(std::move(options)), publish_(std::move(publish)) {
  table_.by = options_.by;
  table_.of = options_.of;
}

bool HistFeed::is_wanted(const Entry& entry, const Measured& measured) const {
  if (wants_all_) return true;
  const Filter& filter = options_.filter;
  if (!filter.may_want_own_request_of(entry)) return false;
  if (measured.value < filter.slower_than_ns) return false;
  if (filter.errors && measured.status != kError && measured.status != kException) return false;
  return (filter.name.empty() || measured.name == filter.name) && filter.has_model(entry) && filter.has_tenant(entry) &&
         filter.has_error_type(entry) && filter.has_values(entry);
}

HistRow& HistFeed::row_of(const Entry& entry, const Measured& measured) {
  const RowKeyView view(options_.by, entry, measured.name);
  if (const auto* const found = recent_.find(rows_, view)) return found->second->second;
  HistTable::Key key = key_of(view, options_.by, **entry.process);
  // A former process may have had the same comm and pid.
  if (const auto known = table_.rows.find(key); known != table_.rows.end()) return known->second;
  const std::uint64_t process = number_of(**entry.process);
  if (table_.rows.size() >= options_.most_rows && !make_room(process)) return table_.other;
  const auto row = table_.rows.try_emplace(std::move(key)).first;
  shares_.add(process, &*rows_.emplace(RowKey(view), row).first);
  return row->second;
}

bool HistFeed::make_room(std::uint64_t process) {
  const auto* const evicted = shares_.take_for(process);
  if (evicted == nullptr) return false;
  table_.other.merge(evicted->second->second);
  table_.rows.erase(evicted->second);
  recent_.forget();
  rows_.erase(rows_.find(evicted->first));
  return true;
}

void HistFeed::add_gaps(const Entry& entry) {
  Measured measured{UINT64_MAX, kOk, entry.name};
  if (!is_wanted(entry, measured)) {
    filtered_.add(*entry.process);
    return;
  }
  const GapsOf of = options_.of->in == Quantity::In::token_gap ? GapsOf::tokens : GapsOf::chunks;
  if (!read_gaps(entry, of, gaps_)) ++table_.malformed;
  std::erase_if(gaps_, [this](const auto& gap) { return gap.first < options_.filter.slower_than_ns; });
  if (gaps_.empty()) filtered_.add(*entry.process);
  for (const auto& [value, times] : gaps_) {
    measured.value = value;
    measured.times = times;
    row_of(entry, measured).add(measured);
  }
}

void HistFeed::on_entry(const Entry& entry) {
  if (options_.of->is_list()) {
    add_gaps(entry);
    return;
  }
  Measured measured;
  if (measure(entry, *options_.of, measured) && is_wanted(entry, measured)) {
    row_of(entry, measured).add(measured);
  } else {
    filtered_.add(*entry.process);
  }
}

void HistFeed::on_tick(std::uint64_t now_unix_ns) {
  std::uint64_t& began = table_.began_unix_ns;
  began = began == 0 ? now_unix_ns : std::min(began, now_unix_ns);
  table_.ended_unix_ns = std::max(table_.ended_unix_ns, now_unix_ns);
  filtered_.forget_ended(source_);

  const std::uint64_t interval = options_.interval_ns;
  if (interval == 0) return;
  // At the first tick, or if the clock was set back.
  if (next_ns_ == 0 || next_ns_ > now_unix_ns + interval) next_ns_ = now_unix_ns + interval;
  if (now_unix_ns < next_ns_) return;
  next_ns_ += ((now_unix_ns - next_ns_) / interval + 1) * interval;
  publish_(table());
}

const HistTable& HistFeed::table() {
  table_.ledger = LedgerSum();
  table_.ledger.add(ledger());
  table_.hosts.clear();
  table_.add_host(options_.host);
  for (const ProcessLedger& one : table_.ledger.ledger().processes) table_.add_host(one.process->host);
  return table_;
}

}  // namespace nopspan::collector
