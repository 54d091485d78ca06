// SPDX-License-Identifier: Apache-2.0
// A source in a process of its own. The process that reads the kernel's ring buffer has capabilities and no network.
// It writes a recording into a pipe, and this process, which may talk to others, needs no capability to read it.
#pragma once

#include "base/open_file.h"
#include "model/source.h"
#include "model/source_options.h"
#include "recording/recording.h"

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace nopspan::collector {

class TracingProcess : public Source {
 public:
  // Starts the process. It must be called before this program makes a thread. Throws Failure.
  static std::unique_ptr<TracingProcess> start();
  ~TracingProcess() override;

  // Whether this is the new process. It must then return the result of trace() as its exit status.
  [[nodiscard]] bool is_child() const { return pid_ == 0; }
  // Traces this host until the other process ends or stops it, and writes the recording. Throws Failure.
  int trace(const SourceOptions& options);

  // Ends after the other process has ended. When `stopping` is set, it is asked to end, and what it still delivers is
  // read. If it fails, it prints why. Then this throws a Failure without a text if nothing was delivered, or sets
  // source_failure.
  void run(Sink& sink, Deadline& until) override;
  [[nodiscard]] Ledger ledger() const override { return recording_ ? recording_->ledger() : Ledger(); }
  [[nodiscard]] std::string remark() const override { return recording_ ? recording_->remark() : std::string(); }
  // One, until its recording ends.
  [[nodiscard]] std::optional<Writers> writers() const override {
    return Writers{.connected = pid_ > 0 && !(recording_ && recording_->state().ended) ? 1U : 0U};
  }
  [[nodiscard]] bool is_cut() const override { return recording_ && recording_->is_cut(); }

 private:
  TracingProcess() = default;
  void wait_for_end(std::chrono::seconds most);
  void report_end() const;

  pid_t pid_ = -1;
  OpenFile stop_;  // a pipe. The program closes its end to stop the other process.
  OpenFile data_;  // until it is read
  std::optional<Recording> recording_;
  int status_ = 0;  // of waitpid()
  bool hangs_ = false;
};

// Runs a command that may use the network, without any capability. Its source is what --from names, or otherwise a
// TracingProcess. Must be called before the program makes a thread.
int run_with_network(const SourceOptions& options, const std::function<int(std::unique_ptr<Source>)>& command);

}  // namespace nopspan::collector
