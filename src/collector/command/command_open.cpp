// SPDX-License-Identifier: Apache-2.0
// nopspan open: lists the requests that are in flight, and where each of them is now.
#include "base/cells.h"
#include "base/failure.h"
#include "base/stopping.h"
#include "base/terminal.h"
#include "base/text.h"
#include "base/text_output.h"
#include "base/user_range.h"
#include "command/command.h"
#include "command/options.h"
#include "host/core_file.h"
#include "host/host.h"
#include "host/obstacles.h"
#include "host/open_spans.h"
#include "host/privileges.h"
#include "host/process_facts.h"
#include "host/process_reader.h"
#include "host/process_report.h"
#include "live/attachments.h"
#include "live/early_requests.h"
#include "live/probe_link.h"
#include "open/open_list.h"
#include "open/open_requests.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <future>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

using nlohmann::ordered_json;

constexpr std::uint64_t kOpenInterval = 2 * kSecond, kLeastOpenInterval = kSecond / 10;
// The longest time to read the open spans of all processes. Processes of users who have used up their time wait until
// those of other users have been read.
constexpr auto kMostTimeOfAList = std::chrono::seconds(10), kMostTimeOfAUser = std::chrono::seconds(2);

struct OpenOptions {
  OpenFilter filter;
  std::vector<std::uint32_t> pids;
  std::string core;
  bool watch = false;
  std::uint64_t interval_ns = 0, count = 0, duration_ns = 0;
};

// What was read at one time.
struct OpenNow {
  std::uint64_t time_unix_ns = 0;  // 0: of a core file
  std::vector<OpenProcess> processes;
  std::vector<OpenRequest> requests;
  std::size_t unwanted = 0;  // requests that the filters exclude
  std::vector<Host::Skipped> skipped;
};

std::string why_no_spans(int error) {
  if (error == EPERM || error == EACCES) return "reading its memory needs CAP_SYS_PTRACE";
  if (error == ENOTSUP) return "its library is too old: open spans can be read since nopspan 0.2";
  if (error == EBADMSG || error == EFAULT) return "its memory is damaged";
  return read_error_text(error);
}

// Collects the spans of one process after the other.
class OpenReading {
 public:
  void add(const ProcessPointer& process, std::uint32_t user, const std::string& library, int error, OpenSpans& open,
           const EarlyRequests& early = {}) {
    if (error == ESRCH) return;
    if (error != 0) {
      now_.skipped.push_back({process->pid, library, why_no_spans(error)});
      return;
    }
    OpenProcess copy;
    copy.process = process;
    copy.library = library;
    copy.early = early.keys();
    copy.early_unread = early.unread();
    limit_.apply(user, open);
    add_open_spans(open, now_.processes.size(), copy, spans_);
    now_.processes.push_back(std::move(copy));
  }
  void skip(Host::Skipped skipped) { now_.skipped.push_back(std::move(skipped)); }
  OpenNow finish(const OpenFilter& filter) {
    now_.requests = open_requests(std::move(spans_), now_.processes);
    now_.unwanted = std::erase_if(now_.requests, [&](const OpenRequest& request) { return !filter.wants(request); });
    return std::move(now_);
  }

 private:
  OpenNow now_;
  std::vector<OpenSpan> spans_;
  OpenSpanLimit limit_;
};

OpenNow read_core(const OpenOptions& options) {
  const CoreFile core(options.core);
  if (core.is_truncated())
    std::cerr << "nopspan: " << printable(options.core) << " is truncated: open spans may be missing\n";
  auto process = std::make_shared<Process>();
  process->pid = core.pid();
  process->comm = core.comm();
  OpenReading reading;
  OpenSpans open;
  for (const std::uint64_t gate : core.gates()) {
    const int error = core.read_open_spans(gate, open);
    if (error == 0) {
      reading.add(process, 0, "", error, open);
    } else {  // without the pid, which a process of this host may have
      const bool is_cut = error == EBADMSG && core.is_truncated();
      reading.skip({0, options.core, is_cut ? "it ends before its open spans" : why_no_spans(error)});
    }
  }
  return reading.finish(options.filter);
}

