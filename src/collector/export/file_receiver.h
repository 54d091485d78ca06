// SPDX-License-Identifier: Apache-2.0
// Files with OTLP as JSON, one request per line.
#pragma once

#include "export/export_feed.h"
#include "export/export_options.h"
#include "export/otlp_files.h"
#include "export/receiver.h"

#include <functional>
#include <string>
#include <vector>

namespace nopspan::collector {

class FileReceiver : public Receiver {
 public:
  using Say = std::function<void(const std::string&)>;
  // `say` receives messages for the user. Throws Failure if the folder cannot be used.
  FileReceiver(std::string folder, ExportOptions options, Say say);

  void add(const Entry& entry) override { feed_.add(entry); }
  void on_tick(std::uint64_t now_unix_ns) override;
  void add_metrics(std::vector<ExportBody> bodies) override;
  void finish(std::chrono::nanoseconds time) override;
  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] ReceiverAccount& account() override { return account_; }
  [[nodiscard]] ExportFeed::Counts counts() const override { return feed_.counts(); }

 private:
  void append(const ExportBody& body);

  const Say say_;
  bool has_said_ = false;  // that lines cannot be written
  const std::string name_;
  const ExportOptions options_;
  OtlpFiles files_;
  ReceiverAccount account_;
  ExportFeed feed_;
};

}  // namespace nopspan::collector
