// SPDX-License-Identifier: Apache-2.0
#include "command/tracing_process.h"

#include "base/failure.h"
#include "base/stopping.h"
#include "base/text_output.h"
#include "command/options.h"
#include "command/secrets.h"
#include "host/privileges.h"
#include "model/run_source.h"
#include "recording/recorder.h"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <exception>
#include <thread>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr int kPipeBytes = 1 << 20, kKeptMemory = 32 << 20;
// How long the other process may take to detach and to write what it has.
constexpr std::chrono::seconds kMostToEnd{10};
constexpr std::chrono::milliseconds kLookAtStop{50};

// Stops this program when the other end of the pipe is closed, which the end of the other process does too.
void stop_when_closed(int pipe) {
  std::thread([pipe] {
    pollfd end{pipe, POLLIN, 0};
    while (poll(&end, 1, -1) <= 0) {
    }
    stopping = true;
  }).detach();
}

// Closes the pipe when `stopping` is set. Its other end may then take kMostToEnd.
class Stopper {
 public:
  explicit Stopper(OpenFile& pipe) : thread_([this, &pipe] { run(pipe); }) {}
  ~Stopper() {
    has_ended_ = true;
    thread_.join();
  }
  [[nodiscard]] const std::atomic<bool>& is_late() const { return is_late_; }

 private:
  void run(OpenFile& pipe) {
    while (!stopping && !has_ended_) std::this_thread::sleep_for(kLookAtStop);
    pipe.reset();
    const auto latest = std::chrono::steady_clock::now() + kMostToEnd;
    while (!has_ended_ && std::chrono::steady_clock::now() < latest) std::this_thread::sleep_for(kLookAtStop);
    is_late_ = true;
  }

  std::atomic<bool> has_ended_ = false, is_late_ = false;
  std::thread thread_;  // the last member, because it uses the others
};

// Whether something can be read before the end of the file, and before it is late.
bool wait_for_data(int pipe, const std::atomic<bool>& is_late) {
  pollfd data{pipe, POLLIN, 0};
  while (!is_late && poll(&data, 1, static_cast<int>(kLookAtStop.count())) <= 0) {
  }
  return (data.revents & POLLIN) != 0;
}

std::array<OpenFile, 2> make_pipe() {
  std::array<int, 2> ends{-1, -1};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) throw Failure("cannot make a pipe: " + errno_text(errno));
  return {OpenFile(ends[0]), OpenFile(ends[1])};
}

}  // namespace

std::unique_ptr<TracingProcess> TracingProcess::start() {
  auto data = make_pipe();
  auto stop = make_pipe();
  fcntl(data[0].get(), F_SETPIPE_SZ, kPipeBytes);  // a smaller pipe works too
  // So that it can be written in large pieces. No other process shares this end.
  fcntl(data[1].get(), F_SETFL, O_NONBLOCK);
  std::unique_ptr<TracingProcess> process(new TracingProcess);
  rest_standard_outputs();
  process->pid_ = fork();
  if (process->pid_ < 0) throw Failure(std::string("cannot start a process: ") + std::strerror(errno));
  if (process->is_child()) {
    forget_secret_variables();
    // Signals of a terminal or of systemd are for the program, which closes the pipe.
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) signal(number, SIG_IGN);
    prctl(PR_SET_NAME, "nopspan-tracer");
    if (dup2(data[1].get(), STDOUT_FILENO) < 0)
      throw Failure(std::string("cannot use a pipe: ") + std::strerror(errno));
    process->stop_ = std::move(stop[0]);
  } else {
    process->stop_ = std::move(stop[1]);
    process->data_ = std::move(data[0]);
  }
  return process;
}

TracingProcess::~TracingProcess() {
  if (is_child()) return;
  stop_.reset();
  wait_for_end(kMostToEnd);
}

int TracingProcess::trace(const SourceOptions& options) {
  // The recorder's messages of about 1 MB must not be returned to the kernel, which would clear their pages again.
  mallopt(M_MMAP_THRESHOLD, kKeptMemory / 2);
  mallopt(M_TRIM_THRESHOLD, kKeptMemory);
  std::signal(SIGPIPE, SIG_IGN);  // the recorder reports it
  confine_for(options);
  stop_when_closed(stop_.get());
  const std::unique_ptr<Source> source = open_source(options);
  RecorderOptions recorder_options;
  recorder_options.path = "-";
  recorder_options.title = "nopspan: the tracing process";
  const RecorderPointer recorder(new Recorder(std::move(recorder_options)));
  recorder->set_source(*source);
  recorder->set_live();
  recorder->outlast_signals();  // the program reads until its own time is over
  set_standard_outputs_live();
  run_source(*source, *recorder, options, true);
  return recorder->finish() ? 0 : Failure::kFailed;
}

void TracingProcess::run(Sink& sink, Deadline& /*until*/) {
  bool is_late = false;
  {
    const Stopper stopper(stop_);
    if (wait_for_data(data_.get(), stopper.is_late())) {
      Deadline latest(0, stopper.is_late());
      recording_.emplace(ChunkReader(std::move(data_), "the tracing process", latest));
      recording_->run(sink, latest);
    }
    is_late = stopper.is_late();
  }
  wait_for_end(is_late ? std::chrono::seconds(0) : kMostToEnd);
  if (!recording_) return report_end();
  try {
    report_end();
  } catch (const Failure&) {
    source_failure = std::current_exception();
  }
}

// The pipe is closed, so the process has ended or detaches. It is not killed, because gates would then stay raised.
void TracingProcess::wait_for_end(std::chrono::seconds most) {
  const auto latest = std::chrono::steady_clock::now() + most;
  while (pid_ > 0) {
    const pid_t ended = waitpid(pid_, &status_, WNOHANG);
    hangs_ = ended == 0 && std::chrono::steady_clock::now() > latest;
    if (ended == pid_ || (ended < 0 && errno != EINTR) || hangs_) pid_ = -1;
    if (pid_ > 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

void TracingProcess::report_end() const {
  if (hangs_) throw Failure("the tracing process does not end, so entries may be missing");
  if (WIFSIGNALED(status_)) {
    const char* const signal = strsignal(WTERMSIG(status_));
    throw Failure(std::string("the tracing process was killed (") + signal + "), so entries may be missing");
  }
  if (WEXITSTATUS(status_) != 0) throw Failure("", WEXITSTATUS(status_));  // it has printed why
}

int run_with_network(const SourceOptions& options, const std::function<int(std::unique_ptr<Source>)>& command) {
  std::unique_ptr<Source> source;
  if (options.from.empty()) {
    auto process = TracingProcess::start();
    if (process->is_child()) return process->trace(options);
    source = std::move(process);
  } else {
    source = open_recording(options);  // before the capabilities are given up that the file may need
  }
  Needs needs;
  needs.network = true;
  confine(needs);
  return command(std::move(source));
}

}  // namespace nopspan::collector
