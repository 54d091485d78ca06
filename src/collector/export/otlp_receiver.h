// SPDX-License-Identifier: Apache-2.0
// An OTLP receiver: encodes entries, and queues the bodies.
#pragma once

#include "export/export_feed.h"
#include "export/export_queue.h"
#include "export/exported_attributes.h"
#include "export/receiver.h"
#include "export/spool.h"
#include "export/transport.h"

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace nopspan::collector {

struct OtlpReceiverOptions {
  std::string name;  // for messages and metrics
  ExportOptions content;
  ExportQueueOptions queue;
  std::optional<SpoolOptions> spool;
  // Wait while the queue has no space, because the source is a file, which can wait.
  bool waits = false;
  std::chrono::steady_clock::time_point waits_until = std::chrono::steady_clock::time_point::max();
};

class OtlpReceiver : public Receiver {
 public:
  // Throws Failure.
  OtlpReceiver(OtlpReceiverOptions options, std::unique_ptr<Transport> transport);

  void add(const Entry& entry) override;
  void on_tick(std::uint64_t now_unix_ns) override;
  void add_metrics(std::vector<ExportBody> bodies) override { queue_.post_metrics(std::move(bodies)); }
  void finish(std::chrono::nanoseconds time) override;
  void note_reported() override {
    if (spool_ != nullptr) spool_->note_reported();
  }
  [[nodiscard]] const std::string& name() const override { return options_.name; }
  [[nodiscard]] ReceiverAccount& account() override { return account_; }
  [[nodiscard]] ExportFeed::Counts counts() const override { return feed_.counts(); }

 private:
  void note_unsaved();

  const OtlpReceiverOptions options_;
  const std::unique_ptr<Transport> transport_;
  ReceiverAccount account_;
  const std::unique_ptr<Spool> spool_;  // null without a folder
  ExportFeed feed_;
  std::uint64_t ticked_at_ = 0, flushed_at_ = 0;
  bool has_posted_ = false;  // since the last call of note_unsaved()
  unsigned not_noted_ = 0;   // entries since then
  ExportQueue queue_;        // the last member, because its thread uses the others
};

}  // namespace nopspan::collector
