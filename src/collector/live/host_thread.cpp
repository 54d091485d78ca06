// SPDX-License-Identifier: Apache-2.0
// Each turn serves the requests, and does the work that is due: a scan of the host every 250 ms, otherwise a look at
// the processes that were named and at the watched folders. Then it attaches to new files.
#include "live/host_thread.h"

#include "base/failure.h"
#include "base/text.h"
#include "base/threads.h"
#include "base/time_budget.h"
#include "host/obstacles.h"
#include "host/process_facts.h"
#include "host/process_reader.h"
#include "stream/clock_map.h"

#include <poll.h>
#include <pthread.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <iostream>

namespace nopspan::collector {
namespace {

using Clock = std::chrono::steady_clock;
// New files are attached to until there are none, for at most this time, before the collector counts as live.
constexpr auto kStart = std::chrono::seconds(2);
constexpr auto kScan = std::chrono::milliseconds(250);
constexpr std::size_t kMostReports = 1024;
// The time in a round after which the processes of a user wait for the next one, and the time after which they come
// last in the next one.
constexpr std::uint64_t kMostOfARound = 250'000'000, kLong = 50'000'000;
// How often a process is attached to again because its gate is down.
constexpr unsigned kMostAttachedAgain = 3;
constexpr char kTooManyThreads[] = "it has more than 16384 threads with spans. What the others hold is not read";

int milliseconds_until(Clock::time_point time) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(time - Clock::now()).count();
  return static_cast<int>(std::max<std::int64_t>(left, 0));
}

}  // namespace

HostThread::HostThread(const SourceOptions& options, const ProcessFilter& processes, KernelPrograms& programs,
                       bool tail_sampling)
    : options_(options),
      processes_(processes),
      programs_(programs),
      tail_sampling_(tail_sampling),
      leave_out_(options.leave_out),
      attachments_(
          [this](const ProbeFile& file, int pid, WhyNot& why_not) {
            attach_changes_.post({monotonic_now(), true, false});
            return programs_.attach(file, pid, why_not);
          },
          raise_gate) {
  if (!options_.binary.empty()) host_.files().add(options_.binary);
}

void HostThread::start() {
  // The signal by which the kernel reports a writer of a leased file is read from a descriptor.
  thread_ = thread_without_signals([this] { run(); });
}

bool HostThread::stop(Clock::time_point until) {
  if (!thread_.joinable()) return true;
  ask([](Requests& requests) { requests.stops = true; });
  pollfd ended{ended_.fd(), POLLIN, 0};
  while (!has_ended_ && Clock::now() < until) poll(&ended, 1, milliseconds_until(until));
  if (!has_ended_) {
    thread_.detach();
    return false;
  }
  thread_.join();
  return true;
}

void HostThread::run() {
  pthread_setname_np(pthread_self(), "nopspan-host");
  try {
    work();
  } catch (...) {
    reports_.post(HostFailed{std::current_exception()});
  }
  has_ended_ = true;
  ended_.wake();
}

