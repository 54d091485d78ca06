// SPDX-License-Identifier: Apache-2.0
// nopspan open: lists the requests that are in flight, and where each of them is now.
#include "base/cells.h"
#include "base/failure.h"
#include "base/stopping.h"
#include "base/terminal.h"
#include "base/text.h"
#include "base/text_output.h"
#include "command/command.h"
#include "command/options.h"
#include "command/tracing_process.h"
#include "host/core_file.h"
#include "host/obstacles.h"
#include "host/privileges.h"
#include "host/process_facts.h"
#include "host/process_reader.h"
#include "live/probe_link.h"
#include "live/tracer.h"
#include "open/open_list.h"
#include "open/open_requests.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <iostream>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

using nlohmann::ordered_json;

constexpr std::uint64_t kOpenInterval = 2 * kSecond, kLeastOpenInterval = kSecond / 10;

struct OpenOptions {
  OpenFilter filter;
  std::vector<std::uint32_t> pids;
  std::string core;
  bool watch = false;
  std::uint64_t interval_ns = 0, count = 0, duration_ns = 0;
};

void read_core(const OpenOptions& options, OpenReading& reading) {
  const CoreFile core(options.core);
  if (core.is_truncated())
    std::cerr << "nopspan: " << printable(options.core) << " is truncated: open spans may be missing\n";
  auto process = std::make_shared<Process>();
  process->pid = core.pid();
  process->comm = core.comm();
  OpenSpansRead read;
  OpenSpans open;
  for (const std::uint64_t gate : core.gates()) {
    const int error = core.read_open_spans(gate, open);
    if (error == 0) {
      reading.add(process, 0, "", error, open);
    } else {  // without the pid, which a process of this host may have
      const bool is_cut = error == EBADMSG && core.is_truncated();
      read.skipped.push_back({options.core, 0, "", is_cut ? "it ends before its open spans" : why_no_spans(error)});
    }
  }
  reading.on_open_read(read);
}

