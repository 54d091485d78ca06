// SPDX-License-Identifier: Apache-2.0
#include "live/tracer.h"

#include "base/clocks.h"
#include "base/failure.h"
#include "base/stopping.h"
#include "base/text.h"
#include "base/threads.h"
#include "base/time_budget.h"
#include "host/host.h"
#include "host/library_view.h"
#include "host/obstacles.h"
#include "host/open_spans.h"
#include "host/process_facts.h"
#include "host/process_reader.h"
#include "live/attachments.h"
#include "live/probe_link.h"
#include "stream/clock_map.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <future>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>

namespace nopspan::collector {
namespace {

using Clock = std::chrono::steady_clock;

// The longest time to read the open spans of all processes. Processes of users who have used up their time wait until
// those of other users have been read.
constexpr auto kMostTimeOfAll = std::chrono::seconds(10), kMostTimeOfAUser = std::chrono::seconds(2);
// Of what the threads of a copy of the library hold.
constexpr std::size_t kMostHeldBytes = std::size_t{16} << 20U;
constexpr int kMostTries = 4;

// A copy of the library whose open spans are to be read.
struct ToRead {
  ProcessPointer process;
  std::uint32_t user;
  std::string path;
  std::uint64_t gate_address;
};

class OpenTracer {
 public:
  OpenTracer(OpenTracerOptions options, MessagePipe& pipe)
      : options_(std::move(options)), pipe_(&pipe), attachments_(raise_gate, raise_gate) {
    pass([](MessageSink& to) { to.on_start({}); });
  }

  void read_once();
  void read_when_asked();
  void watch();
  // Passes on what has waited for room, and texts for the user.
  void flush() {
    const std::lock_guard lock(mutex_);
    if (pipe_ != nullptr) pipe_->flush();
  }
  // The thread that runs watch() passes on nothing more.
  void abandon() {
    const std::lock_guard lock(mutex_);
    pipe_ = nullptr;
  }

 private:
  [[nodiscard]] bool wants(std::uint32_t pid) const {
    return options_.pids.empty() || std::count(options_.pids.begin(), options_.pids.end(), pid) > 0;
  }
  template <class Message>
  void pass(const Message& message) {
    const std::lock_guard lock(mutex_);
    if (pipe_ == nullptr) return;
    message(pipe_->messages());
    pipe_->flush();
  }
  bool has_room() {
    const std::lock_guard lock(mutex_);
    return pipe_ != nullptr && pipe_->is_read() && pipe_->has_room();
  }
  bool wait_for_room(Clock::time_point until);
  std::vector<ToRead> copies_to_read(std::vector<Unattached>& skipped);
  void read_all();
  void read(const ToRead& copy);
  void read_held(const ToRead& copy);
  void note_writers();