void HostThread::work() {
  host_.files().begin_leases();
  host_.scan();
  if (host_.has_too_many_files()) throw Failure(read_error_text(EMFILE));
  const auto until = Clock::now() + kStart;
  // The mappings of all processes are counted before the first attach.
  while (host_.is_behind() && Clock::now() < until) host_.scan_noted();
  bool is_complete = false;
  while (!(is_complete = !attach()) && Clock::now() < until) {
  }
  attach_changes_.post({monotonic_now(), false, true});
  is_at_start_ = false;
  count_refused();
  warn_of_processes_without_probes();
  reports_.post(Live{host_.pids().size(), is_complete && !host_.is_behind()});
  Requests requests;
  for (auto next_scan = Clock::now() + kScan; !requests.stops;) {
    std::array<pollfd, 3> files{pollfd{wake_up_.fd(), POLLIN, 0}, pollfd{host_.files().watch_fd(), POLLIN, 0},
                                pollfd{host_.files().writers_fd(), POLLIN, 0}};
    // After the detach the thread only serves requests, and also while a command that is stopped takes no reports.
    const bool only_serves = is_detached_ || reports_.size() >= kMostReports;
    poll(files.data(), only_serves ? 1 : files.size(), is_detached_ ? -1 : milliseconds_until(next_scan));
    wake_up_.clear();
    {
      const std::lock_guard lock(mutex_);
      requests = std::exchange(requests_, {});
    }
    for (const std::uint32_t pid : requests.exits) {
      host_.note_exit(pid);
      described_.erase(pid);
      waited_.erase(pid);
      is_unseen_.erase(pid);
    }
    if (!is_detached_) {
      for (const auto* pids : {&requests.looks, &requests.answers}) {
        for (const std::uint32_t pid : *pids) host_.note_pid(pid);
      }
    }
    if (only_serves) {
      next_scan = std::max(next_scan, Clock::now() + kScan / 4);
    } else {
      if (Clock::now() >= next_scan) {
        leave_out_.read_again();
        // The kernel does not attach to new processes then.
        if (options_.filter.pids.empty() && attachments_.has_alone()) {
          host_.scan();
        } else {
          host_.scan_some();
        }
        warn();
        warn_of_killed();
        note_unattached();
        next_scan = Clock::now() + kScan;
        for (const auto& [pid, process] : std::map(described_)) describe(pid, false);
      } else {
        host_.scan_noted();
      }
      attach();
      note_left_out();
      count_refused();
    }
    serve(requests);
  }
}

// A process that is not attached to any more because it is left out. Once this is said, its memory may be copied.
void HostThread::note_left_out() {
  std::erase_if(left_out_, [this](const auto& one) { return !leave_out_.has(one.first); });
  if (leave_out_.empty()) return;
  for (const std::uint32_t pid : host_.pids()) {
    if (left_out_.contains(pid) || !processes_.has_pid(pid) || !leave_out_.has(pid)) continue;
    const auto& copies = host_.copies(pid);
    if (std::any_of(copies.begin(), copies.end(),
                    [&](const Host::Copy& copy) { return attachments_.is_traced(*copy.file, pid); }))
      continue;
    left_out_.emplace(pid, Clock::now());
    std::cerr << "nopspan: process " + std::to_string(pid) + " (" + printable(host_.process(pid)->comm) +
                     ") is left out: nothing of nopspan is attached to it\n";
  }
}

// What its threads held at the detach is still read.
bool HostThread::was_just_left_out(std::uint32_t pid) const {
  const auto found = left_out_.find(pid);
  return found != left_out_.end() &&
         Clock::now() - found->second < std::chrono::nanoseconds(options_.max_age_ns) + std::chrono::seconds(2);
}

// Says once what keeps this program from examining the host.
void HostThread::warn() {
  if (!host_.has_too_many_files() || std::exchange(has_warned_, true)) return;
  std::cerr << "nopspan: not all processes are examined: " + read_error_text(EMFILE) + "\n";
}

// A process may still load a plug-in that has probes, so this is not an error.
void HostThread::warn_of_processes_without_probes() {
  for (const std::uint32_t pid : options_.filter.pids) {
    if (!host_.copies(pid).empty() || has_ended(open_process(pid))) continue;
    const std::string number = std::to_string(pid);
    std::cerr << "nopspan: process " + number + " has no nopspan probes so far; see nopspan doctor " + number + "\n";
  }
}

void HostThread::warn_of_attach_to_all(const std::vector<Attachments::Target>& wanted) {
  const bool is_for_all = std::any_of(wanted.begin(), wanted.end(), [](const auto& target) { return target.pid < 0; });
  if (options_.filter.pids.empty() || !is_for_all || std::exchange(has_warned_of_all_, true)) return;
  std::cerr
      << "nopspan: the main thread of a process of --pid has ended, so the kernel can only attach to its files in "
         "all processes. Spans of the others are ignored\n";
}

