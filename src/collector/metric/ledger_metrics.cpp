// SPDX-License-Identifier: Apache-2.0
#include "metric/ledger_metrics.h"

#include "base/failure.h"
#include "base/new_file.h"
#include "base/text.h"
#include "metric/metric_text.h"

#include <cstring>
#include <iostream>
#include <utility>

namespace nopspan::collector {

namespace {

struct Family {
  const char* name;
  const char* help;
  std::uint64_t Counts::*count;
};
constexpr Family kFamilies[] = {
    {"nopspan.entries.emitted", "Entries (spans, events, retries, gauges) that processes emitted.", &Counts::emitted},
    {"nopspan.entries.delivered", "Entries that were delivered to the command.", &Counts::delivered},
    {"nopspan.entries.filtered", "Entries that the filters removed.", &Counts::filtered},
    {"nopspan.entries.held_by_killed",
     "Upper bound of the entries that were in the buffers of killed processes or of unloaded libraries; these are not "
     "counted as emitted.",
     &Counts::held_by_killed},
};
constexpr std::size_t kMostComm = 64;

}  // namespace

LedgerMetrics::LedgerMetrics(MetricRegistry& registry)
    : registry_(registry),
      lost_(registry.counter("nopspan.entries.lost", "{entry}",
                             "Entries that were lost, by reason. For ring_full, use a larger --buffer or a filter; "
                             "export_dropped entries were delivered, but could not be written.",
                             {"reason"})),
      parts_(registry.counter("nopspan.parts.dropped", "{part}",
                              "Attributes, links and members of entries that the library dropped: no memory, a limit, "
                              "or invalid.",
                              {"part"})),
      process_lost_(registry.counter("nopspan.process.lost", "",
                                     "What processes lost: entries by reason, and parts of entries. Other processes "
                                     "have no series.",
                                     {"pid", "comm", "reason"})),
      processes_(registry.counter("nopspan.processes", "{process}", "Processes that emitted entries.")),
      damage_(registry.counter("nopspan.recording.damage", "",
                               "Parts of recordings that could not be read: skipped bytes, broken chunks, and "
                               "recordings without an end.",
                               {"kind"})),
      unattached_(registry.gauge("nopspan.unattached", "",
                                 "Processes (pid) and files (pid 0) that could not be attached to; pid other: at least "
                                 "so many others. What they emitted is in no count.",
                                 {"pid", "comm"})) {
  for (const Family& family : kFamilies) {
    families_.push_back(&registry.counter(family.name, "{entry}", family.help));
  }
}

// Two processes that had the same pid and comm share a row, because labels must be unique. Processes that have a row
// keep it.
LedgerMetrics::Rows LedgerMetrics::rows_of(const Ledger& ledger) const {
  Rows rows;
  for (const bool is_known : {true, false}) {
    for (const auto& [process, counts] : ledger.processes) {
      if (process == nullptr) continue;
      const Labels labels(std::to_string(process->pid), printable(process->comm, kMostComm));
      if (rows_.contains(labels) != is_known) continue;
      for (const CountField& field : kCountFields) {
        if (counts.*field.count == 0 || (field.loss == nullptr && field.part == nullptr)) continue;
        if (rows.size() < kMostProcesses || rows.contains(labels)) {
          rows[labels][field.part != nullptr ? field.part : field.name] += counts.*field.count;
        }
      }
    }
  }
  return rows;
}

void LedgerMetrics::write(const Ledger& ledger) {
  MetricWriter writer(registry_);
  const auto set = [&writer](MetricFamily& family, std::uint64_t total, LabelValues labels) {
    writer.total(family, static_cast<double>(total), labels);
  };
  for (std::size_t i = 0; i < families_.size(); ++i) set(*families_[i], ledger.total.*kFamilies[i].count, {});
  for (const CountField& field : kCountFields) {
    if (field.loss != nullptr) set(lost_, ledger.total.*field.count, {field.name});
    if (field.part != nullptr) set(parts_, ledger.total.*field.count, {field.part});
  }
  Rows rows = rows_of(ledger);
  for (const auto& [labels, counts] : rows_) {
    const auto row = rows.find(labels);
    for (const auto& [reason, count] : counts) {
      // What was missing may have arrived since.
      const bool is_lost = row != rows.end() && row->second.contains(reason);
      if (!is_lost) writer.forget(process_lost_, {labels.first, labels.second, reason});
    }
  }
  for (const auto& [labels, counts] : rows) {
    for (const auto& [reason, count] : counts) set(process_lost_, count, {labels.first, labels.second, reason});
  }
  rows_ = std::move(rows);
  set(processes_, ledger.processes.size() + ledger.others_processes, {});
  for (const auto& [kind, count] : kDamages) set(damage_, ledger.damage.*count, {kind});
  write_unattached(writer, ledger);
}

void LedgerMetrics::write_unattached(MetricWriter& writer, const Ledger& ledger) {
  std::set<Labels> labels;
  for (const Unattached& one : ledger.unattached)
    labels.emplace(std::to_string(one.pid), printable(one.comm, kMostComm));
  for (const Labels& before : unattached_labels_) {
    if (!labels.contains(before)) writer.forget(unattached_, {before.first, before.second});
  }
  for (const Labels& one : labels) writer.gauge(unattached_, 1, {one.first, one.second});
  if (ledger.unattached_others > 0)
    writer.gauge(unattached_, static_cast<double>(ledger.unattached_others), {"other", "other"});
  else
    writer.forget(unattached_, {"other", "other"});
  unattached_labels_ = std::move(labels);
}

namespace {

constexpr std::chrono::seconds kInterval(10);
constexpr int kSlow = -1;  // instead of an errno value

// Replaces `path` with a new file that contains `text`. Returns 0 or an errno value.
int replace(const std::string& path, const std::string& text, Writing& writing) {
  NewFile next(path, 0644);
  if (next.error() != 0) return next.error();
  const int error = writing.write(next.fd(), text).error;
  return error != 0 ? error : next.publish(true);
}

}  // namespace

void MetricsFile::Target::fail(int error) {
  if (failed++ > 0) return;
  const std::string why = error == kSlow ? "the disk is too slow" : std::strerror(error);
  std::cerr << "nopspan: --metrics " + printable(path) + ": " + why + "; retrying every 10 s\n";
}

class MetricsFile::Text : public Output::Block {
 public:
  Text(std::shared_ptr<Target> target, std::string text) : target_(std::move(target)), text_(std::move(text)) {}