  const OpenTracerOptions options_;
  std::mutex mutex_;
  MessagePipe* pipe_;  // with mutex_
  Host host_;
  Attachments attachments_;
  bool was_limited_ = false;  // not all processes were examined, because this program has too many open files
  // The files that a program opened for writing, and the processes that map them.
  std::set<std::pair<std::string, std::uint32_t>> written_to_;
};

// False if there is none in time.
bool OpenTracer::wait_for_room(Clock::time_point until) {
  constexpr auto kLook = std::chrono::milliseconds(10);
  // Meanwhile nobody is attached to, and who wants to write to a file waits.
  constexpr auto kMostWait = std::chrono::milliseconds(200);
  if (options_.watch) until = std::min(until, Clock::now() + kMostWait);
  while (!stopping && !has_room()) {
    if (Clock::now() >= until) return false;
    std::this_thread::sleep_for(kLook);
    flush();
  }
  return !stopping && Clock::now() < until;
}

std::vector<ToRead> OpenTracer::copies_to_read(std::vector<Unattached>& skipped) {
  std::vector<ToRead> copies;
  for (const std::uint32_t pid : host_.pids()) {
    if (!wants(pid)) continue;
    const ProcessPointer process = host_.process(pid);
    for (const Host::Copy& copy : host_.copies(pid)) {
      if (!copy.file->has_gate())
        skipped.push_back({copy.path, pid, process->comm, "it has no gate, so its open spans cannot be found"});
      if (copy.gate_address != 0) copies.push_back({process, host_.user(pid), copy.path, copy.gate_address});
    }
  }
  return copies;
}

void OpenTracer::read_all() {
  OpenSpansRead done;
  std::vector<ToRead> copies = copies_to_read(done.skipped);
  const auto until = Clock::now() + kMostTimeOfAll;
  std::map<std::uint32_t, Clock::duration> spent;  // by user
  bool has_time = true;
  for (const bool is_last : {false, true}) {
    std::vector<ToRead> waiting;
    for (ToRead& copy : copies) {
      auto& of_user = spent[user_range(copy.user)];
      const bool may_wait = !is_last && of_user >= kMostTimeOfAUser;
      has_time = has_time && (may_wait || wait_for_room(until));
      if (may_wait || !has_time) {
        waiting.push_back(std::move(copy));
        continue;
      }
      const auto began = Clock::now();
      read(copy);
      of_user += Clock::now() - began;
    }
    copies = std::move(waiting);
  }
  if (!copies.empty()) {
    done.skipped.push_back(
        {"", 0, "", "there was no time to read " + counted(copies.size(), "copy", "copies") + " of the library"});
  }
  for (Unattached& each : host_.skipped())
    if (each.pid == 0 || wants(each.pid)) done.skipped.push_back(std::move(each));
  if (options_.watch && stopping) return;  // it may lack processes
  done.time_unix_ns = unix_now();
  done.time_ns = monotonic_now();
  TracerState state;
  state.reader_restarts = reader_restarts();
  pass([&](MessageSink& to) {
    to.on_state(state);
    to.on_open_read(done);
  });
}

void OpenTracer::read(const ToRead& copy) {
  const Target target{copy.process->pid, copy.process->start_ticks};
  const Answer answer = read_packed_open_spans(target, copy.gate_address);
  pass([&](MessageSink& to) { to.on_process({target.pid, copy.process, false}); });
  if (answer.error == 0 && options_.reads_held) read_held(copy);
  pass([&](MessageSink& to) { to.on_open({target.pid, copy.user, copy.path, answer.error, answer.bytes}); });
}

void OpenTracer::read_held(const ToRead& copy) {
  ThreadHeaders headers({copy.process->pid, copy.process->start_ticks}, copy.gate_address);
  Held held;
  held.pid = copy.process->pid;
  std::string bytes;
  std::size_t read = 0;
  std::set<std::uint64_t> again;  // threads that flushed after their headers had been read
  for (int tries = 1; tries <= kMostTries && headers.read(); ++tries) {
    const std::set<std::uint64_t> wanted = std::exchange(again, {});
    for (const ThreadHeaders::Thread& thread : headers.threads()) {
      if (thread.header.bytes == 0 || (tries > 1 && !wanted.contains(thread.address))) continue;
      read += thread.header.bytes;
      const bool is_fetched = read <= kMostHeldBytes && headers.fetch(thread, bytes);
      if (!is_fetched && read <= kMostHeldBytes && tries < kMostTries) {
        again.insert(thread.address);
        continue;
      }
      held.what = is_fetched ? Held::What::fetched : Held::What::not_fetched;
      held.header = thread.header;
      held.address = thread.address;
      held.bytes = is_fetched ? std::string_view(bytes) : std::string_view();
      pass([&](MessageSink& to) { to.on_held(held); });
    }
    if (again.empty()) return;
  }
}

void OpenTracer::read_once() {
  host_.scan_completely(options_.pids);
  read_all();
}

void OpenTracer::read_when_asked() {
  for (bool is_first = true;; is_first = false) {
    must_read.wait(false);
    must_read = false;
    if (stopping) return;
    is_first ? host_.scan_completely(options_.pids) : host_.scan();
    read_all();
  }
}

void OpenTracer::watch() {
  host_.files().begin_leases();
  host_.scan_completely(options_.pids);
  if (host_.has_too_many_files()) throw Failure(read_error_text(EMFILE));
  read_all();
  Clock::time_point next;
  for (std::uint64_t readings = 0; !stopping;) {
    host_.files().make_way();
    attachments_.set(attachment_targets(host_, options_.pids, LeaveOut(""), attachments_));
    host_.files().let_writers_in();
    note_writers();
    if (Clock::now() >= next && has_room()) {  // otherwise the command does not read
      next = Clock::now() + std::chrono::nanoseconds(options_.interval_ns);
      read_all();
      if (++readings == options_.count) break;
    }
    constexpr int kScanMilliseconds = 250;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now()).count();
    pollfd writers{host_.files().writers_fd(), POLLIN, 0};
    poll(&writers, 1, static_cast<int>(std::clamp<std::int64_t>(left, 1, kScanMilliseconds)));
    host_.scan();
    was_limited_ = was_limited_ || host_.has_too_many_files();
  }
  stopping = true;
  detaching = true;
  attachments_.detach_all();
  detaching = false;
  host_.files().end_leases();
  if (attachments_.has_failed(options_.pids) || was_limited_ || (!options_.pids.empty() && !written_to_.empty()))
    source_failure = std::make_exception_ptr(Failure(""));
}

void OpenTracer::note_writers() {
  for (const Unattached& one : find_written_to(host_)) {
    if (!wants(one.pid)) continue;
    if (written_to_.size() < Ledger::kMostUnattached && written_to_.emplace(one.path, one.pid).second)
      std::cerr << text_of(one) + "\n";
  }
}

// The work has a thread of its own, because the kernel may not return from an attach or a detach in time. It ends
// within a second after `stopping` is set, or the thread is left.
void watch_on_a_thread(const std::shared_ptr<OpenTracer>& tracer) {
  std::packaged_task<void()> task([tracer] { tracer->watch(); });
  std::future<void> ended = task.get_future();
  // The kernel reports by SIGIO that somebody waits for a file, and the thread polls for that.
  std::thread thread = thread_without_signals(std::move(task));
  constexpr std::chrono::milliseconds kLook{20}, kPatience{700};
  std::chrono::milliseconds waited{0};
  while (ended.wait_for(kLook) != std::future_status::ready) {
    tracer->flush();
    if (!stopping || (waited += kLook) < kPatience) continue;
    tracer->abandon();
    leaves_threads = true;
    thread.detach();
    return;
  }
  thread.join();
  ended.get();
}

}  // namespace

LiveTracer open_open_tracer(const OpenTracerOptions& options, MessagePipe& pipe) {
  start_process_reader();
  const auto tracer = std::make_shared<OpenTracer>(options, pipe);
  if (options.watch) return [tracer] { watch_on_a_thread(tracer); };
  if (options.when_asked) return [tracer] { tracer->read_when_asked(); };
  return [tracer] { tracer->read_once(); };
}

}  // namespace nopspan::collector
