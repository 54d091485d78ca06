// SPDX-License-Identifier: Apache-2.0
// The tracer's loop. It runs on the thread that reads the ring buffer, which touches nothing that a traced process
// controls: host_thread.h does. What it learns it passes on to the reader. Nothing comes back. Each turn waits up
// to 50 ms for messages and reports, reads messages for at most 20 ms, and does the work that is due: a round every 250
// ms, a fetch from threads every max_age_ns / 4 (20 ms to 1 s), and a tick for the reader every 100 ms.
#include "live/tracer.h"

#include "base/failure.h"
#include "base/text.h"
#include "host/process_facts.h"
#include "host/process_reader.h"
#include "live/drain.h"
#include "live/host_thread.h"
#include "live/kernel_programs.h"
#include "live/traced_processes.h"
#include "model/sampling.h"
#include "stream/clock_map.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <deque>
#include <iostream>
#include <set>
#include <string>
#include <utility>
#include <variant>

namespace nopspan::collector {
namespace {

constexpr std::uint64_t kMillisecond = 1'000'000;
constexpr std::uint64_t kTick = 100 * kMillisecond;
constexpr std::uint64_t kRound = 250 * kMillisecond;
constexpr std::uint64_t kLookUp = 2 * kMillisecond;
constexpr int kPollMilliseconds = 50;
// How long the loop waits at once for a reader that is behind.
constexpr int kFullMilliseconds = 10;
// The longest time that is spent on a ring buffer that never becomes empty, before other work is done.
constexpr std::uint64_t kSlice = 20 * kMillisecond;
// The times after which the steps at the end are given up, so that a command ends within a second.
constexpr std::uint64_t kLastFetch = 300 * kMillisecond, kLastRead = 550 * kMillisecond;
constexpr std::uint64_t kDetach = 800 * kMillisecond, kEnd = 900 * kMillisecond;
// A process may keep the host's thread from attaching to everything that it finds at the start.
constexpr std::uint64_t kLatestLive = 3000 * kMillisecond;
constexpr char kAttachesLate[] =
    "attaching took longer than 2 s: what programs emitted before they were attached to is in no count";
// The command prints the account while the tracer is destroyed. Many threads detach faster than the end of a process,
// so a detach may take longer than other work, which the kernel may never finish.
constexpr auto kDetachEnds = std::chrono::seconds(2);
constexpr auto kOtherWorkEnds = std::chrono::milliseconds(150);

// 0 for an empty text, because an empty filter matches any name.
std::uint64_t bit_of(const std::string& text) { return text.empty() ? 0 : nopspan_text_bit(text.data(), text.size()); }

nopspan_settings settings_for(const Filter& filter) {
  nopspan_settings settings = settings_of_namespaces();
  settings.by_cgroup = filter.cgroup.empty() ? 0 : 1;
  settings.slower_than_ns = filter.slower_than_ns;
  settings.only_errors = filter.wants_errors() ? 1 : 0;
  settings.name_bit = bit_of(filter.name);
  settings.model_bit = bit_of(filter.model);
  settings.sampled_from = rejection_threshold(filter.sample_one_in);
  const TraceId request = trace_id_of(filter.request);
  if (!request.empty()) settings.request_bit = std::uint64_t{1} << (request.bytes[15] % 64);
  return settings;
}

bool samples_tails(const nopspan_settings& settings) {
  return settings.slower_than_ns != 0 || settings.only_errors != 0 || settings.name_bit != 0 ||
         settings.model_bit != 0 || settings.request_bit != 0 || settings.sampled_from != 0;
}

// What the host's thread uses.
struct Machinery {
  Machinery(SourceOptions given, const nopspan_settings& settings, KernelPrograms::OnMessage on_message)
      : options(std::move(given)),
        processes(options.filter),
        programs(options.buffer_bytes, settings, std::move(on_message)),
        host(options, processes, programs, samples_tails(settings)) {}

  const SourceOptions options;
  ProcessFilter processes;
  KernelPrograms programs;
  HostThread host;
};

class HostTracer {
 public:
  HostTracer(const SourceOptions& options, MessagePipe& pipe)
      : settings_(settings_for(options.filter)),
        machinery_(std::make_unique<Machinery>(
            options, settings_,
            [this](const nopspan_message& message, std::string_view bytes) { return on_message(message, bytes); })),
        options_(machinery_->options),
        programs_(machinery_->programs),
        host_(machinery_->host),
        pipe_(pipe),
        reader_(pipe.messages()),
        drain_(host_, processes_, reader_) {
    reader_.on_start({unknown_process(0), wall_clock_.sample(), sees_same_numbers()});
  }
  ~HostTracer();

