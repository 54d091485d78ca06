// SPDX-License-Identifier: Apache-2.0
#include "hist/hist_recording.h"
#include "model/run_source.h"

#include "base/text.h"

#include <algorithm>
#include <iostream>
#include <memory>
#include <string>

namespace nopspan::collector {
namespace {

constexpr std::size_t kMostHosts = 10000;

class Histograms : public Sink {
 public:
  explicit Histograms(const HistOptions& options) : options_(options) {
    table_.by = options.by;
    table_.of = options.of;
  }

  void on_span(const Span& span) override {
    Measured measured;
    if (!measure(span, *options_.of, measured)) return;
    note(span);
    Counts& counts = counts_of(span);
    ++counts.emitted;
    if (!is_wanted(span, measured)) {
      ++counts.filtered;
      return;
    }
    ++counts.delivered;
    HistTable::Key key;
    for (const KeyPart* part : options_.by) key.emplace_back(text_of(span, measured, *part));
    table_.add(key, measured, options_.most_rows);
  }
  void on_tick(std::uint64_t) override {}

  HistTable take(const Ledger& of_recording) {
    for (const ProcessLedger& one : of_recording.processes) table_.ledger.of(one.process) += losses_of(one.counts);
    Ledger rest;
    rest.others = losses_of(of_recording.rest());
    if (!rest.others.empty()) rest.others_processes = of_recording.others_processes;
    table_.ledger.add(rest);
    return std::move(table_);
  }

 private:
  // What was lost on the way into the recording: of all entries, not only of these.
  static Counts losses_of(Counts counts) {
    counts.delivered = counts.filtered = 0;
    counts.emitted = counts.lost();
    return counts;
  }

  // Spans of a process come many at a time.
  Counts& counts_of(const Span& span) {
    if (counts_ == nullptr || *span.process != process_) {
      process_ = *span.process;
      counts_ = &table_.ledger.of(process_);
    }
    return *counts_;
  }

  [[nodiscard]] bool is_wanted(const Span& span, const Measured& measured) const {
    const Filter& filter = options_.filter;
    if (!filter.may_want(span)) return false;
    if (filter.slower_than_ns > 0 && measured.value <= filter.slower_than_ns) return false;
    if (filter.errors && measured.status != kError && measured.status != kException) return false;
    return (filter.name.empty() || measured.name == filter.name) && filter.has_model(span);
  }

  void note(const Span& span) {
    const std::uint64_t end = span.start_unix_ns + span.duration_ns;
    table_.ended_unix_ns = std::max(table_.ended_unix_ns, end);
    if (table_.began_unix_ns == 0 || end < table_.began_unix_ns) table_.began_unix_ns = end;
    if (span.process == nullptr || *span.process == nullptr) return;
    const std::string& host = (*span.process)->host;
    auto& hosts = table_.hosts;
    if (host.empty() || hosts.size() >= kMostHosts || (!hosts.empty() && hosts.back() == host)) return;
    if (std::find(hosts.begin(), hosts.end(), host) == hosts.end()) hosts.push_back(host);
  }

  HistOptions options_;
  HistTable table_;
  ProcessPointer process_;    // of the last span
  Counts* counts_ = nullptr;  // its
};

}  // namespace

HistTable read_recording(Source& source, const SourceOptions& source_options, const HistOptions& options) {
  Histograms histograms(options);
  run_source(source, histograms, source_options, true);
  std::cerr << remark_text(source);
  return histograms.take(source.ledger());
}

}  // namespace nopspan::collector
