// SPDX-License-Identifier: Apache-2.0
// Decides when a command stops: on a signal, when it has what the user asked for, or after its --duration.
#pragma once

#include "base/failure.h"
#include "base/open_file.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <exception>

namespace nopspan::collector {

// Set by SIGINT, SIGTERM and SIGHUP, and by a command that has what the user asked for. In the tracing process, set
// when the command asks it to end.
inline std::atomic<bool> stopping = false;
// Set in a tracing process when the command asks for one more reading, and when it asks it to end.
inline std::atomic<bool> must_read = false;
// Set by these signals only: the user wants the program to end now, even if output is lost.
inline std::atomic<bool> interrupted = false;

// Set by the second signal, and by the first one if `is_read` is set: the user does not wait any longer. The command
// ends with what it has, or is killed soon (base/stop_signals.h).
inline std::atomic<bool> hurried = false;
// Set when the source has ended, so that the command only makes and writes its result.
inline std::atomic<bool> is_read = false;
// Set by a command that would lose something if the second signal killed it at once.
inline std::atomic<bool> ends_in_order = false;
// Set while an exporter sends what is left. If it is hurried, it keeps that in its spool, or counts it, and ends.
inline std::atomic<bool> finishing = false;

// Set in a tracing process while the kernel detaches from files.
inline std::atomic<bool> detaching = false;

// Why the source stopped early. main() reports it when the command has printed its results. The tracing process passes
// it on to the command.
inline std::exception_ptr source_failure;

// Set if a thread is left that the kernel does not let go of. The program must then end with _exit(), because the
// thread uses objects that exit() would destroy.
inline std::atomic<bool> leaves_threads = false;

// The end of a loop: after --duration, or as soon as the program must stop.
class Deadline {
 public:
  // A duration of 0 means no limit. `stop` must outlive this object.
  explicit Deadline(std::uint64_t duration_ns = 0, const std::atomic<bool>& stop = stopping)
      : stop_(stop), duration_(duration_ns) {}

  // Starts the duration. Later calls have no effect.
  void begin() {
    if (began_ == Clock::time_point()) began_ = Clock::now();
  }
  [[nodiscard]] bool is_over() const { return stop_ || has_expired(); }
  // Whether the duration is over.
  [[nodiscard]] bool has_expired() const { return has_end() && Clock::now() >= began_ + duration_; }
  // The timeout for poll(2): at most `most`, and not beyond the end.
  [[nodiscard]] int milliseconds(int most) const {
    if (!has_end()) return most;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(began_ + duration_ - Clock::now()).count();
    return static_cast<int>(std::clamp<std::int64_t>(left, 0, most));
  }

 private:
  using Clock = std::chrono::steady_clock;
  [[nodiscard]] bool has_end() const { return duration_.count() > 0 && began_ != Clock::time_point(); }

  const std::atomic<bool>& stop_;
  std::chrono::nanoseconds duration_;
  Clock::time_point began_;
};

// Wakes a thread that waits in poll(2).

// Readable by poll(2) from wake() until clear(). Thread-safe.
class WakeUp {
 public:
  WakeUp() : file_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (!file_) throw Failure("eventfd: " + errno_text(errno));
  }
  [[nodiscard]] int fd() const { return file_.get(); }
  void wake() const {
    const std::uint64_t one = 1;
    // write() fails only if the counter is at its maximum. The file is then readable anyway.
    [[maybe_unused]] const auto written = write(file_.get(), &one, sizeof(one));
  }
  void clear() const {
    std::uint64_t times = 0;
    [[maybe_unused]] const auto bytes = read(file_.get(), &times, sizeof(times));
  }

 private:
  OpenFile file_;
};

}  // namespace nopspan::collector