// A copy of the library whose open spans are to be read.
struct ToRead {
  ProcessPointer process;
  std::uint32_t user;
  std::string path;
  std::uint64_t gate_address;
};

std::vector<ToRead> copies_to_read(Host& host, const OpenOptions& options, OpenReading& reading) {
  std::vector<ToRead> copies;
  for (const std::uint32_t pid : host.pids()) {
    if (!options.pids.empty() && std::count(options.pids.begin(), options.pids.end(), pid) == 0) continue;
    const ProcessPointer process = host.process(pid);
    for (const Host::Copy& copy : host.copies(pid)) {
      if (!copy.file->has_gate()) reading.skip({pid, copy.path, "it has no gate, so its open spans cannot be found"});
      if (copy.gate_address != 0) copies.push_back({process, host.user(pid), copy.path, copy.gate_address});
    }
  }
  return copies;
}

OpenNow read_host(Host& host, const OpenOptions& options) {
  using ListClock = std::chrono::steady_clock;
  OpenReading reading;
  std::vector<ToRead> copies = copies_to_read(host, options, reading);
  const auto until = ListClock::now() + kMostTimeOfAList;
  std::map<std::uint32_t, ListClock::duration> spent;  // by user
  for (const bool is_last : {false, true}) {
    std::vector<ToRead> waiting;
    for (ToRead& copy : copies) {
      auto& of_user = spent[user_range(copy.user)];
      const auto began = ListClock::now();
      if (stopping || began >= until || (!is_last && of_user >= kMostTimeOfAUser)) {
        waiting.push_back(std::move(copy));
        continue;
      }
      OpenSpans open;
      const int error = read_open_spans({copy.process->pid, copy.process->start_ticks}, copy.gate_address, open);
      EarlyRequests early;
      if (error == 0 && open.is_raised && options.filter.wants_early()) {
        early.read({copy.process->pid, copy.process->start_ticks}, copy.gate_address);
      }
      reading.add(copy.process, copy.user, copy.path, error, open, early);
      of_user += ListClock::now() - began;
    }
    copies = std::move(waiting);
  }
  if (!copies.empty())
    reading.skip({0, "", "there was no time to read " + counted(copies.size(), "copy", "copies") + " of the library"});
  OpenNow now = reading.finish(options.filter);
  now.time_unix_ns = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count());
  for (Host::Skipped& each : host.skipped()) {
    if (each.pid == 0 || options.pids.empty() || std::count(options.pids.begin(), options.pids.end(), each.pid) > 0)
      now.skipped.push_back(std::move(each));
  }
  return now;
}