void HostThread::warn_of_killed() {
  for (const auto& [pid, comm, is_strict] : sandboxed_.take_killed()) {
    std::cerr << "nopspan: process " + std::to_string(pid) + " (" + printable(comm, 15) + ") was killed " +
                     (is_strict ? "after the attach: in seccomp's strict mode a span cannot read the clock\n"
                                : "by SIGSYS after the attach: its seccomp filter forbids a system call, perhaps one "
                                  "of its first span; see nopspan::prepare()\n");
  }
}

void HostThread::count_refused() {
  refused_files_ = host_.files().refused().files;
  for (const std::uint32_t user : host_.files().refused().users) {
    if (!refused_users_.insert(user).second) continue;
    std::cerr << "nopspan: the programs of user " + std::to_string(user) +
                     " have too many files with probes: some are not traced\n";
  }
}

// Such a process is named, and what it emits is counted by its threads' headers.
void HostThread::note_unseen() {
  if (programs_.sees_below()) return;
  for (const std::uint32_t pid : host_.pids()) {
    if (!processes_.has_pid(pid) || is_unseen_.contains(pid)) continue;
    const bool is_below = is_in_namespace_below(pid);
    is_unseen_[pid] = is_below;
    if (!is_below) continue;
    ++unseen_processes_;
    std::cerr << "nopspan: process " + std::to_string(pid) + " (" + printable(host_.process(pid)->comm) +
                     ") is not traced, because it is in a pid namespace below this one. Run nopspan in the host's pid "
                     "namespace, or on a kernel with BTF; see nopspan doctor\n";
    describe(pid, false);
  }
}

void HostThread::serve(Requests& requests) {
  for (const std::uint32_t pid : requests.answers) describe(pid, true);
  for (const std::uint32_t pid : requests.moves) {
    host_.note_moved(pid);
    describe(pid, true);
  }
  for (const Fetch& wanted : requests.fetches) fetch_now(wanted);
  if (requests.reads_headers) {
    reports_.post(RoundRead{read_all_headers()});
  }
  if (requests.detaches) {
    is_detached_ = true;
    detaching = true;
    attachments_.detach_all();
    detaching = false;
    host_.files().end_leases();
    if (!options_.filter.pids.empty()) host_.scan();
    warn_of_killed();
    reports_.post(Detached{processes_.count_forked(host_.pids())});
  }
}

void HostThread::describe(std::uint32_t pid, bool answer) {
  const ProcessPointer process = host_.process(pid);
  const auto [known, is_new] = described_.try_emplace(pid, process);
  if (is_new) sandboxed_.watch(pid, true);
  if (!is_new && !answer && known->second == process) return;
  known->second = process;
  reports_.post(Described{pid, process, waited_.contains(pid)});
}

// The set of processes that map a file may have changed since the scan that found the file. A scan after the attach
// finds all processes that mapped it when it was attached.
bool HostThread::attach() {
  host_.files().make_way();
  const std::vector<Attachments::Target> wanted =
      attachment_targets(host_, options_.filter.pids, leave_out_, attachments_);
  if (!attachments_.is_due(wanted, monotonic_now())) {
    host_.files().let_writers_in();
    return false;
  }
  warn_of_attach_to_all(wanted);
  is_attaching_ = true;
  for (const Attachments::Target& target : wanted) {
    if (attachments_.is_attached(*target.file, target.pid) || !target.left_out.empty()) continue;
    if (target.pid >= 0) {
      sandboxed_.watch(static_cast<std::uint32_t>(target.pid), true);
    } else {
      for (const Host::Mapper& mapper : host_.mappers(*target.file)) sandboxed_.watch(mapper.pid, false);
    }
  }
  const std::size_t apart = attachments_.apart();
  const std::vector<Attachments::Target> fresh = attachments_.set(wanted);
  host_.files().let_writers_in();
  bool has_begun = false;
  if (!fresh.empty()) {
    host_.scan();
    for (const std::uint32_t pid : host_.waiting()) {
      waited_.insert(pid);
      if (described_.contains(pid)) describe(pid, true);
    }
    for (const std::uint32_t pid : host_.pids()) {
      for (const Attachments::Target& target : fresh) {
        // A process may have been attached to alone before, or with all others.
        const bool is_new = target.pid < 0
                                ? !attachments_.is_attached(*target.file, static_cast<int>(pid))
                                : target.pid == static_cast<int>(pid) && !attachments_.is_attached(*target.file, -1);
        if (!is_new) continue;
        begin(pid, *target.file);
        has_begun = true;
      }
    }
  }
  note_unattached();
  if (!is_at_start_) attach_changes_.post({monotonic_now(), false, has_begun});
  is_attaching_ = false;
  // A file that could not be attached to in all processes together is attached to in each alone next.
  return !fresh.empty() || attachments_.apart() > apart || attachments_.is_behind();
}

