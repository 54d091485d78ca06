// SPDX-License-Identifier: Apache-2.0
#include "command/tracing_process.h"

#include "base/failure.h"
#include "base/out_of_memory.h"
#include "base/stopping.h"
#include "base/text.h"
#include "base/text_output.h"
#include "host/cgroup.h"
#include "host/process_facts.h"
#include "live/probe_link.h"
#include "live/tracer.h"
#include "reader/reader.h"
#include "recording/recording.h"
#include "stream/message_pipe.h"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iostream>
#include <string_view>
#include <thread>
#include <utility>

namespace nopspan::collector {

namespace {

constexpr int kPipeBytes = 1 << 20;
constexpr std::size_t kPiece = std::size_t{256} << 10U;
// How long the other process may take to pass on what it has, to detach, and to end. systemd kills the command after 5
// s.
constexpr std::chrono::milliseconds kMostToEnd{4000};
constexpr std::chrono::milliseconds kMostToExit{500};

// ---- The process that traces

// Waits until the command asks for something. False if it asks this process to end, or ends itself.
bool is_asked(int control) {
  char byte = 0;
  ssize_t bytes = 0;
  while ((bytes = read(control, &byte, 1)) < 0 && errno == EINTR) {
  }
  return bytes == 1;
}

// Stops this program when the other end of the pipe is closed, which the end of the other process does too.
void stop_when_closed(int control) {
  std::thread([control] {
    const auto wake_reader = [] {
      must_read = true;
      must_read.notify_all();
    };
    while (is_asked(control)) wake_reader();
    stopping = true;
    wake_reader();
  }).detach();
}

LiveTracer open_host_tracer(const SourceOptions& options, MessagePipe& pipe) {
  require_processes(options.filter.pids);
  require_cgroup(options.filter.cgroup);
  LiveTracer tracer = open_live_tracer(options, pipe);
  if (!has_capability(Capability::sys_ptrace)) {
    std::cerr << "nopspan: without " << to_string(Capability::sys_ptrace)
              << ", only the processes of this user are traced; see nopspan doctor\n";
  }
  return tracer;
}

// That the kernel has not detached; "" if it has.
std::string late_detach_text() {
  return detaching ? "nopspan: the kernel has not detached in time. Gates of traced programs may stay raised until "
                     "nopspan traces these again\n"
                   : "";
}

int trace(const std::vector<Capability>& capabilities, const MakeTracer& make_tracer, OpenFile messages,
          const OpenFile& control) {
  MessagePipe pipe(std::move(messages));
  LiveTracer tracer;
  TracerEnd end;
  try {
    confine({capabilities, {}, {}});
    if (!confinement_problem().empty()) std::cerr << "nopspan: the tracing process: " << confinement_problem() << "\n";
    tracer = make_tracer(pipe);
    pipe.flush();
    if (is_asked(control.get())) {
      stop_when_closed(control.get());
      tracer();
    }
    if (source_failure) std::rethrow_exception(std::exchange(source_failure, nullptr));
  } catch (const Failure& failure) {
    end = {failure.exit_status, failure.what()};
  } catch (const std::exception& error) {
    end = {Failure::kFailed, exception_text(error)};
  }
  pipe.end(end, kMostToEnd);
  // The command prints its results meanwhile.
  tracer = nullptr;
  const std::string text = pipe.take_texts() + late_detach_text();
  static_cast<void>(write(STDERR_FILENO, text.data(), text.size()));
  if (leaves_threads) _exit(end.status);  // they use what is here
  return end.status;
}

[[noreturn]] void be_tracer(const std::vector<Capability>& capabilities, const MakeTracer& make_tracer,
                            OpenFile messages, const OpenFile& control, const OpenFile& nothing) {
  // The threads that write for the other process are not in this one.
  restore_streams();
  forget_secret_variables();
  // Signals of a terminal or of systemd are for the other process, which closes the pipe.
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) signal(number, SIG_IGN);
  prctl(PR_SET_NAME, "nopspan-tracer");
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO}) static_cast<void>(dup2(nothing.get(), fd));
  std::exit(trace(capabilities, make_tracer, std::move(messages),
                  control));  // NOLINT(concurrency-mt-unsafe): see leaves_threads
}