  void run();

 private:
  bool on_message(const nopspan_message& message, std::string_view bytes);
  void pass(const nopspan_message& message, std::string_view bytes);
  [[nodiscard]] bool sees_same_numbers() const { return settings_.namespace_inode == 0; }
  void go_live();
  void sample_clock() { reader_.on_clock(wall_clock_.sample()); }
  void mark(Mark mark) { reader_.on_mark(mark, monotonic_now()); }
  // These pass on what the host's thread has begun, before the messages that follow from it.
  void note_attach_times();
  void note_attach();
  // Every Begun so far was passed on.
  void end_attaching();
  void note_late_attach();
  // Waits for messages and reports, and handles them.
  void turn(int milliseconds);
  void consume();
  void handle_reports();
  void handle(HeadersRead&& report) { later_.emplace_back(std::move(report)); }
  void handle(const RoundRead& report) { later_.emplace_back(report); }
  void handle(Fetched&& report) { later_.emplace_back(std::move(report)); }
  void handle(Described&& report);
  void handle(const Begun& report);
  void handle(const HostFailed& report) const {
    if (!is_live_) std::rethrow_exception(report.why);
    source_failure = report.why;
    stopping = true;
  }
  void handle(const Live& report) {
    found_ = report.processes;
    if (!report.is_complete) note_late_attach();
    is_attach_reported_ = true;
    pass_state();
    go_live();
  }
  void handle(const Detached& report) {
    forked_ = report.forked;
    set_detached();
  }
  void set_detached() {
    if (std::exchange(is_detached_, true)) return;
    note_attach_times();
    mark(Mark::detached);
  }
  // Passes on what has changed of it.
  void pass_state();
  [[nodiscard]] std::string remark() const;
  // Whether all messages that kernel programs made before `time_ns` have been read. The ring buffer may be far behind.
  [[nodiscard]] bool has_read_until(std::uint64_t time_ns) const {
    return !is_interrupted_ || read_until_ns_ >= time_ns;
  }
  void look_up_cgroup() {
    machinery_->processes.look_up_cgroup([this](int folder) { return programs_.set_cgroup(folder); });
  }
  // `tgid` is 0 if it is not known. process_of() also asks for a description of a process that is new.
  TracedProcess& open(std::uint32_t pid, std::uint32_t tgid = 0) {
    return processes_.open(pid, sees_same_numbers() ? pid : tgid);
  }
  TracedProcess& process_of(std::uint32_t pid, std::uint32_t tgid = 0);
  void note_if_gone(std::uint32_t pid) {
    const auto state = process_state(pid);
    if (!state && is_file_limit(errno)) return;  // it is not known
    if (!state || !state->has_memory()) reader_.on_gone(pid);
  }
  void end_round();
  // Finds processes that have ended, and closes them two rounds later.
  void update_processes();
  void close_ended();
  void forget_thread(const TracedProcess& process, std::uint64_t sequence_id);
  // Whether nobody may have read what the threads of a killed process held.
  [[nodiscard]] bool loses_held() const { return !programs_.sees_ends() || programs_.has_missed_ends(); }
  [[nodiscard]] bool is_over(const TracedProcess& process) const {
    return process.closing_round != 0 && process.closing_round + 2 <= round_;
  }
  void read_losses();
  void finish();