void HostThread::note_partly_seen(const Unattached& one) {
  constexpr std::size_t kMostCounted = 4096;
  if (partly_seen_.size() >= kMostCounted || !processes_.wants(one.pid)) return;
  if (!partly_seen_.emplace(one.path, one.pid).second) return;
  if (partly_seen_.size() > Ledger::kMostUnattached) {
    ++partly_seen_ledger_.unattached_others;
  } else {
    partly_seen_ledger_.unattached.push_back(one);
    std::cerr << text_of(one) + "\n";
  }
}

void HostThread::note_unattached() {
  for (const Unattached& one : find_twins(host_)) note_partly_seen(one);
  for (const Unattached& one : find_moved(host_)) note_partly_seen(one);
  for (const Unattached& one : find_written_to(host_)) note_partly_seen(one);
  publish_unattached();
}

void HostThread::publish_unattached() {
  const std::lock_guard lock(mutex_);
  unattached_ = attachments_.unattached();
  unattached_.add_unattached(partly_seen_ledger_);
  has_failed_to_attach_ = attachments_.has_failed(options_.filter.pids) || has_warned_ ||
                          (!options_.filter.pids.empty() && !partly_seen_.empty());
}

Ledger HostThread::unattached() {
  Ledger all;
  if (const std::string path = attachments_.hangs_at(); !path.empty())
    all.unattached.push_back({path, 0, "", "the kernel has not returned from the attach"});
  const std::lock_guard lock(mutex_);
  all.add_unattached(unattached_);
  return all;
}

HostThread::Copy& HostThread::copy_of(std::uint32_t pid, std::uint64_t gate_address) {
  const ProcessPointer process = host_.process(pid);
  const auto found = headers_.find({pid, gate_address});
  // The pid may have been reused, or the process may have executed another program.
  if (found != headers_.end() && found->second.process == process) return found->second;
  Copy copy{process, ThreadHeaders({pid, process->start_ticks}, gate_address), {}};
  return headers_.insert_or_assign({pid, gate_address}, std::move(copy)).first->second;
}

template <typename Function>
bool HostThread::in_time(std::uint32_t pid, Function function) {
  std::uint64_t& spent_ns = spent_ns_[user_range(host_.user(pid))];
  if (spent_ns >= kMostOfARound) {
    is_whole_ = false;
    return false;
  }
  const std::uint64_t began = monotonic_now();
  const bool result = function();
  spent_ns += monotonic_now() - began;
  return result;
}

void HostThread::begin(std::uint32_t pid, const ProbeFile& file) {
  if (!processes_.has_pid(pid)) return;
  for (const Host::Copy& copy : std::vector(host_.copies(pid))) {
    if (copy.file.get() != &file) continue;
    describe(pid, false);
    Begun begun;
    begun.pid = pid;
    begun.gate_address = copy.gate_address;
    if (copy.gate_address != 0) {
      Copy& known = copy_of(pid, copy.gate_address);
      begun.are_all_known = in_time(pid, [&] {
        const bool is_read = known.headers.read();
        begun.dropped = known.dropped = known.headers.dropped();
        const auto ids = thread_ids(*known.process);
        begun.running_threads = ids.size();
        for (const auto& [address, header] : known.headers.threads()) {
          const auto id = ids.find(header.thread_id);
          begun.threads.push_back({header.sequence_id, header.next, header.discarded});
          if (id != ids.end()) programs_.note_thread(pid, id->second, address);
        }
        return is_read && !known.headers.too_many();
      });
    }
    begun.time_ns = monotonic_now();
    reports_.post(std::move(begun));
  }
}

