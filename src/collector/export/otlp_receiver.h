// SPDX-License-Identifier: Apache-2.0
// An OTLP receiver: encodes entries, and queues the bodies.
#pragma once

#include "base/open_file.h"
#include "export/export_bodies.h"
#include "export/export_queue.h"
#include "export/exported_attributes.h"
#include "export/spool.h"
#include "export/transport.h"

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

struct OtlpReceiverOptions {
  std::string name;  // for messages and metrics
  ExportOptions content;
  // If it refuses nothing, waits while it has no space, because the source is a file, which can wait.
  ExportQueueOptions queue;
  std::optional<SpoolOptions> spool;
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

 private:
  void note_unsaved();

  const OtlpReceiverOptions options_;
  const std::unique_ptr<Transport> transport_;
  const std::unique_ptr<Spool> spool_;  // null without a folder
  std::uint64_t ticked_at_ = 0, flushed_at_ = 0;
  bool has_posted_ = false;  // since the last call of note_unsaved()
  unsigned not_noted_ = 0;   // entries since then
  ExportQueue queue_;        // the last member, because its thread uses the others
};

// --otlp-file: OTLP/JSON as files of lines, one request per line.

// Appends to the files traces.jsonl, logs.jsonl and metrics.jsonl in a folder. A file has only whole lines: if a line
// cannot be written completely, what was written of it is removed.
class FileReceiver : public Receiver {
 public:
  using Say = std::function<void(const std::string&)>;
  // Opens the files, or creates them with mode 0600. Removes a line that an earlier run left without its end. `say`
  // receives messages for the user. Throws Failure (kUsageError) if the folder does not exist, or if one of the files
  // is a symbolic link, something else than a file, accessible to other users, or in use by another nopspan.
  FileReceiver(const std::string& folder, const ExportOptions& options, Say say);

  void on_tick(std::uint64_t now_unix_ns) override;
  void add_metrics(std::vector<ExportBody> bodies) override;
  void finish(std::chrono::nanoseconds time) override;

 private:
  struct Lines {
    OpenFile file;
    bool has_rest = false;  // a part of a line could not be removed
    off_t end = 0;          // of the whole lines, if `has_rest`
  };

  void append(const ExportBody& body);
  static int append(Lines& lines, std::string_view line);

  const Say say_;
  bool has_said_ = false;  // that lines cannot be written
  const bool takes_logs_;
  std::array<Lines, kSignals> files_;
};

}  // namespace nopspan::collector