std::string json_text(const OpenNow& now, int indent) {
  return to_json(now).dump(indent, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

// Whether all processes were examined.
bool is_whole(const OpenNow& now) {
  return std::none_of(now.skipped.begin(), now.skipped.end(), [](const auto& each) { return each.pid == 0; });
}

// That no request is in flight; "" if none of the processes that were read records any.
std::string none_text(const OpenNow& now) {
  using Known = OpenProcess::Known;
  const auto all = [&now](const auto& is_so) { return std::all_of(now.processes.begin(), now.processes.end(), is_so); };
  if (all([](const OpenProcess& process) { return process.known == Known::not_now; })) return "";
  const bool knows_all = all([](const OpenProcess& process) {
    return process.known == Known::always && process.unread == 0 && process.early_unread == 0;
  });
  return knows_all ? "No request is in flight.\n" : "No known request is in flight.\n";
}

int list_once(const OpenNow& now, const OutputOptions& common) {
  if (common.json) {
    std::cout << json_text(now, 2);
  } else {
    const std::string text = open_text(now.requests, now.processes);
    std::cout << text << std::flush;
    std::cerr << skipped_text(now.skipped) << known_text(now.processes);
    if (now.processes.empty()) {
      std::cerr << "nopspan: no process whose open spans can be read was found\n";
    } else if (text.empty() && now.unwanted > 0) {
      std::cerr << counted(now.unwanted, "request") + " in flight, but none matches the filters.\n";
    } else if (text.empty()) {
      std::cerr << none_text(now);
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

// The lists of --watch.
class OpenWatch {
 public:
  explicit OpenWatch(const OutputOptions& common) : common_(common) {}

  void list(OpenNow now) {
    if (!has_begun_) {  // this one is from before the attach
      has_begun_ = true;
      began_ns_ = now.time_ns;
      known_.update(now.processes, 1);
      return;
    }
    known_.update(now.processes, now.time_ns - began_ns_ + 1);
    if (common_.json) {
      standard_output().write(json_text(now, -1));
    } else {
      print(now);
    }
    if (standard_output().has_failed()) stopping = true;
  }

 private:
  void print(const OpenNow& now) {
    std::string text = time_text(now.time_unix_ns) + "  " + in_flight_text(now) + "\n";
    text += open_text(now.requests, now.processes);
    // A message that was shown before is not repeated, unless the screen is cleared.
    std::string known;
    std::set<std::tuple<std::uint32_t, std::uint64_t, std::string>> seen;
    for (const OpenProcess& process : now.processes) {
      const auto place = seen.emplace(process.process->pid, process.process->start_ticks, process.library).first;
      if (is_screen_ || !seen_.contains(*place)) known += known_text({process});
    }
    seen_ = std::move(seen);
    std::string skipped = skipped_text(now.skipped);
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

  const OutputOptions common_;
  const bool is_screen_ = has_screen();
  bool has_begun_ = false;
  std::uint64_t began_ns_ = 0;
  KnownTimes known_;
  // The processes of the last list (pid, start_ticks, library), and its message about what was skipped.
  std::set<std::tuple<std::uint32_t, std::uint64_t, std::string>> seen_;
  std::string skipped_;
};

int run_open(OpenOptions options, const OutputOptions& common) {
  if (options.interval_ns == 0) options.interval_ns = kOpenInterval;
  if (options.interval_ns < kLeastOpenInterval)
    throw Failure("--interval must be at least 100ms", Failure::kUsageError);
  int status = Failure::kFailed;
  const auto print_once = [&](const OpenNow& now) { status = list_once(now, common); };
  if (!options.core.empty()) {
    confine({{}, {options.core}, {}});
    start_process_reader();
    OpenReading reading(options.filter, print_once);
    read_core(options, reading);
    return status;
  }
  const OpenTracerOptions what{options.pids, options.filter.wants_early(), options.watch, options.interval_ns,
                               options.count};
  const auto process = start_tracing(options.watch ? tracing_capabilities(!has_uprobe_multi()) : kOpenCapabilities,
                                     [&](MessagePipe& pipe) {
                                       require_processes(options.pids);
                                       return open_open_tracer(what, pipe);
                                     },
                                     {});
  if (!options.watch) process->attaches_to_nothing();
  OpenWatch watch(common);
  OpenReading reading(options.filter,
                      [&](OpenNow now) { options.watch ? watch.list(std::move(now)) : print_once(now); });
  process->wait_for_start(reading);
  if (options.watch) set_standard_outputs_live();
  Deadline until(options.duration_ns);
  until.begin();
  process->run(reading, until);
  const auto& end = reading.end();
  if (process->has_begun() && (!end || end->status != 0)) throw process->failure(end);
  if (!process->has_begun() && !options.watch) throw Failure("stopped before anything was read");
  return options.watch ? 0 : status;
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
    "A row with a key is a request that began before the attach, or that has no\n"
    "recorded span. The key is the number that its engine gave it, and reports with\n"
    "the steps that it is in. Spans of such a request that began after the attach,\n"
    "for example its next phase, do not have the key. They have a row of their own,\n"
    "with the words may be part of an earlier request. So the same request may be in\n"
    "two rows.\n"
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

void add_open_filters(CLI::App& app, OpenOptions& options) {
  const OptionGroup group(app, "Filters");
  OpenFilter& filter = options.filter;
  add_duration_option(app, "--older-than", filter.older_than_ns,
                      "Only requests that began at least this long ago, such as 5s");
  add_text_option(app, "--request", filter.request, "ID",
                  "Only the request with this request id, trace id or traceparent");
  add_text_option(app, "--name", filter.name, "NAME", "Only requests that contain an open span with this name")
      ->transform(as_recorded);
  add_text_option(app, "--model", filter.model, "MODEL", "Only requests that contain an open span with this model")
      ->transform(as_recorded);
  add_text_option(app, "--tenant", filter.tenant, "TENANT", "Only requests that contain an open span with this tenant")
      ->transform(as_recorded);
  add_where_option(
      app, filter.where,
      "Only requests that contain an open span with this label, such as route=/chat, or of a process with this "
      "resource attribute, such as service.version=1.5.0; repeat the option for more conditions");
  add_pid_option(app, options.pids, "Only these processes; repeat the option, or write 1,2,3");
}

}  // namespace

void add_open(CLI::App& app, const OutputOptions& common, Run& run) {
  auto options = std::make_shared<OpenOptions>();
  CLI::App* open = app.add_subcommand("open", "List the requests in flight, and where they are now");
  open->footer(kOpenExplained);
  CLI::Option* core = add_text_option(*open, "FILE", options->core, "FILE",
                                      "Read this core file instead of the processes of this host");
  add_open_filters(*open, *options);
  open->get_option("--pid")->excludes(core);
  CLI::Option* watch =
      open->add_flag("--watch", options->watch, "Attach to all programs, and list again at each interval")
          ->excludes(core);
  add_duration_option(*open, "--interval", options->interval_ns,
                      "With --watch: list at this interval, at least 100ms (default: 2s)")
      ->needs(watch)
      ->check(some_time());
  numeric(open->add_option("--count", options->count, "With --watch: stop after N lists"), 1)->needs(watch);
  add_duration_option(*open, "--duration", options->duration_ns,
                      "With --watch: stop after this time (default: run until Ctrl-C)")
      ->needs(watch)
      ->check(some_time());
  open->callback([options, &common, &run] { run = [options, &common] { return run_open(*options, common); }; });
}

}  // namespace nopspan::collector