// Messages, chunks and requests have about 1 MB. Their memory must not be returned to the kernel, which would clear its
// pages each time. That takes longer than filling them.
void keep_memory() {
  constexpr int kKept = 32 << 20;
  mallopt(M_MMAP_THRESHOLD, kKept / 2);
  mallopt(M_TRIM_THRESHOLD, kKept);
}

// `make` makes a pipe or the like.
template <class Make>
std::array<OpenFile, 2> two_ends(const std::string& what, const Make& make) {
  std::array<int, 2> ends{-1, -1};
  if (make(ends.data()) != 0) throw Failure("cannot make " + what + ": " + errno_text(errno));
  return {OpenFile(ends[0]), OpenFile(ends[1])};
}

}  // namespace

// Does not return in the new process.
std::unique_ptr<TracingProcess> start_tracer(const std::vector<Capability>& capabilities,
                                             const MakeTracer& make_tracer) {
  auto [messages, to_messages] = two_ends("a pipe", [](int* ends) { return pipe2(ends, O_CLOEXEC); });
  // Unlike a pipe, it can be written to without SIGPIPE.
  auto [controlled, control] =
      two_ends("a pair of sockets", [](int* ends) { return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends); });
  const OpenFile nothing(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!nothing) throw Failure("/dev/null: " + errno_text(errno));
  fcntl(messages.get(), F_SETPIPE_SZ, kPipeBytes);  // a smaller pipe works too
  fcntl(to_messages.get(), F_SETFL, O_NONBLOCK);
  rest_standard_outputs();
  keep_memory();                           // in both processes
  static std::vector<int> ends_of_others;  // which a process must not keep open
  const pid_t pid = fork();
  if (pid < 0) throw Failure("cannot start a process: " + errno_text(errno));
  if (pid == 0) {
    for (const int end : ends_of_others) close(end);
    messages.reset();
    control.reset();
    be_tracer(capabilities, make_tracer, std::move(to_messages), controlled, nothing);
  }
  ends_of_others.insert(ends_of_others.end(), {messages.get(), control.get()});
  return std::make_unique<TracingProcess>(pid, std::move(messages), std::move(control));
}

namespace {

void confine_command(const Needs& needs) {
  confine(needs);
  if (!confinement_problem().empty()) std::cerr << "nopspan: " << confinement_problem() << "\n";
}

// The source of a command whose other process traces. The filter must outlive the object.
class LiveSource : public Source {
 public:
  LiveSource(std::unique_ptr<TracingProcess> process, const Filter& filter)
      : process_(std::move(process)), reader_(filter) {
    process_->wait_for_start(reader_);
  }

  // If the process fails before it is live, this throws a Failure, and later it sets source_failure.
  void run(Sink& sink, Deadline& until) override;
  [[nodiscard]] Ledger ledger() const override;
  [[nodiscard]] std::string remark() const override;
  // One, until it ends.
  [[nodiscard]] std::optional<Writers> writers() const override {
    return Writers{.connected = process_->is_open() && !reader_.end() ? 1U : 0U};
  }
  [[nodiscard]] bool is_cut() const override { return lacks_end() || reader_.state().is_cut; }
  [[nodiscard]] std::size_t processes() const override { return reader_.state().processes; }
  [[nodiscard]] std::optional<std::uint64_t> reader_restarts() const override {
    return reader_.state().reader_restarts;
  }
  [[nodiscard]] std::optional<ClockState> clock() const override {
    return ClockState{reader_.clocks().error_ns(), reader_.clocks().steps()};
  }

 private:
  // The process has not passed on its last message, and will not do so.
  [[nodiscard]] bool lacks_end() const { return has_run_ && process_->has_begun() && !reader_.end(); }