  nopspan_settings settings_;
  WallClock wall_clock_;
  std::unique_ptr<Machinery> machinery_;
  const SourceOptions& options_;
  KernelPrograms& programs_;
  HostThread& host_;
  TracedProcesses processes_;
  MessagePipe& pipe_;
  MessageSink& reader_;
  Drain drain_;
  bool is_live_ = false;
  // It was passed on that a Begun may follow. From then on, these processes have emitted something.
  bool is_attaching_ = true;
  std::set<std::uint32_t> active_;
  std::uint64_t round_ = 1;
  // Reports that wait until the messages that were made before them have been read.
  std::deque<std::variant<HeadersRead, RoundRead, Fetched>> later_;
  std::uint64_t slice_ends_ns_ = 0;
  std::uint64_t messages_ = 0;
  std::uint64_t announced_in_ = 0;   // the cgroup of the message that caused the last look-up
  std::uint64_t looked_up_ns_ = 0;   // the time of that message
  std::uint64_t read_until_ns_ = 0;  // the time of the last message that was read
  bool is_interrupted_ = false;      // consume() stopped before the ring buffer was empty
  bool is_late_ = false;             // reports wait, because the last ones took too long
  bool is_attach_reported_ = false;
  bool is_late_to_attach_ = false;  // it was not done when the command went live
  bool is_detached_ = false;
  bool is_finishing_ = false, is_counting_only_ = false;
  bool has_unread_ = false;  // at the end, some threads were not read
  TracerState state_;        // as it was passed on last
  std::size_t found_ = 0;    // processes, at the start
  std::size_t forked_ = 0;   // processes that those of --pid forked and that still run at the end
};

HostTracer::~HostTracer() {
  // If the kernel does not let go of the thread, the thread and what it uses stay until the process ends.
  const std::chrono::nanoseconds patience = detaching ? kDetachEnds : kOtherWorkEnds;
  if (!host_.stop(std::chrono::steady_clock::now() + patience)) {
    leaves_threads = true;
    static_cast<void>(machinery_.release());
  }
}

bool HostTracer::on_message(const nopspan_message& message, std::string_view bytes) {
  // Until the new cgroup of a restarted service is looked up, the kernel programs filter its batches out. They announce
  // a new program or thread wherever it is. Programs in other cgroups must not be able to cause a look-up per message.
  if (message.bytes == 0 && message.cgroup != announced_in_ && message.time_ns - looked_up_ns_ >= kLookUp) {
    announced_in_ = message.cgroup;
    looked_up_ns_ = message.time_ns;
    look_up_cgroup();
  }
  // If the main thread of a process of --pid has ended, the programs are attached to its files in all processes.
  if (machinery_->processes.has_pid(message.pid)) pass(message, is_counting_only_ ? std::string_view() : bytes);
  read_until_ns_ = message.time_ns;
  // A message may be a batch of hundreds of entries, so the clock is read every eight messages.
  const bool has_room = is_counting_only_ || pipe_.has_room();
  if (has_room && (++messages_ % 8 != 0 || monotonic_now() < slice_ends_ns_)) return true;
  is_interrupted_ = true;
  return false;
}

void HostTracer::pass(const nopspan_message& message, std::string_view bytes) {
  note_attach();
  const std::uint32_t pid = message.pid;
  TracedProcess* process = processes_.find(pid);
  if (message.kind == NOPSPAN_MESSAGE_EXEC) {
    host_.look(pid, process != nullptr);
  } else {
    if (process != nullptr && process->cgroup != message.cgroup) host_.note_moved(pid);
    process = &process_of(pid, message.tgid);
    const bool is_new = !process->threads.contains(message.sequence_id);
    if (is_attaching_ && is_new && !process->has_begun) active_.insert(pid);
    process->note(message, round_);
  }
  reader_.on_batch(message, bytes);
}

void HostTracer::note_attach_times() {
  if (host_.attach_changes().empty()) return;
  for (const AttachChange& change : host_.attach_changes().take()) reader_.on_attach(change);
}

void HostTracer::note_attach() {
  note_attach_times();
  // Begun may follow. It is reported before is_attaching() becomes false.
  if (is_attaching_ || (!host_.is_attaching() && host_.reports().empty())) return;
  is_attaching_ = true;
  mark(Mark::attaching);
}

// There is no Begun of a process that ended during an attach.
void HostTracer::end_attaching() {
  if (!std::exchange(is_attaching_, false)) return;
  for (const std::uint32_t pid : std::exchange(active_, {})) {
    const TracedProcess* process = processes_.find(pid);
    if (process != nullptr && !process->has_begun) note_if_gone(pid);
  }
  mark(Mark::settled);
}

void HostTracer::note_late_attach() {
  if (std::exchange(is_late_to_attach_, true)) return;
  std::cerr << std::string("nopspan: ") + kAttachesLate + "\n";
}

void HostTracer::go_live() {
  if (std::exchange(is_live_, true)) return;
  note_attach_times();
  // The reader holds what has come so far until it is settled.
  if (!std::exchange(is_attaching_, true)) mark(Mark::attaching);
  pipe_.flush();  // what was said so far comes first
  mark(Mark::live);
}

void HostTracer::turn(int milliseconds) {
  if (!pipe_.has_room()) {
    is_interrupted_ = true;  // nothing is read
    pipe_.wait(std::min(milliseconds, kFullMilliseconds));
    pipe_.flush();
    if (!is_finishing_) return;
  } else if (!is_interrupted_ && !is_late_) {
    programs_.wait({host_.reports().fd(), wall_clock_.change_fd()}, milliseconds);
  }
  if (wall_clock_.has_changed()) sample_clock();
  handle_reports();
  consume();
  is_late_ = false;
  const std::uint64_t until = monotonic_now() + kSlice;
  while (!later_.empty()) {
    is_late_ = monotonic_now() >= until || !pipe_.has_room();
    if (is_late_) break;
    const auto* headers = std::get_if<HeadersRead>(&later_.front());
    const auto* fetched = std::get_if<Fetched>(&later_.front());
    const std::uint64_t time_ns = headers != nullptr ? headers->time_ns : fetched != nullptr ? fetched->time_ns : 0;
    if (!has_read_until(time_ns)) break;
    auto report = std::move(later_.front());
    later_.pop_front();
    std::visit([this](auto&& one) { drain_.on_report(std::forward<decltype(one)>(one)); }, std::move(report));
  }
  pipe_.flush();
}

void HostTracer::consume() {
  slice_ends_ns_ = monotonic_now() + kSlice;
  is_interrupted_ = false;
  programs_.consume();
}

void HostTracer::handle_reports() {
  // If this is false, every Begun so far is among the reports.
  const bool is_attaching = host_.is_attaching();
  for (HostReport& report : host_.reports().take())
    std::visit([this](auto&& one) { handle(std::forward<decltype(one)>(one)); }, std::move(report));
  note_attach_times();
  if (!is_attaching) end_attaching();
  mark(Mark::time);
}

void HostTracer::handle(Described&& report) {
  TracedProcess& process = open(report.pid);
  const ProcessPointer before = process.process;
  const bool is_new = before == nullptr;
  const auto& now = report.process;
  if (before && now->start_ticks != 0 && before->start_ticks != 0 && before->start_ticks != now->start_ticks) {
    process.has_successor = true;
  } else if (!before || now->start_ticks != 0) {
    process.process = now;
  }
  if (is_new) note_if_gone(report.pid);  // the description of an ended process may be from before its end
  process.has_begun = process.has_begun || report.has_begun;
  reader_.on_process(report);
}

void HostTracer::handle(const Begun& report) {
  TracedProcess& process = open(report.pid);
  process.has_begun = true;
  for (const Begun::Thread& thread : report.threads) {
    if (TracedThread* known = process.open(thread.sequence_id); known != nullptr && known->seen_ns == 0) {
      known->next = std::max(known->next, thread.next);
      known->seen_ns = report.time_ns;
    }
  }
  reader_.on_begun(report);
}

TracedProcess& HostTracer::process_of(std::uint32_t pid, std::uint32_t tgid) {
  if (processes_.find(pid) == nullptr) host_.look(pid, true);
  return open(pid, tgid);
}

void HostTracer::end_round() {
  ++round_;
  // What follows is in the same order in the reader, so that no message is about a thread that it has closed.
  std::vector<ForgottenThreads> forgotten = processes_.take_ended(round_ - 1);
  mark(Mark::round);
  for (ForgottenThreads& one : processes_.take_excess()) {
    reader_.on_forgotten(one);
    forgotten.push_back(std::move(one));
  }
  for (const auto& [pid, threads] : forgotten) {
    for (const std::uint64_t thread : threads) forget_thread(*processes_.find(pid), thread);
  }
}

void HostTracer::update_processes() {
  bool have_ended = false;
  for (auto& [pid, process] : processes_.all()) {
    if (process.closing_round != 0) {
      have_ended |= is_over(process);
    } else if (process.has_successor || (kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH)) {
      process.closing_round = round_;
      reader_.on_gone(pid);
      if (!process.has_successor) host_.note_exit(pid);
    }
  }
  if (have_ended) close_ended();
}

void HostTracer::forget_thread(const TracedProcess& process, std::uint64_t sequence_id) {
  for (const std::uint32_t tgid : process.tgids) programs_.forget_thread({tgid, sequence_id});
}

void HostTracer::close_ended() {
  read_losses();
  std::vector<std::uint32_t> ended;
  for (const auto& [pid, process] : processes_.all()) {
    if (is_over(process)) ended.push_back(pid);
  }
  for (const std::uint32_t pid : ended) {
    const TracedProcess& process = *processes_.find(pid);
    for (const std::uint32_t tgid : process.tgids) programs_.forget_process(tgid);
    for (const auto& [thread, state] : process.threads) forget_thread(process, thread);
    const bool is_reused =
        process.has_successor || process.tgids.size() > 1 || kill(static_cast<pid_t>(pid), 0) == 0 || errno != ESRCH;
    processes_.close(pid);
    reader_.on_closed({pid, loses_held(), is_reused});
    if (is_reused) process_of(pid);
  }
}

void HostTracer::read_losses() {
  AllLosses all = programs_.losses();
  all.time_ns = monotonic_now();
  std::erase_if(all.processes, [&](const ProcessLosses& one) {
    if (processes_.pid_of(one.tgid)) return false;
    if (!machinery_->processes.has_pid(one.pid)) return true;
    process_of(one.pid, one.tgid);
    return false;
  });
  for (const auto& [key, losses] : all.threads) {
    const auto pid = processes_.pid_of(static_cast<std::uint32_t>(key.tgid));
    if (!pid) continue;
    if (TracedThread* thread = processes_.find(*pid)->open(key.sequence_id)) {
      thread->next = std::max<std::uint64_t>(thread->next, losses.next);
      thread->flushed_next = std::max<std::uint64_t>(thread->flushed_next, losses.next);
    }
  }
  reader_.on_losses(all);
}

// Names the processes that were not read for a time, and how often a read of each blocked.
std::string left_alone_text() {
  constexpr std::size_t kMostNamed = 5;
  const std::vector<LeftAlone> processes = processes_left_alone();
  std::string text;
  for (std::size_t i = 0; i < std::min(processes.size(), kMostNamed); ++i) {
    const LeftAlone& process = processes[i];
    text += (i == 0 ? "" : ", ") + (process.pid == 0 ? std::string("files") : std::to_string(process.pid)) + " " +
            process.comm + " " + counted(process.times, "time");
  }
  if (processes.size() > kMostNamed) text += " and " + std::to_string(processes.size() - kMostNamed) + " others";
  return text.empty() ? ""
                      : "not read for a while, because a read of their memory or files blocked, or no thread that runs "
                        "was found: " +
                            text;
}

std::string HostTracer::remark() const {
  std::string text = left_alone_text();
  const auto add = [&text](const std::string& remark) { text += (text.empty() ? "" : "; ") + remark; };
  if (const std::size_t files = host_.refused_files(); files > 0) {
    add(counted(files, "file") + " with probes not traced, because the users' programs have too many");
  }
  if (const std::size_t unseen = host_.unseen_processes(); unseen > 0) {
    add(counted(unseen, "process", "processes") +
        " in pid namespaces below this one not traced: what was emitted is counted as missed");
  }
  if (const std::uint64_t times = reader_restarts(); times > 0)
    add("the process that reads other processes (nopspan-reader) was killed or crashed " + counted(times, "time"));
  if (is_late_to_attach_) add(kAttachesLate);
  if (has_unread_) {
    add("at the end there was no time to read all threads: entries that the others still held are in no count");
  }
  if (forked_ > 0) {
    add("--pid does not trace processes that the given ones fork: " + std::to_string(forked_) + " of these still " +
        (forked_ == 1 ? "runs" : "run"));
  }
  return text;
}

void HostTracer::pass_state() {
  TracerState now{found_, reader_restarts(), has_unread_, remark(), host_.unattached()};
  if (now == state_) return;
  reader_.on_state(now);
  state_ = std::move(now);
}

void HostTracer::run() {
  look_up_cgroup();
  host_.start();
  const std::uint64_t latest_live = monotonic_now() + kLatestLive;
  std::uint64_t next_tick = 0, next_round = 0, next_drain = 0;
  std::uint64_t round_began = 0, drained = 0;
  const std::uint64_t drain_pause =
      std::clamp<std::uint64_t>(options_.max_age_ns / 4, 20 * kMillisecond, 1000 * kMillisecond);
  while (!stopping && pipe_.is_read()) {
    turn(kPollMilliseconds);
    if (!pipe_.has_room()) continue;
    const std::uint64_t now = monotonic_now();
    if (now >= latest_live) {
      if (!is_attach_reported_) note_late_attach();
      go_live();
    }
    const auto is_time = [now](std::uint64_t& next, std::uint64_t pause) {
      if (now < next) return false;
      next = now + pause;
      return true;
    };
    // Also before, because the reader goes live by itself if it can hold no more.
    if (is_time(next_tick, kTick)) {
      sample_clock();
      reader_.on_mark(Mark::tick, now);
    }
    if (!is_live_) continue;
    if (is_time(next_round, kRound)) {
      look_up_cgroup();
      read_losses();
      pass_state();
      // Accounts and ledgers of threads are closed only when no more messages of them can arrive.
      if (has_read_until(round_began)) {
        round_began = now;
        end_round();
        update_processes();
      }
    }
    // A fetch ahead of the ring buffer leaves a gap that later messages must fill. So no fetch begins until all
    // messages from before the last fetch have been read.
    if (has_read_until(drained) && !drain_.is_busy() && is_time(next_drain, drain_pause)) {
      drained = now;
      drain_.begin_round(options_.max_age_ns, now);
    }
  }
  finish();
  pass_state();
  mark(Mark::tick);
}

// Entries that threads hold now are fetched while the programs are still attached, so that none is missed between the
// fetch and the detach. Entries that are written until the programs are detached are fetched afterwards, if they follow
// without a gap. Another collector may have received the entries in a gap.
void HostTracer::finish() {
  go_live();
  is_finishing_ = true;
  const std::uint64_t began = monotonic_now();
  const auto turn_until = [this, began](std::uint64_t end, const auto& is_done) {
    for (std::uint64_t now = 0; !is_done() && (now = monotonic_now()) < began + end;) {
      turn(static_cast<int>(std::min<std::uint64_t>((began + end - now) / kMillisecond + 1, kPollMilliseconds)));
    }
  };
  const auto fetch_until = [&](std::uint64_t end) {
    const auto is_done = [this] { return !drain_.is_busy(); };
    turn_until(end, is_done);  // the round that is running
    if (drain_.is_busy()) return;
    drain_.begin_round(0, monotonic_now());
    turn_until(end, is_done);
  };
  if (pipe_.is_read()) fetch_until(kLastFetch);
  // Reads only the messages up to this time, because the traced programs may write faster than this program reads.
  turn_until(kLastRead, [this, until = monotonic_now()] { return has_read_until(until); });
  // The results are printed first. Then this is the exit status.
  const auto fail = [] {
    if (!source_failure) source_failure = std::make_exception_ptr(Failure(""));
  };
  if (host_.has_failed_to_attach()) fail();
  mark(Mark::detach_begins);
  host_.detach();
  turn_until(kDetach, [this] { return is_detached_; });
  const bool is_in_time = is_detached_;
  if (!is_in_time && !is_attach_reported_) note_late_attach();
  if (!is_in_time && (!is_attach_reported_ || host_.has_failed_to_attach())) fail();
  set_detached();
  if (is_in_time) fetch_until(kEnd);
  // The programs at the end of threads are still attached. What threads held has been fetched, so the rest came later.
  mark(Mark::ended);
  turn(0);
  turn_until(kEnd, [this, until = monotonic_now()] { return has_read_until(until); });
  has_unread_ = drain_.give_up() || !is_in_time;
  // Entries that are still in the ring buffer are only counted. Without their bytes, all of its messages are kept.
  is_counting_only_ = true;
  mark(Mark::counting_only);
  const std::uint64_t last = monotonic_now();
  do {
    consume();
    pipe_.flush();
  } while (!has_read_until(last));
  read_losses();
  update_processes();
  mark(loses_held() ? Mark::last_lost_held : Mark::last);
}

}  // namespace

LiveTracer open_live_tracer(const SourceOptions& options, MessagePipe& pipe) {
  start_process_reader();
  return [tracer = std::make_shared<HostTracer>(options, pipe)] { tracer->run(); };
}

}  // namespace nopspan::collector