  bool write(Writing& writing) override {
    error_ = replace(target_->path, text_, writing);
    return error_ == 0;
  }
  void settle(bool is_written) override {
    if (!is_written) target_->fail(error_);
  }

 private:
  const std::shared_ptr<Target> target_;
  const std::string text_;
  std::atomic<int> error_ = kSlow;
};

MetricsFile::MetricsFile(std::string path, std::uint64_t buffer_bytes)
    : failed_writes_(
          registry_.counter("nopspan.metrics.failed_writes", "{write}", "Failed attempts to write this file.")),
      due_(Clock::now() + kInterval) {
  if (path.empty()) return;
  if (buffer_bytes > 0) {
    MetricFamily& buffer = registry_.gauge("nopspan.buffer", "By", "Size of the kernel's ring buffer.");
    MetricWriter(registry_).gauge(buffer, static_cast<double>(buffer_bytes), {});
  }
  // An existing /dev/null or folder must not be replaced by a file. A symbolic link is neither replaced nor followed,
  // because another user may have made it.
  const FileKind kind = kind_of_file(path);
  if (kind != FileKind::none && kind != FileKind::regular) {
    throw Failure("--metrics needs a regular file, which " + printable(path) + " is not" +
                      (kind == FileKind::link ? ": it is a symbolic link, and links are not followed" : ""),
                  Failure::kUsageError);
  }
  const int error = replace(path, text({}), output_.writing());
  if (error != 0) throw Failure("--metrics " + printable(path) + ": " + errno_text(error), Failure::status_of(error));
  output_.set_live();
  target_->path = std::move(path);
}

std::string MetricsFile::text(const Ledger& ledger) {
  ledger_.write(ledger);
  MetricWriter(registry_).total(failed_writes_, static_cast<double>(target_->failed), {});
  return prometheus_text(registry_.snapshot());
}

void MetricsFile::write(const Ledger& ledger) {
  if (target_->path.empty()) return;
  due_ = Clock::now() + kInterval;
  const bool is_accepted = output_.post(std::make_unique<Text>(target_, text(ledger)), 1);
  if (!is_accepted) target_->fail(kSlow);
}

void MetricsFile::write_if_due(const std::function<Ledger()>& ledger) {
  if (!target_->path.empty() && Clock::now() >= due_) write(ledger());
}

void MetricsFile::write_and_wait(const Ledger& ledger) {
  output_.flush();
  write(ledger);
  output_.flush();
}

}  // namespace nopspan::collector
