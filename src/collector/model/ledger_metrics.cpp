// SPDX-License-Identifier: Apache-2.0
#include "model/ledger_metrics.h"

#include "base/text.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <iterator>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

struct Family {
  const char* name;
  const char* help;
  std::uint64_t Counts::*count;
};
constexpr Family kFamilies[] = {
    {"nopspan_entries_emitted_total", "Entries (spans, events, retries, gauges) that processes emitted.",
     &Counts::emitted},
    {"nopspan_entries_delivered_total", "Entries that were delivered to the command.", &Counts::delivered},
    {"nopspan_entries_filtered_total", "Entries that the filters removed.", &Counts::filtered},
    {"nopspan_entries_held_by_killed_total",
     "Upper bound of the entries that were in the buffers of killed processes; these are not counted as emitted.",
     &Counts::held_by_killed},
};
// The reasons have the names of the ledger's JSON.
constexpr Family kLost = {
    "nopspan_entries_lost_total",
    "Entries that were lost, by reason. For ring_full, use a larger --buffer or a filter; export_dropped entries were "
    "delivered, but could not be written.",
    nullptr};
struct LossReason {
  const char* reason;
  std::uint64_t Counts::*count;
};
constexpr LossReason kLossReasons[] = {
    {"ring_full", &Counts::ring_full},           {"unreadable", &Counts::unreadable}, {"too_large", &Counts::too_large},
    {"malformed", &Counts::malformed},           {"missed", &Counts::missed},         {"discarded", &Counts::discarded},
    {"export_dropped", &Counts::export_dropped},
};
// All counts except not_in_file, because a command that reads a file writes no metrics, and threads_at_attach, which
// does not count entries.
static_assert(sizeof(Counts) == (std::size(kFamilies) + std::size(kLossReasons) + 2) * sizeof(std::uint64_t),
              "a count is missing");
constexpr std::size_t kMostComm = 64;

// A process as labels: pid and comm.
using Labels = std::pair<std::string, std::string>;
using Rows = std::map<Labels, Counts>;

ClientMetric counter(std::uint64_t value) {
  ClientMetric metric;
  metric.counter.value = static_cast<double>(value);
  return metric;
}

ClientMetric counter(const Labels& of, std::uint64_t value) {
  ClientMetric metric = counter(value);
  metric.label = {{"pid", of.first}, {"comm", of.second}};
  return metric;
}

MetricFamily single(const char* name, const char* help, std::uint64_t value) {
  return {name, help, MetricType::Counter, {counter(value)}};
}

MetricFamily buffer(std::uint64_t bytes) {
  MetricFamily family = {"nopspan_buffer_bytes", "Size of the kernel's ring buffer.", MetricType::Gauge, {}};
  family.metric.emplace_back().gauge.value = static_cast<double>(bytes);
  return family;
}

std::vector<MetricFamily> families_of(const Rows& rows) {
  std::vector<MetricFamily> families;
  for (const Family& one : kFamilies) {
    MetricFamily& family = families.emplace_back(MetricFamily{one.name, one.help, MetricType::Counter, {}});
    for (const auto& [labels, counts] : rows) family.metric.push_back(counter(labels, counts.*one.count));
  }
  MetricFamily& lost = families.emplace_back(MetricFamily{kLost.name, kLost.help, MetricType::Counter, {}});
  for (const auto& [labels, counts] : rows) {
    for (const LossReason& loss : kLossReasons) {
      lost.metric.push_back(counter(labels, counts.*loss.count));
      lost.metric.back().label.push_back({"reason", loss.reason});
    }
  }
  return families;
}

}  // namespace

void LedgerMetrics::choose_rows(const Ledger& ledger) {
  std::vector<ProcessKey> keys;
  for (const ProcessLedger& one : ledger.processes) {
    if (one.process != nullptr) keys.emplace_back(one.process->pid, one.process->start_ticks);
  }
  std::map<ProcessKey, bool> chosen;
  std::size_t rows = 0;
  for (const ProcessKey& key : keys) {
    const auto known = has_row_.find(key);
    if (known != has_row_.end() && chosen.insert(*known).second && known->second) ++rows;
  }
  for (const ProcessKey& key : keys) {
    const bool is_new = chosen.try_emplace(key, rows < kMostProcesses).second;
    if (is_new && rows < kMostProcesses) ++rows;
  }
  has_row_ = std::move(chosen);
}

bool LedgerMetrics::has_row(const ProcessPointer& process) const {
  return process != nullptr && has_row_.at({process->pid, process->start_ticks});
}

std::string LedgerMetrics::text(const Ledger& ledger, std::uint64_t failed_writes) {
  choose_rows(ledger);
  const Labels others = {"other", "other"};
  // Rows are keyed by their labels, because labels must be unique. Two processes that had the same pid and comm
  // share one row.
  Rows rows = {{others, ledger.others}};
  for (const auto& [process, counts] : ledger.processes) {
    rows[has_row(process) ? Labels(std::to_string(process->pid), printable(process->comm, kMostComm)) : others] +=
        counts;
  }
  std::vector<MetricFamily> families = families_of(rows);
  families.push_back(single("nopspan_processes_total", "Processes that emitted entries.",
                            ledger.processes.size() + ledger.others_processes));
  families.push_back(
      single("nopspan_metrics_failed_writes_total", "Failed attempts to write this file.", failed_writes));
  if (buffer_bytes_ > 0) families.push_back(buffer(buffer_bytes_));
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace nopspan::collector