std::string json_text(const OpenNow& now, int indent) {
  ordered_json json;
  if (now.time_unix_ns != 0) json["time_unix_ns"] = now.time_unix_ns;
  for (const char* key : {"requests", "processes", "skipped"}) json[key] = ordered_json::array();
  for (const OpenRequest& request : now.requests) json["requests"].push_back(to_json(request, now.processes));
  for (const OpenProcess& process : now.processes) json["processes"].push_back(to_json(process));
  for (const Host::Skipped& each : now.skipped)
    json["skipped"].push_back({{"pid", each.pid}, {"path", each.path}, {"reason", each.reason}});
  return json.dump(indent, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

// Whether all processes were examined.
bool is_whole(const OpenNow& now) {
  return std::none_of(now.skipped.begin(), now.skipped.end(), [](const auto& each) { return each.pid == 0; });
}

// Whether all requests of the processes that were read are known.
bool knows_all(const OpenNow& now) {
  return std::all_of(now.processes.begin(), now.processes.end(), [](const OpenProcess& process) {
    return process.known == OpenProcess::Known::always && process.unread == 0 && process.early_unread == 0;
  });
}

int list_once(Host& host, const OpenNow& now, const OutputOptions& common) {
  if (common.json) {
    std::cout << json_text(now, 2);
  } else {
    const std::string text = open_text(now.requests, now.processes);
    std::cout << text << std::flush;
    std::cerr << skipped_text(host, now.skipped) << known_text(now.processes);
    if (now.processes.empty()) {
      std::cerr << "nopspan: no process whose open spans can be read was found\n";
    } else if (text.empty() && now.unwanted > 0) {
      std::cerr << counted(now.unwanted, "request") + " in flight, but none matches the filters.\n";
    } else if (text.empty()) {
      std::cerr << (knows_all(now) ? "No request is in flight.\n" : "No known request is in flight.\n");
    }
  }
  return is_whole(now) ? 0 : Failure::kFailed;
}

// The first lines of a list, as many as the terminal shows above `below` lines. Long lines take several.
std::string on_screen(std::string text, std::size_t below) {
  winsize size = {};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0) return text;
  std::size_t left = size.ws_row > below + 3 ? size.ws_row - below - 2 : 1;
  for (std::size_t at = 0, end = 0; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
    const std::size_t lines =
        1 + (cells_of(std::string_view(text).substr(at, end - at)) - (end > at ? 1 : 0)) / size.ws_col;
    if (lines > left) {
      const auto more = std::count(text.begin() + static_cast<std::ptrdiff_t>(at), text.end(), '\n');
      return text.substr(0, at) + "and " + std::to_string(more) + " more rows\n";
    }
    left -= lines;
  }
  return text;
}

// Messages, of which each process may have one, must leave room for the list.
std::string first_messages(std::string text) {
  constexpr int kMostMessages = 5;
  std::size_t end = 0;
  for (int i = 0; i < kMostMessages && end < text.size(); ++i) end = text.find('\n', end) + 1;
  const auto more = std::count(text.begin() + static_cast<std::ptrdiff_t>(end), text.end(), '\n');
  if (more > 0) text.replace(end, text.size() - end, "messages that are not shown: " + std::to_string(more) + "\n");
  return text;
}

// Raises the gates of all processes, and lists at each interval. The work has a thread of its own, because the kernel
// may not return from an attach or a detach in time.
class OpenWatch {
 public:
  OpenWatch(const OpenOptions& options, const OutputOptions& common)
      : options_(options), common_(common), deadline_(options.duration_ns), attachments_(raise_gate, raise_gate) {}

  // Ends within a second after a signal or the duration. The thread may be left.
  static void run(const std::shared_ptr<OpenWatch>& watch) {
    set_standard_outputs_live();
    watch->deadline_.begin();
    std::packaged_task<void()> task([watch] { watch->work(); });
    std::future<void> ended = task.get_future();
    // Signals are for this thread.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread thread(std::move(task));
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    constexpr std::chrono::milliseconds kLook{20}, kPatience{700};
    std::chrono::milliseconds waited{0};
    while (ended.wait_for(kLook) != std::future_status::ready) {
      if (!watch->deadline_.is_over() || (waited += kLook) < kPatience) continue;
      leaves_threads = true;
      thread.detach();
      return;
    }
    thread.join();
    ended.get();
  }

 private:
  using Clock = std::chrono::steady_clock;

  void work() {
    host_.begin_leases();
    for (const std::uint32_t pid : options_.pids) host_.note_pid(pid);
    host_.scan_completely(options_.pids.empty());
    if (host_.has_too_many_files()) throw Failure(read_error_text(EMFILE));
    OpenNow before = read_host(host_, options_);
    known_.update(before.processes, since_start());
    for (std::uint64_t lists = 0; !deadline_.is_over();) {
      host_.make_way();
      attachments_.set(attachment_targets(host_, options_.pids, attachments_));
      host_.let_writers_in();
      note_writers();
      if (Clock::now() >= next_) {
        next_ = Clock::now() + std::chrono::nanoseconds(options_.interval_ns);
        list();
        if (++lists == options_.count || standard_output().has_failed()) break;
      }
      constexpr int kScanMilliseconds = 250;
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(next_ - Clock::now()).count();
      pollfd writers{host_.writers_fd(), POLLIN, 0};
      poll(&writers, 1, deadline_.milliseconds(static_cast<int>(std::clamp<std::int64_t>(left, 0, kScanMilliseconds))));
      host_.scan();
      was_limited_ = was_limited_ || host_.has_too_many_files();
    }
    stopping = true;
    detaching = true;
    attachments_.detach_all();
    detaching = false;
    host_.end_leases();
    if (attachments_.has_failed(options_.pids) || was_limited_ || (!options_.pids.empty() && !written_to_.empty()))
      source_failure = std::make_exception_ptr(Failure(""));
  }

  void note_writers() {
    for (const Unattached& one : find_written_to(host_)) {
      if (!options_.pids.empty() && std::count(options_.pids.begin(), options_.pids.end(), one.pid) == 0) continue;
      if (written_to_.size() < Ledger::kMostUnattached && written_to_.emplace(one.path, one.pid).second)
        std::cerr << text_of(one) + "\n";
    }
  }

  [[nodiscard]] std::uint64_t since_start() const {
    return static_cast<std::uint64_t>(std::chrono::nanoseconds(Clock::now() - began_).count()) + 1;
  }

  void list() {
    OpenNow now = read_host(host_, options_);
    if (stopping) return;  // it may lack processes
    known_.update(now.processes, since_start());
    if (common_.json) {
      standard_output().write(json_text(now, -1));
      return;
    }
    std::string text = time_text(now.time_unix_ns) + "  " + counted(now.requests.size(), "request") + " in flight\n";
    text += open_text(now.requests, now.processes);
    // A message that was shown before is not repeated, unless the screen is cleared.
    std::string known;
    std::set<std::tuple<std::uint32_t, std::uint64_t, std::string>> seen;
    for (const OpenProcess& process : now.processes) {
      const auto place = seen.emplace(process.process->pid, process.process->start_ticks, process.library).first;
      if (is_screen_ || !seen_.contains(*place)) known += known_text({process});
    }
    seen_ = std::move(seen);
    std::string skipped = skipped_text(host_, now.skipped);
    if (is_screen_) {
      known = first_messages(skipped + known);
      const auto below = static_cast<std::size_t>(std::count(known.begin(), known.end(), '\n'));
      standard_output().write("\033[H\033[2J" + on_screen(std::move(text), below) + "\n" + known);
      return;
    }
    standard_output().write(text + "\n");
    std::cerr << (skipped == skipped_ ? "" : skipped) << known;
    skipped_ = std::move(skipped);
  }

  const OpenOptions options_;
  const OutputOptions common_;
  Deadline deadline_;
  Host host_;
  Attachments attachments_;
  const bool is_screen_ = has_screen();
  const Clock::time_point began_ = Clock::now();
  Clock::time_point next_;
  KnownTimes known_;
  bool was_limited_ = false;  // not all processes were examined, because this program has too many open files
  // The processes of the last list (pid, start_ticks, library), and its message about what was skipped.
  std::set<std::tuple<std::uint32_t, std::uint64_t, std::string>> seen_;
  std::string skipped_;
  // The files that a program opened for writing, and the processes that map them.
  std::set<std::pair<std::string, std::uint32_t>> written_to_;
};

int run_open(OpenOptions options, const OutputOptions& common) {
  if (options.interval_ns == 0) options.interval_ns = kOpenInterval;
  if (options.interval_ns < kLeastOpenInterval)
    throw Failure("--interval must be at least 100ms", Failure::kUsageError);
  if (!options.core.empty()) {
    confine({{}, {options.core}, {}});
    start_process_reader();
    Host host;
    return list_once(host, read_core(options), common);
  }
  require_processes(options.pids);
  confine({options.watch ? tracing_capabilities(!has_uprobe_multi())
                         : std::vector<Capability>{Capability::sys_ptrace, Capability::dac_read_search,
                                                   Capability::checkpoint_restore},
           {},
           {}});
  start_process_reader();
  if (options.watch) {
    OpenWatch::run(std::make_shared<OpenWatch>(options, common));
    return 0;
  }
  Host host;
  for (const std::uint32_t pid : options.pids) host.note_pid(pid);
  host.scan_completely(options.pids.empty());
  return list_once(host, read_host(host, options), common);
}

constexpr char kOpenExplained[] =
    "AGE         time since the request's oldest open span began\n"
    "TOKENS      output tokens so far, as far as the program has reported them\n"
    "PROCESS     where the oldest open span is\n"
    "IN LAST     time since the last span of the row began\n"
    "OPEN SPANS  where the request is now: its open spans, outermost first. A request\n"
    "            that does several things at a time has a row for each. A name such\n"
    "            as chat_server[4711]: is a change of the process.\n"
    "\n"
    "A row with a key is a request that began before the attach. The key is the\n"
    "number that its engine gave it, and reports with the steps that it is in.\n"
    "Spans of such a request that began after the attach, for example its next\n"
    "phase, do not have the key. They have a row of their own, with the words may be\n"
    "part of an earlier request. So the same request may be in two rows.\n"
    "\n"
    "Other requests are listed if their spans were recorded when they began: because\n"
    "a tracer or a handler was attached, or because of NOPSPAN_KEEP_OPEN=1. For\n"
    "other processes, stderr shows since when their requests are known. --watch\n"
    "attaches, so it knows the requests that begin from then on.\n"
    "\n"
    "In a core file, the age is the least possible one (>=), because the file does\n"
    "not have the time at which it was written.\n"
    "\n"
    "Examples:\n"
    "  nopspan open --older-than 5s             who is stuck\n"
    "  nopspan open --watch --tenant acme       the requests of a tenant, every 2s\n"
    "  nopspan open /var/crash/core.4711        where a process was when it crashed\n"
    "  nopspan open --json | jq '.requests[] | {request_id, age_ns}'\n"
    "\n"
    "Without root, CAP_SYS_PTRACE is needed for processes of other users. --watch\n"
    "needs the same capabilities as nopspan top; see nopspan doctor.";

}  // namespace