  std::unique_ptr<TracingProcess> process_;
  Reader reader_;
  bool has_run_ = false;
};

void LiveSource::run(Sink& sink, Deadline& until) {
  reader_.set_sink(&sink, [&until] { until.begin(); });
  process_->run(reader_, until);
  has_run_ = true;
  if (lacks_end()) reader_.abandon();
  const auto& end = reader_.end();
  if (end ? end->status == 0 : !process_->has_begun()) return;  // if it has not begun, nothing is missing
  const Failure failure = process_->failure(end);
  if (!reader_.is_live()) throw failure;
  source_failure = std::make_exception_ptr(failure);
}

Ledger LiveSource::ledger() const {
  Ledger ledger = reader_.ledger();
  if (lacks_end()) ledger.damage.missing_ends = 1;
  return ledger;
}

std::string LiveSource::remark() const {
  std::string text = reader_.state().remark;
  if (const std::uint64_t steps = reader_.clocks().steps(); steps > 0) {
    text += std::string(text.empty() ? "" : "; ") + "the wall clock was set, or the machine was suspended, " +
            (steps == 1 ? "once" : std::to_string(steps) + " times") +
            ": spans from before a change keep the time of the old clock";
  }
  return text;
}

}  // namespace

std::unique_ptr<TracingProcess> start_tracing(std::vector<Capability> capabilities, const MakeTracer& make_tracer,
                                              const Needs& needs) {
  auto process = start_tracer(capabilities, make_tracer);
  confine_command(needs);
  return process;
}

int run_with_source(const SourceOptions& options, const Needs& needs,
                    const std::function<int(std::unique_ptr<Source>)>& command,
                    const std::function<void()>& start_others) {
  if (!options.from.empty()) return command(open_recording(options, [&needs] { confine_command(needs); }));
  const auto make_tracer = [&options](MessagePipe& pipe) { return open_host_tracer(options, pipe); };
  auto process = start_tracer(tracing_capabilities(!has_uprobe_multi()), make_tracer);
  if (start_others) start_others();
  confine_command(needs);
  return command(std::make_unique<LiveSource>(std::move(process), options.filter));
}

// ---- The command

TracingProcess::TracingProcess(pid_t pid, OpenFile messages, OpenFile control)
    : pid_(pid), messages_(std::move(messages)), control_(std::move(control)) {}

// The process is not killed, because gates would then stay raised if the kernel is slow.
TracingProcess::~TracingProcess() {
  stop();
  std::cout.flush();  // the user need not wait for the results
  MessageSink nothing;
  for (buffer_.clear(); messages_ && !is_late(); buffer_.clear()) read(kLookMilliseconds, nothing, 0);
  while (!has_ended() && !is_late()) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  if (has_last_ && has_ended() && WIFSIGNALED(status_) && !source_failure)
    source_failure = std::make_exception_ptr(Failure("the tracing process " + how_killed() + " at its end"));
  if (attaches_ && has_begun_ && !has_ended() && !source_failure)
    source_failure = std::make_exception_ptr(Failure(why_hangs()));
}

void TracingProcess::begin(const Deadline& until) {
  has_begun_ = !until.is_over();
  if (has_begun_ && attaches_) ends_in_order = true;
  if (has_begun_) send(control_.get(), "", 1, MSG_NOSIGNAL);
}

