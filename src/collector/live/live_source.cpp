// SPDX-License-Identifier: Apache-2.0
// The live source's loop. Each turn waits up to 50 ms for messages, reads messages for at most 20 ms, and does the work
// that is due: a scan of the host every 250 ms, a fetch from threads every max_age_ns / 4 (20 ms to 1 s), and a tick
// for the sink every 100 ms. A scan also ends a round, if all messages from before that round have been read.
#include "live/live_source.h"

#include "host/host.h"
#include "host/process_facts.h"
#include "live/attachments.h"
#include "live/clock_map.h"
#include "live/delivery.h"
#include "live/drain.h"
#include "live/kernel_programs.h"
#include "live/process_filter.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

constexpr std::uint64_t kMillisecond = 1'000'000;
constexpr std::uint64_t kTick = 100 * kMillisecond;
constexpr std::uint64_t kScan = 250 * kMillisecond;
constexpr std::uint64_t kLookUp = 2 * kMillisecond;
constexpr int kPollMilliseconds = 50;
// The longest time that is spent on a ring buffer that never becomes empty, before other work is done.
constexpr std::uint64_t kSlice = 20 * kMillisecond;

// 0 for an empty text, because an empty filter matches any name.
std::uint64_t bit_of(const std::string& text) { return text.empty() ? 0 : nopspan_text_bit(text.data(), text.size()); }

nopspan_settings settings_for(const Filter& filter) {
  nopspan_settings settings{};
  const PidNamespace numbers = pid_namespace();
  settings.namespace_device = numbers.device;
  settings.namespace_inode = numbers.inode;
  settings.by_cgroup = filter.cgroup.empty() ? 0 : 1;
  settings.slower_than_ns = filter.slower_than_ns;
  settings.only_errors = filter.errors ? 1 : 0;
  settings.name_bit = bit_of(filter.name);
  settings.model_bit = bit_of(filter.model);
  settings.sample_one_in = filter.sample_one_in;
  const TraceId request = trace_id_of(filter.request);
  if (!request.empty()) settings.request_bit = std::uint64_t{1} << (request.bytes[15] % 64);
  return settings;
}

bool samples_tails(const nopspan_settings& settings) {
  return settings.slower_than_ns != 0 || settings.only_errors != 0 || settings.name_bit != 0 ||
         settings.model_bit != 0 || settings.request_bit != 0 || settings.sample_one_in > 1;
}

class LiveSource final : public Source {
 public:
  explicit LiveSource(SourceOptions options)
      : options_(std::move(options)),
        settings_(settings_for(options_.filter)),
        processes_(options_.filter),
        delivery_(options_.filter, host_, clocks_, settings_.namespace_inode == 0),
        programs_(
            options_.buffer_bytes, settings_,
            [this](const nopspan_message& message, std::string_view bytes) { return on_message(message, bytes); }),
        attachments_(programs_),
        drain_(host_, processes_, attachments_, delivery_, programs_, samples_tails(settings_)) {
    if (!options_.binary.empty()) host_.add_file(options_.binary);
  }

  void run(Sink& sink, Deadline& until) override;
  [[nodiscard]] Ledger ledger() const override { return delivery_.accounts().ledger(); }
  [[nodiscard]] std::string remark() const override;
  [[nodiscard]] std::size_t processes() const override { return host_.pids().size(); }
  [[nodiscard]] std::optional<ClockState> clock() const override {
    return ClockState{clocks_.error_ns(), clocks_.steps()};
  }

 private:
  bool on_message(const nopspan_message& message, std::string_view bytes);
  void consume();
  void drain(std::uint64_t max_age_ns);
  // Whether all messages that kernel programs made before `time_ns` have been read. The ring buffer may be far behind.
  [[nodiscard]] bool has_read_until(std::uint64_t time_ns) const {
    return !is_interrupted_ || read_until_ns_ >= time_ns;
  }
  void look_up_cgroup() {
    processes_.look_up_cgroup([this](int folder) { return programs_.set_cgroup(folder); });
  }
  void scan();
  void attach();
  std::vector<Attachments::Target> targets();
  // Finds processes that have ended, and closes their accounts two rounds later.
  void update_accounts();
  void close_ended_accounts();
  [[nodiscard]] bool has_ended(const Accounts::Account& account) const {
    return account.closing_round != 0 && account.closing_round + 2 <= delivery_.round();
  }
  void read_losses();
  void finish();

