// SPDX-License-Identifier: Apache-2.0
// nopspan open: lists the requests that are in flight, and where each of them is now.
#include "base/failure.h"
#include "base/text.h"
#include "command/command.h"
#include "command/options.h"
#include "host/core_file.h"
#include "host/host.h"
#include "host/open_spans.h"
#include "host/privileges.h"
#include "host/process_facts.h"
#include "host/process_reader.h"
#include "open/open_list.h"
#include "open/open_requests.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <iostream>
#include <memory>
#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

using nlohmann::ordered_json;

struct OpenOptions {
  OpenFilter filter;
  std::vector<std::uint32_t> pids;
  std::string core;
  bool watch = false;
};

// What was read at one time.
struct OpenNow {
  std::vector<OpenProcess> processes;
  std::vector<OpenRequest> requests;
  struct Skipped {
    std::uint32_t pid;
    std::string reason;
  };
  std::vector<Skipped> skipped;
};

std::string why_no_spans(int error) {
  if (error == EPERM || error == EACCES) return "reading its memory needs CAP_SYS_PTRACE";
  if (error == ENOTSUP) return "its library is too old: it does not show open spans";
  if (error == EBADMSG || error == EFAULT) return "its memory is damaged";
  return read_error_text(error);
}

void add_copy(OpenNow& now, std::vector<OpenSpan>& spans, int error, const OpenSpans& open, OpenProcess copy) {
  if (error != 0) {
    now.skipped.push_back({copy.process->pid, why_no_spans(error)});
    return;
  }
  add_open_spans(open, now.processes.size(), copy, spans);
  now.processes.push_back(std::move(copy));
}

void set_requests(OpenNow& now, std::vector<OpenSpan> spans, const OpenFilter& filter) {
  now.requests = open_requests(std::move(spans), now.processes);
  std::erase_if(now.requests, [&](const OpenRequest& request) { return !filter.wants(request); });
}

OpenNow read_core(const std::string& path, const OpenFilter& filter) {
  const CoreFile core(path);
  if (core.is_truncated()) std::cerr << "nopspan: " << printable(path) << " is truncated: open spans may be missing\n";
  auto process = std::make_shared<Process>();
  process->pid = core.pid();
  process->comm = core.comm();
  OpenNow now;
  std::vector<OpenSpan> spans;
  for (const std::uint64_t gate : core.gates()) {
    OpenSpans open;
    const int error = core.read_open_spans(gate, open);
    OpenProcess copy;
    copy.process = process;
    add_copy(now, spans, error, open, std::move(copy));
  }
  set_requests(now, std::move(spans), filter);
  return now;
}

OpenNow read_host(Host& host, const OpenFilter& filter) {
  OpenNow now;
  std::vector<OpenSpan> spans;
  for (const std::uint32_t pid : host.pids()) {
    const ProcessPointer process = host.process(pid);
    for (const Host::Copy& copy : host.copies(pid)) {
      if (copy.gate_address == 0) continue;
      OpenSpans open;
      const int error = read_open_spans({pid, process->start_ticks}, copy.gate_address, open);
      if (error == ESRCH) continue;
      OpenProcess added;
      added.process = process;
      added.library = copy.path;
      add_copy(now, spans, error, open, std::move(added));
    }
  }
  set_requests(now, std::move(spans), filter);
  return now;
}

void print_open(const OpenNow& now, bool json) {
  if (json) {
    ordered_json all{{"requests", ordered_json::array()}, {"processes", ordered_json::array()}, {"skipped", ordered_json::array()}};
    for (const OpenRequest& request : now.requests) all["requests"].push_back(to_json(request, now.processes));
    for (const OpenProcess& process : now.processes) all["processes"].push_back(to_json(process));
    for (const OpenNow::Skipped& each : now.skipped)
      all["skipped"].push_back({{"pid", each.pid}, {"reason", each.reason}});
    std::cout << all.dump(2, ' ', false, ordered_json::error_handler_t::replace) << "\n";
    return;
  }
  if (!now.requests.empty()) std::cout << open_text(now.requests, now.processes);
  std::cout.flush();
  for (const OpenNow::Skipped& each : now.skipped)
    std::cerr << "nopspan: not examined: process " << each.pid << ": " << each.reason << "\n";
  std::cerr << known_text(now.processes);
  if (now.requests.empty()) std::cerr << "No request is in flight.\n";
}

int run_open(const OpenOptions& options, const OutputOptions& common) {
  require_processes(options.pids);
  confine({{Capability::sys_ptrace, Capability::dac_read_search, Capability::checkpoint_restore}, {options.core}, {}});
  start_process_reader();
  if (!options.core.empty()) {
    print_open(read_core(options.core, options.filter), common.json);
    return 0;
  }
  Host host;
  for (const std::uint32_t pid : options.pids) host.note_pid(pid);
  host.scan_completely(options.pids.empty());
  const OpenNow now = read_host(host, options.filter);
  print_open(now, common.json);
  return 0;
}

}  // namespace

void add_open(CLI::App& app, const OutputOptions& common, Run& run) {
  auto options = std::make_shared<OpenOptions>();
  CLI::App* open = app.add_subcommand("open", "List the requests in flight, and where each of them is now");
  open->add_option("CORE", options->core, "Read this core file instead of the processes of this host")->type_name("CORE")->check(some_text());
  add_duration_option(*open, "--older-than", options->filter.older_than_ns, "Only requests that began at least this long ago, such as 5s");
  add_pid_option(*open, options->pids, "Only these processes; repeat the option, or write 1,2,3");
  open->callback([options, &common, &run] { run = [options, &common] { return run_open(*options, common); }; });
}

}  // namespace nopspan::collector