bool HostThread::read_all_headers() {
  const std::vector<std::uint32_t> pids = host_.pids();
  note_unseen();
  // A process can map its copies at other addresses again and again.
  std::erase_if(headers_, [&](const auto& entry) {
    if (!std::binary_search(pids.begin(), pids.end(), entry.first.first)) return true;
    const auto& copies = host_.copies(entry.first.first);
    return std::none_of(copies.begin(), copies.end(),
                        [&](const Host::Copy& copy) { return copy.gate_address == entry.first.second; });
  });
  is_whole_ = true;
  const auto before_ns = std::exchange(spent_ns_, {});
  std::vector<std::uint32_t> last;
  for (const std::uint32_t pid : pids) {
    const auto before = before_ns.find(user_range(host_.user(pid)));
    if (before != before_ns.end() && before->second >= kLong) {
      last.push_back(pid);
    } else {
      read_headers_of(pid);
    }
  }
  // The next round begins with the first one that this round leaves.
  std::rotate(last.begin(), std::lower_bound(last.begin(), last.end(), begin_at_), last.end());
  begin_at_ = 0;
  for (const std::uint32_t pid : last) {
    read_headers_of(pid);
    if (!is_whole_ && begin_at_ == 0) begin_at_ = pid;
  }
  attachments_.detach_each(links_to_restored_);
  links_to_restored_.clear();
  publish_unattached();
  return is_whole_;
}

void HostThread::read_headers_of(std::uint32_t pid) {
  bool is_wanted = false;
  for (const Host::Copy& copy : host_.copies(pid)) {
    // If a file is not attached, its batches may have gone to another tracer.
    if (copy.gate_address == 0 || !(attachments_.is_traced(*copy.file, pid) || was_just_left_out(pid))) continue;
    if (!is_wanted && !processes_.wants(pid)) break;
    is_wanted = true;
    const auto seen = is_unseen_.find(pid);
    HeadersRead report{pid, copy.gate_address, {}, monotonic_now(), {}, seen != is_unseen_.end() && seen->second};
    Copy& known = copy_of(pid, copy.gate_address);
    if (!in_time(pid, [&] { return known.headers.read(); })) continue;
    attach_again_if_restored(pid, copy);
    if (!known.headers.calls_sites()) note_partly_seen({copy.path, pid, known.process->comm, kCallsNoSites});
    if (known.headers.too_many()) note_partly_seen({copy.path, pid, known.process->comm, kTooManyThreads});
    for (const ThreadHeaders::Thread& thread : known.headers.threads()) {
      if (thread.header.next > thread.header.first || thread.header.discarded != 0 || report.is_unseen)
        report.threads.push_back(thread);
    }
    report.dropped = known.headers.dropped();
    const bool has_dropped = std::exchange(known.dropped, report.dropped) != report.dropped;
    if (!report.threads.empty() || has_dropped) reports_.post(std::move(report));
  }
}