  SourceOptions options_;
  nopspan_settings settings_;
  ClockMap clocks_;
  Host host_;
  ProcessFilter processes_;
  Delivery delivery_;
  KernelPrograms programs_;
  Attachments attachments_;
  Drain drain_;
  std::uint64_t slice_ends_ns_ = 0;
  std::uint64_t messages_ = 0;
  std::uint64_t announced_in_ = 0;   // the cgroup of the message that caused the last look-up
  std::uint64_t looked_up_ns_ = 0;   // the time of that message
  std::uint64_t read_until_ns_ = 0;  // the time of the last message that was read
  bool is_interrupted_ = false;      // consume() stopped before the ring buffer was empty
  std::size_t forked_ = 0;           // processes that those of --pid forked and that still run at the end
};

bool LiveSource::on_message(const nopspan_message& message, std::string_view bytes) {
  // Until the new cgroup of a restarted service is looked up, the kernel programs filter its batches out. They announce
  // a new program or thread wherever it is. Programs in other cgroups must not be able to cause a look-up per message.
  if (message.bytes == 0 && message.cgroup != announced_in_ && message.time_ns - looked_up_ns_ >= kLookUp) {
    announced_in_ = message.cgroup;
    looked_up_ns_ = message.time_ns;
    look_up_cgroup();
  }
  delivery_.on_message(message, bytes);
  read_until_ns_ = message.time_ns;
  // A message may be a batch of hundreds of entries, so the clock is read every eight messages.
  if (++messages_ % 8 != 0 || clocks_.monotonic_now() < slice_ends_ns_) return true;
  is_interrupted_ = true;
  return false;
}

void LiveSource::consume() {
  slice_ends_ns_ = clocks_.monotonic_now() + kSlice;
  is_interrupted_ = false;
  programs_.consume();
}

void LiveSource::drain(std::uint64_t max_age_ns) {
  drain_.begin_round(max_age_ns, clocks_.monotonic_now());
  while (drain_.fetch()) {
    consume();
    drain_.deliver_fetched();
  }
}

std::vector<Attachments::Target> LiveSource::targets() {
  std::vector<Attachments::Target> targets;
  if (options_.filter.pids.empty()) {
    for (const Host::Found& found : host_.files()) targets.push_back({found.file, found.path, -1});
    return targets;
  }
  // Attaches to these processes only, so that no other process's gate is raised.
  for (const std::uint32_t pid : options_.filter.pids) {
    for (const Host::Copy& copy : host_.copies(pid)) targets.push_back({copy.file, copy.path, static_cast<int>(pid)});
  }
  return targets;
}

// The set of processes that map a file may have changed since the scan that found the file. A scan after the attach
// finds all processes that mapped it when it was attached.
void LiveSource::attach() {
  for (auto fresh = attachments_.set(targets(), clocks_.monotonic_now()); !fresh.empty();
       fresh = attachments_.set(targets(), clocks_.monotonic_now())) {
    host_.scan();
    const std::uint64_t now = clocks_.monotonic_now();
    for (const std::uint32_t pid : host_.pids()) {
      for (const Attachments::Target& target : fresh) drain_.begin(pid, *target.file, now);
    }
  }
}

void LiveSource::scan() {
  look_up_cgroup();
  host_.scan();
  attach();
}

void LiveSource::update_accounts() {
  bool have_ended = false;
  for (auto& [pid, account] : delivery_.accounts().all()) {
    for (const std::uint64_t thread : account.take_closed()) programs_.forget_thread({account.tgid, thread});
    if (account.closing_round != 0) {
      have_ended |= has_ended(account);
      continue;
    }
    const ProcessPointer process = host_.process(pid);
    const std::uint64_t started = account.process()->start_ticks;
    const bool is_another = process->start_ticks != 0 && started != 0 && process->start_ticks != started;
    if (is_another || (kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH)) {
      account.closing_round = delivery_.round();
      host_.note_exit(pid);
    } else if (process->start_ticks != 0) {
      account.set_process(process);
    }
  }
  if (have_ended) close_ended_accounts();
}

void LiveSource::close_ended_accounts() {
  read_losses();
  std::vector<std::uint32_t> ended;
  for (const auto& [pid, account] : delivery_.accounts().all()) {
    if (has_ended(account)) ended.push_back(pid);
  }
  for (const std::uint32_t pid : ended) {
    Accounts::Account& account = *delivery_.accounts().find(pid);
    if (!programs_.sees_ends()) account.count_held_by_killed();
    programs_.forget_process(account.tgid);
    for (const auto& [thread, state] : account.threads()) programs_.forget_thread({account.tgid, thread});
    const std::uint64_t started = account.process()->start_ticks;
    delivery_.accounts().close(pid);
    // If the pid was reused, the first entries of the new process were counted in the old account.
    const std::uint64_t now = host_.process(pid)->start_ticks;
    if (now != 0 && now != started) delivery_.account(pid).set_some_unknown();
  }
}

