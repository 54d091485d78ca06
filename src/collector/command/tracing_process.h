// SPDX-License-Identifier: Apache-2.0
// Runs a command, and beside it, if it is a live one, the process that traces. That one has capabilities, reads the
// kernel's ring buffer and copies what it reads into a pipe. The command has none, and decodes what programs wrote.
#pragma once

#include "base/byte_buffer.h"
#include "base/open_file.h"
#include "host/privileges.h"
#include "model/source.h"
#include "model/source_options.h"
#include "reader/reader.h"

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace nopspan::collector {

// Runs a command that needs no privileges but `needs`. Its source is what --from names, or otherwise this host's
// processes. Must be called before the program makes a thread. Throws Failure.
int run_with_source(const SourceOptions& options, const Needs& needs,
                    const std::function<int(std::unique_ptr<Source>)>& command);

// For stderr at the end of a program: that the kernel has not detached yet; "" if it has.
std::string late_detach_text();

// The source of a command whose other process traces.
class TracingProcess : public Source {
 public:
  // `messages` is read. A byte that is written to `control` asks the process to attach, and its end asks it to detach.
  // The filter must outlive the object.
  TracingProcess(pid_t pid, OpenFile messages, OpenFile control, const Filter& filter);
  ~TracingProcess() override;

  // Waits until the process is ready to attach, or `stopping` is set. Throws Failure if it cannot.
  void wait_for_start();

  // Ends after the other process has passed on its last message. It is asked to end at the deadline, and what it still
  // delivers is read. If it fails before it is live, this throws a Failure, and later it sets source_failure.
  void run(Sink& sink, Deadline& until) override;
  [[nodiscard]] Ledger ledger() const override;
  [[nodiscard]] std::string remark() const override;
  // One, until it ends.
  [[nodiscard]] std::optional<Writers> writers() const override {
    return Writers{.connected = messages_ && !reader_.end() ? 1U : 0U};
  }
  [[nodiscard]] bool is_cut() const override { return lacks_end() || reader_.state().is_cut; }
  [[nodiscard]] std::size_t processes() const override { return reader_.state().processes; }
  [[nodiscard]] std::optional<ClockState> clock() const override {
    return ClockState{reader_.clocks().error_ns(), reader_.clocks().steps()};
  }

 private:
  using Clock = std::chrono::steady_clock;

  void stop();
  // Waits until the process has written something, and passes on at most so many messages.
  bool read(int milliseconds, std::size_t most_messages);  // false if there was nothing
  [[nodiscard]] bool is_late() const { return latest_ && Clock::now() >= *latest_; }
  // The process has not passed on its last message, and will not do so.
  [[nodiscard]] bool lacks_end() const { return has_run_ && has_begun_ && !reader_.end(); }
  [[nodiscard]] bool has_ended();
  [[nodiscard]] std::string why_ended();
  [[nodiscard]] std::string how_killed() const;

  pid_t pid_;  // -1 when its exit status is known
  int status_ = 0;
  OpenFile messages_, control_;
  std::optional<Clock::time_point> latest_;  // when it must have ended, if it was asked to
  ByteBuffer buffer_;                        // what was read and not passed on yet
  Reader reader_;
  bool has_begun_ = false;  // it was asked to attach
  bool has_run_ = false;
};

}  // namespace nopspan::collector
