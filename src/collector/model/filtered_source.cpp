// SPDX-License-Identifier: Apache-2.0
#include "model/filtered_source.h"

namespace nopspan::collector {

// Entries arrive in batches of one process, so the counts of the last process are looked up once.
void FilteredCounts::add(const ProcessPointer& process) {
  if (last_ == nullptr || process != last_process_) {
    last_process_ = process;
    last_ = &filtered_.of(process);
  }
  ++last_->filtered;
}

void FilteredCounts::forget_ended(const Source& source) {
  if (filtered_.processes() <= LedgerSum::kMostProcesses / 2) return;
  filtered_.keep_listed(source.ledger());
  last_ = nullptr;
}

Ledger FilteredCounts::ledger(const Source& source) const {
  Ledger ledger = source.ledger();
  const Ledger filtered = filtered_.ledger();
  if (filtered.total.filtered == 0) return ledger;
  ledger.others = ledger.rest();
  ledger.move_delivered(filtered, &Counts::filtered);
  return ledger;
}

void FilteredSource::run(Sink& sink, Deadline& until) {
  sink_ = &sink;
  source_->run(*this, until);
}

void FilteredSource::on_entry(const Entry& entry) {
  if (filter_.selects(entry)) {
    sink_->on_entry(entry);
  } else {
    filtered_.add(*entry.process);
  }
}

void FilteredSource::on_tick(std::uint64_t now_unix_ns) {
  filtered_.forget_ended(*source_);
  sink_->on_tick(now_unix_ns);
}

}  // namespace nopspan::collector
