// SPDX-License-Identifier: Apache-2.0
#include "metric/metrics_file.h"

#include "base/failure.h"
#include "base/new_file.h"
#include "base/text.h"
#include "metric/metric_text.h"

#include <cstring>
#include <iostream>
#include <utility>

namespace nopspan::collector {
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
    : failed_writes_(registry_.family({.name = "nopspan.metrics.failed_writes",
                                       .unit = "{write}",
                                       .help = "Failed attempts to write this file.",
                                       .is_integer = true})),
      due_(Clock::now() + kInterval) {
  if (path.empty()) return;
  if (buffer_bytes > 0) {
    MetricFamily& buffer = registry_.family({.name = "nopspan.buffer",
                                             .unit = "By",
                                             .help = "Size of the kernel's ring buffer.",
                                             .type = MetricType::gauge,
                                             .is_integer = true});
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