void TracingProcess::ask() const {
  if (control_) send(control_.get(), "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void TracingProcess::stop() {
  if (!control_) return;
  control_.reset();
  latest_ = Clock::now() + kMostToEnd;
}

bool TracingProcess::read(int milliseconds, MessageSink& sink, std::size_t most_messages) {
  pollfd readable{messages_.get(), POLLIN, 0};
  if (poll(&readable, 1, milliseconds) <= 0) return false;
  const std::size_t before = buffer_.size();
  const ssize_t bytes = ::read(messages_.get(), buffer_.extend(kPiece), kPiece);
  buffer_.shrink(before + static_cast<std::size_t>(std::max<ssize_t>(bytes, 0)));
  if (bytes == 0 || (bytes < 0 && errno != EINTR)) messages_.reset();
  buffer_.remove_front(read_messages(buffer_.view(), sink, most_messages));
  return true;
}

bool TracingProcess::has_ended() {
  if (pid_ > 0) {
    const pid_t ended = waitpid(pid_, &status_, WNOHANG);
    if (ended == pid_ || (ended < 0 && errno != EINTR)) pid_ = -1;
  }
  return pid_ < 0;
}

Failure TracingProcess::failure(const std::optional<TracerEnd>& end) {
  return end ? Failure(end->message, end->status) : Failure(why_ended());
}

// It has closed the pipe before its last message, or hangs.
std::string TracingProcess::why_ended() {
  if (messages_) return why_hangs();
  const auto latest = Clock::now() + kMostToExit;
  while (!has_ended() && Clock::now() < latest) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  return "the tracing process " + (has_ended() && WIFSIGNALED(status_) ? how_killed() : "has ended") +
         ", so entries may be missing";
}

// The user learns it from this process, because the other one may be stopped.
std::string TracingProcess::why_hangs() const {
  const std::string pid = std::to_string(pid_);
  return "the tracing process (nopspan-tracer, " + pid + ") has not ended, so " +
         (has_last_ ? "" : "entries may be missing, and ") +
         "gates of traced programs may stay raised. If it is stopped, "
         "kill -CONT " +
         pid + " lets it end. Otherwise use kill -9 " + pid;
}

std::string TracingProcess::how_killed() const {
  return std::string("was killed (") + strsignal(WTERMSIG(status_)) + ")";
}

namespace {

void hide(char* text) { std::fill_n(text, std::strlen(text), '*'); }

// NAME=VALUE. A text in another form is a mistake that may contain a secret too.
void hide_value(char* header) {
  char* const equals = std::strchr(header, '=');
  hide(equals == nullptr ? header : equals + 1);
}

// A password may have been written with a "/", although it must be escaped there.
void hide_in_url(char* url) {
  char* const scheme = std::strstr(url, "://");
  char* const user = scheme == nullptr ? url : scheme + 3;
  char* const user_end = std::strrchr(user, '@');
  if (user_end != nullptr) std::fill(user, user_end, '*');
  if (char* const query = std::strchr(user, '?')) hide(query + 1);
}

struct SecretArgument {
  std::string_view option;
  void (*hide)(char* value);
};
constexpr SecretArgument kSecretArguments[] = {{"--header", hide_value}, {"--otlp", hide_in_url}};

bool is_secret_variable(std::string_view name) {
  constexpr std::string_view kProxy = "_proxy";
  if (name.starts_with("OTEL_EXPORTER_OTLP_")) return name.ends_with("HEADERS") || name.ends_with("ENDPOINT");
  return name.size() > kProxy.size() && is_same_word(name.substr(name.size() - kProxy.size()), kProxy);
}

// Calls `each` with the name and the value of the variables that may contain secrets.
template <class Each>
void for_each_secret_variable(const Each& each) {
  std::vector<char*> variables;  // a copy, because `each` may change the list
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
    variables.push_back(*variable);
  }
  for (char* const variable : variables) {
    char* const equals = std::strchr(variable, '=');
    if (equals == nullptr) continue;
    const std::string name(variable, equals);
    if (is_secret_variable(name)) each(name, equals + 1);
  }
}

}  // namespace

std::vector<std::string> take_arguments(int argc, char** argv) {
  std::vector<std::string> taken(argv, argv + argc);
  for (int i = 0; i < argc; ++i) {
    const std::string_view argument = taken[static_cast<std::size_t>(i)];
    for (const auto& [option, hide_secret] : kSecretArguments) {
      if (argument == option && i + 1 < argc) hide_secret(argv[i + 1]);
      if (argument.starts_with(option) && argument.substr(option.size()).starts_with('=')) {
        hide_secret(argv[i] + option.size() + 1);
      }
    }
  }
  return taken;
}

void hide_secret_variables() {
  for_each_secret_variable([](const std::string& name, char* value) {
    const std::string copy = value;
    // A name that is there twice has the first value. setenv() does not write to the old text.
    if (std::getenv(name.c_str()) == value && ::setenv(name.c_str(), copy.c_str(), 1) != 0) return;
    hide(value);
  });
}

void forget_secret_variables() {
  for_each_secret_variable([](const std::string& name, char* value) {
    hide(value);
    ::unsetenv(name.c_str());
  });
}

}  // namespace nopspan::collector