// The kernel puts breakpoints into a file's mapping, and raises the gate, when a process maps the file for execution. A
// process that is restored from a checkpoint gets its gate from the checkpoint, where it is down. If it has mapped its
// text for writing, it has no breakpoints, and a further attach to this process alone installs both. They stay
// afterwards, because the file is attached to. If the breakpoints were installed before the gate was written (CRIU 3.17
// on Linux 6.1), the kernel takes the gate for raised, and nothing can be done about it from outside.
void HostThread::attach_again_if_restored(std::uint32_t pid, const Host::Copy& copy) {
  constexpr unsigned kRounds = 2;  // an exec or a restore may be in progress in the first one
  Copy& known = copy_of(pid, copy.gate_address);
  const bool is_down = known.headers.gate().batch == 0 && known.headers.calls_sites() && copy.has_text;
  // After the detach, and in a process that was just left out, the gate has to be down.
  if (!is_down || is_detached_ || !attachments_.is_traced(*copy.file, pid) || leave_out_.has(pid)) {
    known.rounds_with_gate_down = 0;
    return;
  }
  if (++known.rounds_with_gate_down < kRounds || !may_attach_again(pid, *copy.file)) return;
  if (known.attached_again >= kMostAttachedAgain) {
    return note_partly_seen(
        {copy.path, pid, known.process->comm,
         "its gate is down, perhaps because it was restored from a checkpoint while it was attached to, so its "
         "spans are not seen; see --leave-out"});
  }
  bool is_up = false;
  const bool is_attached = in_time(pid, [&] {
    ++known.attached_again;
    is_attaching_ = true;
    attach_changes_.post({monotonic_now(), true, false});
    WhyNot why_not;
    OpenFile link = raise_gate(*copy.file, static_cast<int>(pid), why_not);
    if (!link) return false;
    is_up = known.headers.read() && known.headers.gate().batch != 0;
    links_to_restored_[host_.user(pid)].push_back(std::move(link));
    return true;
  });
  if (is_attached) begin(pid, *copy.file);
  if (is_attaching_) attach_changes_.post({monotonic_now(), false, is_attached});
  is_attaching_ = false;
  if (is_up) say_attached_again(pid, known.process->comm);
}

// A file with two gates, or that is loaded twice, has a gate that is never raised; see find_twins().
bool HostThread::may_attach_again(std::uint32_t pid, const ProbeFile& file) {
  if (file.has_several_gates() || !host_.files().may_be_attached(file)) return false;
  const auto& copies = host_.copies(pid);
  const auto gates = std::count_if(copies.begin(), copies.end(), [&](const Host::Copy& copy) {
    return copy.file.get() == &file && copy.gate_address != 0;
  });
  const std::vector<Host::Mapper> crowds = host_.mappers(file, true);
  return gates == 1 && std::none_of(crowds.begin(), crowds.end(),
                                    [pid](const auto& mapper) { return mapper.pid == pid && is_crowd(mapper); });
}

// A program can lower its gate again and again, or execute programs that do.
void HostThread::say_attached_again(std::uint32_t pid, const std::string& comm) {
  constexpr std::size_t kMostNamed = 64;
  ++restored_;
  if (restored_ > kMostNamed + 1) return;
  std::cerr << (restored_ <= kMostNamed
                    ? "nopspan: process " + std::to_string(pid) + " (" + printable(comm) +
                          ") had lost its probes, as after the restore of a checkpoint. It is traced from now on\n"
                    : "nopspan: further processes that had lost their probes are traced, and not named\n");
}

void HostThread::fetch_now(const Fetch& wanted) {
  Fetched part{wanted.pid, {}, monotonic_now()};
  const auto known = headers_.find({wanted.pid, wanted.gate_address});
  is_whole_ = true;
  if (known != headers_.end()) {
    const ThreadHeaders& headers = known->second.headers;
    for (const ThreadHeaders::Thread& thread : wanted.threads) {
      Fetched::Thread one{thread.header, thread.address, {}};
      const bool is_fetched = in_time(wanted.pid, [&] {
        return headers.fetch(thread, one.bytes) && !(tail_sampling_ && may_be_filtered(wanted, headers, thread));
      });
      if (is_fetched) part.threads.push_back(std::move(one));
    }
  }
  part.is_whole = is_whole_;
  reports_.post(std::move(part));
}

// Announces the fetch to the kernel program, and then checks whether it has filtered the batch out. The kernel program
// announces first and checks second too, so at least one side sees the other.
bool HostThread::may_be_filtered(const Fetch& wanted, const ThreadHeaders& headers,
                                 const ThreadHeaders::Thread& thread) {
  const nopspan_thread_key key{wanted.tgid, thread.header.sequence_id};
  if (wanted.tgid == 0 || !programs_.note_fetched(key, thread.header.next)) return true;
  const auto losses = programs_.losses_of(key);
  return (losses && losses->filtered_next > thread.header.first) || !headers.still_holds(thread);
}

}  // namespace nopspan::collector
