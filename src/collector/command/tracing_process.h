// SPDX-License-Identifier: Apache-2.0
// Runs a command, and beside it, if it is a live one, the process that traces. That one has capabilities, reads the
// kernel's ring buffer and copies what it reads into a pipe. The command has none, and decodes what programs wrote.
#pragma once

#include "base/byte_buffer.h"
#include "base/failure.h"
#include "base/open_file.h"
#include "base/stopping.h"
#include "host/privileges.h"
#include "live/tracer.h"
#include "model/filter.h"
#include "stream/message_pipe.h"
#include "stream/messages.h"

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace nopspan::collector {

// Runs a command that needs no privileges but `needs`. Its source is what --from names, or otherwise this host's
// processes. `start_others` may start further processes with privileges. Must be called before the program makes a
// thread. Throws Failure.
int run_with_source(const SourceOptions& options, const Needs& needs,
                    const std::function<int(std::unique_ptr<Source>)>& command,
                    const std::function<void()>& start_others = {});

// The process that traces, as the command has it.
class TracingProcess {
 public:
  // `messages` is read. The first byte that is written to `control` asks the process to begin, further ones set
  // `must_read` there, and its end asks it to end.
  TracingProcess(pid_t pid, OpenFile messages, OpenFile control);
  // It has nothing to detach from.
  void attaches_to_nothing() { attaches_ = false; }
  // Asks it to end, and waits up to four seconds for that, or until the user does not wait any longer (`hurried`). Sets
  // source_failure if it has not ended then, or was killed after its last message.
  ~TracingProcess();
  TracingProcess(const TracingProcess&) = delete;
  TracingProcess& operator=(const TracingProcess&) = delete;

  // Waits until the process is ready to attach, or `stop` is set. Throws Failure if it cannot. A `Sink` is a
  // MessageSink with has_started() and end(), which has what on_end() received.
  template <class Sink>
  void wait_for_start(Sink& sink, const std::atomic<bool>& stop = stopping) {
    while (!sink.has_started() && !sink.end() && messages_ && !stop) read(kLookMilliseconds, sink, 1);
    if (!sink.has_started() && !stop) throw failure(sink.end());
  }
  // Asks it to begin, and passes on its messages up to the last one. It is asked to end at the deadline, and what it
  // still delivers is read.
  template <class Sink>
  void run(Sink& sink, const Deadline& until) {
    begin(until);
    bool is_over = false;
    while (!sink.end() && messages_ && !is_over) {
      if (until.is_over()) stop();
      // What it has written is read even if this process was stopped for long.
      const bool late = is_late();
      const int milliseconds = late ? 0 : latest_ ? kLookMilliseconds : until.milliseconds(kLookMilliseconds);
      is_over = !read(milliseconds, sink, SIZE_MAX) && late;
    }
    has_last_ = sink.end().has_value();
  }
  // Sets `must_read` in the process.
  void ask() const;
  [[nodiscard]] bool has_begun() const { return has_begun_; }
  [[nodiscard]] bool is_open() const { return static_cast<bool>(messages_); }
  // What its last message says, or why there is none.
  Failure failure(const std::optional<TracerEnd>& end);

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr int kLookMilliseconds = 50;

  void begin(const Deadline& until);
  void stop();
  // Waits until the process has written something, and passes on at most so many messages.
  bool read(int milliseconds, MessageSink& sink, std::size_t most_messages);  // false if there was nothing
  [[nodiscard]] bool is_late() const { return latest_ && (hurried || Clock::now() >= *latest_); }
  [[nodiscard]] bool has_ended();
  [[nodiscard]] std::string why_ended();
  [[nodiscard]] std::string why_hangs() const;
  [[nodiscard]] std::string how_killed() const;

  pid_t pid_;  // -1 when its exit status is known
  int status_ = 0;
  OpenFile messages_, control_;
  std::optional<Clock::time_point> latest_;  // when it must have ended, if it was asked to end
  ByteBuffer buffer_;                        // what was read and not passed on yet
  bool has_begun_ = false;                   // it was asked to begin
  bool attaches_ = true;
  bool has_last_ = false;  // it has passed on its last message
};

// To read the memory of other processes.
inline const std::vector<Capability> kOpenCapabilities = {Capability::sys_ptrace, Capability::dac_read_search,
                                                          Capability::checkpoint_restore};

// Makes what traces, in the process that does.
using MakeTracer = std::function<LiveTracer(MessagePipe&)>;
// Starts the process. Must be called before the program makes a thread, and before one of these has ended. Throws
// Failure.
std::unique_ptr<TracingProcess> start_tracer(const std::vector<Capability>& capabilities,
                                             const MakeTracer& make_tracer);
// Starts the process, and gives up what this one does not need. The process keeps the capabilities. Must be called
// before the program makes a thread. Throws Failure.
std::unique_ptr<TracingProcess> start_tracing(std::vector<Capability> capabilities, const MakeTracer& make_tracer,
                                              const Needs& needs);

// Keeps secrets out of /proc/PID/cmdline, which all users can read, and out of /proc/PID/environ. Both show the memory
// in which the kernel placed them when the program started. Children have a copy of it.

// Copies the arguments, and overwrites in the originals the values of headers, and what a URL has of a user, a password
// and a query.
std::vector<std::string> take_arguments(int argc, char** argv);

// Moves the variables that may contain secrets to memory that only this program can read: headers and endpoints of
// OTLP, and proxies. Both functions must be called while the program has one thread.
void hide_secret_variables();
// Removes them from a program or a child that does not send anything.
void forget_secret_variables();

}  // namespace nopspan::collector