void add_open(CLI::App& app, const OutputOptions& common, Run& run) {
  auto options = std::make_shared<OpenOptions>();
  CLI::App* open = app.add_subcommand("open", "List the requests in flight, and where they are now");
  open->footer(kOpenExplained);
  CLI::Option* core =
      open->add_option("FILE", options->core, "Read this core file instead of the processes of this host")
          ->type_name("FILE")
          ->check(some_text());
  constexpr char kFilters[] = "Filters";
  const auto add_text = [&](const char* name, std::string& to, const char* what, const char* type) {
    return open->add_option(name, to, what)->type_name(type)->check(some_text())->group(kFilters);
  };
  OpenFilter& filter = options->filter;
  add_duration_option(*open, "--older-than", filter.older_than_ns,
                      "Only requests that began at least this long ago, such as 5s")
      ->group(kFilters);
  add_text("--request", filter.request, "Only the request with this request id, trace id or traceparent", "ID");
  add_text("--name", filter.name, "Only requests that contain an open span with this name", "NAME")
      ->transform(as_recorded);
  add_text("--model", filter.model, "Only requests that contain an open span with this model", "MODEL")
      ->transform(as_recorded);
  add_text("--tenant", filter.tenant, "Only requests that contain an open span with this tenant", "TENANT")
      ->transform(as_recorded);
  add_where_option(
      *open, filter.where,
      "Only requests that contain an open span with this label, such as route=/chat; repeat the option for "
      "more conditions")
      ->group(kFilters);
  add_pid_option(*open, options->pids, "Only these processes; repeat the option, or write 1,2,3")
      ->group(kFilters)
      ->excludes(core);
  CLI::Option* watch =
      open->add_flag("--watch", options->watch, "Attach to all programs, and list again at each interval")
          ->excludes(core);
  add_duration_option(*open, "--interval", options->interval_ns,
                      "With --watch: list at this interval, at least 100ms (default: 2s)")
      ->needs(watch)
      ->check(some_time());
  open->add_option("--count", options->count, "With --watch: stop after N lists")
      ->type_name("N")
      ->needs(watch)
      ->check(whole_number(1));
  add_duration_option(*open, "--duration", options->duration_ns,
                      "With --watch: stop after this time (default: run until Ctrl-C)")
      ->needs(watch)
      ->check(some_time());
  open->callback([options, &common, &run] { run = [options, &common] { return run_open(*options, common); }; });
}

}  // namespace nopspan::collector