void LiveSource::read_losses() {
  const bool same_numbers = settings_.namespace_inode == 0;
  Accounts& accounts = delivery_.accounts();
  for (const auto& [tgid, losses] : programs_.process_losses()) {
    Accounts::Account* account = accounts.find_tgid(tgid);
    if (account == nullptr && same_numbers) account = &delivery_.account(tgid, tgid);
    if (account != nullptr) account->process_losses(losses);
  }
  for (const auto& [key, losses] : programs_.thread_losses()) {
    Accounts::Account* account = accounts.find_tgid(static_cast<std::uint32_t>(key.tgid));
    if (account == nullptr) continue;
    Losses entries{};
    std::copy(std::begin(losses.entries), std::end(losses.entries), entries.begin());
    account->thread_losses(key.sequence_id, {losses.first, losses.next}, entries, losses.discarded,
                           clocks_.monotonic_now());
  }
  accounts.set_others(programs_.other_losses());
}

std::string LiveSource::remark() const {
  std::string text;
  if (forked_ > 0) {
    text = "--pid does not trace processes that the given ones fork: " + std::to_string(forked_) + " of these still " +
           (forked_ == 1 ? "runs" : "run");
  }
  if (clocks_.steps() == 0) return text;
  const std::string often = clocks_.steps() == 1 ? "once" : std::to_string(clocks_.steps()) + " times";
  return (text.empty() ? "" : text + "; ") + "the wall clock was set, or the machine was suspended, " + often +
         ": spans from before a change keep the time of the old clock";
}

void LiveSource::run(Sink& sink, Deadline& until) {
  delivery_.set_sink(&sink);
  scan();
  until.begin();
  // The first tick comes before any span: the sink needs the current time, and a span may have any time.
  sink.on_tick(clocks_.to_unix(clocks_.monotonic_now()));
  std::uint64_t next_tick = 0, next_scan = 0, next_drain = 0;
  std::uint64_t round_began = 0, drained = 0;
  const std::uint64_t drain_pause =
      std::clamp<std::uint64_t>(options_.max_age_ns / 4, 20 * kMillisecond, 1000 * kMillisecond);
  while (!until.is_over()) {
    if (!is_interrupted_) {
      programs_.wait({host_.watch_fd(), clocks_.change_fd()}, until.milliseconds(kPollMilliseconds));
    }
    if (clocks_.has_changed()) clocks_.sample();
    consume();
    const std::uint64_t now = clocks_.monotonic_now();
    const auto is_time = [now](std::uint64_t& next, std::uint64_t pause) {
      if (now < next) return false;
      next = now + pause;
      return true;
    };
    if (is_time(next_scan, kScan)) {
      scan();
      read_losses();
      // Accounts and ledgers of threads are closed only when no more messages of them can arrive.
      if (has_read_until(round_began)) {
        round_began = now;
        delivery_.next_round();
        update_accounts();
      }
    } else {
      host_.scan_noted();
      attach();
    }
    // A fetch ahead of the ring buffer leaves a gap that later messages must fill. So no fetch begins until all
    // messages from before the last fetch have been read.
    if (has_read_until(drained) && is_time(next_drain, drain_pause)) {
      drained = now;
      drain(options_.max_age_ns);
    }
    if (is_time(next_tick, kTick)) {
      clocks_.sample();
      sink.on_tick(clocks_.to_unix(now));
    }
  }
  finish();
  sink.on_tick(clocks_.to_unix(clocks_.monotonic_now()));
}

// Entries that threads hold now are fetched while the programs are still attached, so that none is missed between the
// fetch and the detach. Entries that are written until the programs are detached are fetched afterwards, if they follow
// without a gap. Another collector may have received the entries in a gap.
void LiveSource::finish() {
  const auto consume_all = [this] {
    do {
      consume();
    } while (is_interrupted_);
  };
  host_.scan();
  forked_ = processes_.count_forked(host_.pids());
  drain(0);
  // Reads only the messages up to this time, because the traced programs may write faster than this program reads.
  const std::uint64_t drained = clocks_.monotonic_now();
  do {
    consume();
  } while (!has_read_until(drained));
  attachments_.detach_all();
  consume_all();
  delivery_.set_detached();
  drain(0);
  consume_all();
  read_losses();
}

}  // namespace

std::unique_ptr<Source> open_live_source(const SourceOptions& options) { return std::make_unique<LiveSource>(options); }

}  // namespace nopspan::collector
