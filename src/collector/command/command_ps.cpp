// SPDX-License-Identifier: Apache-2.0
// nopspan ps: lists the processes that have probes, and the tracers that are attached to them.
#include "base/cells.h"
#include "base/failure.h"
#include "base/text.h"
#include "command/command.h"
#include "command/options.h"
#include "host/host.h"
#include "host/library_view.h"
#include "host/marks_of_tracers.h"
#include "host/obstacles.h"
#include "host/privileges.h"
#include "host/process_facts.h"
#include "host/process_reader.h"
#include "host/tracers.h"
#include "model/ledger.h"
#include "model/service.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <iostream>
#include <optional>
#include <set>

namespace nopspan::collector {
namespace {

using nlohmann::ordered_json;

struct CopyReport {
  Host::Copy copy;
  std::optional<LibraryView> view;  // empty if its memory could not be read
  std::string why_no_view;
  std::optional<bool> has_marks;  // of tracers; empty if it is not known
  std::vector<AttachedTracer> attached;
};

struct ProcessReport {
  ProcessPointer process;
  std::vector<CopyReport> copies;
};

CopyReport report_copy(std::uint32_t pid, const Host::Copy& copy, const Tracers& tracers) {
  CopyReport report{copy, std::nullopt, "", std::nullopt, tracers.of(*copy.file, copy.path)};
  if (copy.gate_address == 0) {
    report.why_no_view = copy.file->has_gate() ? "its gate is not mapped" : "it has no gate";
    return report;
  }
  report.view = view_library(pid, copy.gate_address);
  report.has_marks = has_marks_of_tracers(pid, copy);
  if (!report.view)
    report.why_no_view = errno == EPERM ? "reading its memory needs CAP_SYS_PTRACE" : read_error_text(errno);
  return report;
}

ordered_json to_json(const AttachedTracer& attached) {
  static constexpr const char* kKinds[] = {"program", "event", "perhaps"};
  const Tracer& tracer = *attached.tracer;
  ordered_json json{{"kind", kKinds[static_cast<int>(tracer.kind)]},
                    {"pid", tracer.pid},
                    {"comm", tracer.comm},
                    {"name", tracer.name}};
  if (tracer.program != 0) json["program_id"] = tracer.program;
  json["probes"] = attached.probes;
  json["by_name"] = attached.is_by_name;
  return json;
}

ordered_json to_json(const CopyReport& report) {
  const ProbeFile& file = *report.copy.file;
  ordered_json json{{"path", report.copy.path},
                    {"deleted", report.copy.is_deleted},
                    {"text_mapped", report.copy.has_text},
                    {"device", file.id().device},
                    {"inode", file.id().inode},
                    {"version", report.view ? report.view->version : ""},
                    {"abi_version", file.gate().abi_version}};
  json["probes"] = ordered_json::array();
  for (const Probe& probe : file.probes())
    json["probes"].push_back({{"provider", probe.provider},
                              {"name", probe.name},
                              {"offset", probe.offset},
                              {"semaphore_offset", probe.semaphore_offset},
                              {"nop", to_string(probe.nop)}});
  json["batch"] = file.batch_probe() != nullptr;
  json["notes_missing"] = file.notes_are_missing();
  json["gate"] = nullptr;
  if (report.view) {
    for (const auto& [name, value] : report.view->gate.by_name()) json["gate"][name] = value;
  } else {
    json["why_no_gate"] = report.why_no_view;
  }
  json["attached"] = report.has_marks ? ordered_json(*report.has_marks) : ordered_json();
  json["tracers"] = ordered_json::array();
  for (const AttachedTracer& attached : report.attached) json["tracers"].push_back(to_json(attached));
  if (report.view && report.view->is_whole) {
    json["calls_sites"] = report.view->calls_sites;
    json["memory_bytes"] = report.view->memory_bytes;
    json["threads"] = report.view->threads;
    json["held_entries"] = report.view->held_entries;
    json["counts"] = ordered_json::object();
    for (const auto& [name, count] : report.view->counts) json["counts"][name] = count;
    json["warnings"] = report.view->warnings;
  }
  return json;
}

// `copies` is empty if the process has no probes or has ended meanwhile.
ProcessReport report_process(Host& host, const Tracers& tracers, std::uint32_t pid) {
  ProcessReport report;
  report.process = host.process(pid);
  for (const Host::Copy& copy : host.copies(pid)) report.copies.push_back(report_copy(pid, copy, tracers));
  // The process has ended or its pid has been reused, so the data may be from neither process.
  const auto state = process_state(pid);
  if (!state || state->start_ticks != report.process->start_ticks) report.copies.clear();
  return report;
}

ordered_json to_json(const ProcessReport& report) {
  const Process& process = *report.process;
  ordered_json json{{"pid", process.pid},
                    {"namespace_pid", process.namespace_pid},
                    {"start_ticks", process.start_ticks},
                    {"comm", process.comm},
                    {"executable", process.executable},
                    {"cgroup", process.cgroup},
                    {"container", process.container},
                    {"resource", {{"service.name", service_of(process)}}},
                    {"copies", ordered_json::array()}};
  each_declared(process, [&json](std::string_view key, std::string_view value) {
    if (key != "service.name") json["resource"][std::string(key)] = value;
  });
  for (const CopyReport& copy : report.copies) json["copies"].push_back(to_json(copy));
  return json;
}

std::string probes_text(const ProbeFile& file) {
  if (file.notes_are_missing()) return "stripped";
  std::set<std::string_view> names;
  for (const Probe& probe : file.probes())
    if (probe.provider == "nopspan") names.insert(probe.name);
  return std::to_string(names.size()) + (file.batch_probe() != nullptr ? "+batch" : ",no-batch");
}

std::string nop_text(const ProbeFile& file) {
  std::string text;
  for (const Probe& probe : file.probes()) {
    const std::string kind = to_string(probe.nop);
    if (text.empty()) text = kind;
    if (text != kind) return "mixed";
  }
  return text.empty() ? "-" : text;
}

std::string gate_text(const CopyReport& report) {
  if (!report.view) return "?";
  std::string text;
  for (const auto& [name, value] : report.view->gate.by_name())
    if (value != 0) text += (text.empty() ? "" : ",") + std::string(name);
  if (!report.view->gate.negative().empty()) text += "(negative)";
  if (text.empty()) text = "down";
  return report.view->calls_sites ? text : text + "(no sites)";
}

std::string tracers_text(const CopyReport& report) {
  // A set, because one process is often attached several times (a BPF link per probe) and is named once.
  std::set<std::string> names;
  for (const AttachedTracer& attached : report.attached) {
    const Tracer& tracer = *attached.tracer;
    std::string name = tracer.pid != 0 ? printable(tracer.comm, 15) + "(" + std::to_string(tracer.pid) + ")"
                       : tracer.kind == Tracer::Kind::event ? "tracefs"
                                                            : "pinned(" + printable(tracer.name, 15) + ")";
    if (tracer.kind == Tracer::Kind::perhaps || attached.is_by_name) name += "?";
    names.insert(std::move(name));
  }
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ",") + name;
  return text.empty() ? "-" : text;
}

std::string place_text(const Process& process) {
  if (!process.container.empty()) return printable(process.container.substr(0, 12));
  return process.cgroup.size() > 1 ? printable(process.cgroup, 40) : "-";
}

// What the process declares: "shop/checkout 1.5.0".
std::string service_text(const Process& process) {
  const std::string version = printable(resource_value(process, "service.version"), 30);
  if (process.service_name.empty() && version.empty()) return "-";
  return printable(service_path(process), 30) + (version.empty() ? "" : " " + version);
}

void add_rows(TextTable& table, const ProcessReport& report) {
  const Process& process = *report.process;
  for (const CopyReport& copy : report.copies) {
    const bool knows = copy.view && copy.view->is_whole;
    const std::string version = copy.view ? copy.view->version : "";
    table.add({std::to_string(process.pid),
               process.namespace_pid == process.pid ? "-" : std::to_string(process.namespace_pid),
               printable(process.comm, 15), service_text(process), place_text(process), version.empty() ? "-" : version,
               probes_text(*copy.copy.file), nop_text(*copy.copy.file), gate_text(copy), tracers_text(copy),
               knows ? bytes_text(copy.view->memory_bytes) : "-", knows ? std::to_string(copy.view->threads) : "-",
               printable(copy.copy.path, 120) + (copy.copy.is_deleted ? " (deleted)" : "") +
                   (copy.copy.has_text ? "" : " (text moved)")});
  }
}

// The library's warnings and counters, which do not fit into a row. Of the counters, those above 0.
void print_counts(const ProcessReport& report) {
  for (const CopyReport& copy : report.copies) {
    if (!copy.view) continue;
    for (const std::string& warning : copy.view->warnings)
      std::cout << report.process->pid << " warning: " << printable(warning) << "\n";
    if (copy.view->counts.empty()) continue;
    std::cout << report.process->pid << " counts:";
    for (const auto& [name, count] : copy.view->counts) std::cout << " " << name << " " << count;
    std::cout << "\n";
  }
}

// Names the processes whose memory must not be copied now. "" if there are none.
std::string checkpoint_text(const std::vector<ProcessReport>& reports) {
  constexpr std::size_t kMostNamed = 16;
  std::string names;
  std::size_t count = 0;
  for (const ProcessReport& report : reports) {
    if (std::none_of(report.copies.begin(), report.copies.end(),
                     [](const CopyReport& copy) { return copy.has_marks.value_or(false); }))
      continue;
    if (++count <= kMostNamed)
      names += (count > 1 ? ", " : "") + std::to_string(report.process->pid) + " (" +
               printable(report.process->comm, 15) + ")";
  }
  if (count == 0) return "";
  if (count > kMostNamed) names += " and " + std::to_string(count - kMostNamed) + " more";
  return "nopspan: attached: do not checkpoint now: " + names + "\n";
}

int run_ps(const std::vector<std::uint32_t>& only, const OutputOptions& common) {
  require_processes(only);
  confine({{Capability::sys_ptrace, Capability::dac_read_search, Capability::checkpoint_restore, Capability::sys_admin},
           {},
           {}});
  start_process_reader();
  Host host;
  const std::set<std::uint32_t> wanted(only.begin(), only.end());
  host.scan_completely(only);
  const auto pids = host.pids();
  const Tracers tracers = pids.empty() ? Tracers() : Tracers::find();
  std::vector<ProcessReport> reports;
  for (const std::uint32_t pid : pids)
    if (auto report = report_process(host, tracers, pid); !report.copies.empty()) reports.push_back(std::move(report));

  const auto obstacles = find_obstacles(host);
  const auto twins = find_twins(host);
  std::vector<Unattached> skipped = host.skipped();
  const bool is_whole = std::none_of(skipped.begin(), skipped.end(), [](const auto& each) { return each.pid == 0; });
  if (common.json) {
    ordered_json json{{"processes", ordered_json::array()}};
    for (const ProcessReport& report : reports) json["processes"].push_back(to_json(report));
    json["skipped"] = to_json(skipped);
    json["obstacles"] = to_json(obstacles);
    json["twins"] = to_json(twins);
    if (!tracers.incomplete.empty()) json["tracers_incomplete"] = tracers.incomplete;
    std::cout << json.dump(2, ' ', false, ordered_json::error_handler_t::replace) << "\n";
    return is_whole ? 0 : Failure::kFailed;
  }
  TextTable table({{"PID", Align::right},
                   {"NSPID", Align::right},
                   {"COMMAND"},
                   {"SERVICE"},
                   {"CONTAINER"},
                   {"VERSION"},
                   {"PROBES"},
                   {"NOP"},
                   {"GATE"},
                   {"TRACERS"},
                   {"HELD", Align::right},
                   {"THREADS", Align::right},
                   {"LIBRARY"}});
  for (const ProcessReport& report : reports) add_rows(table, report);
  if (!reports.empty()) std::cout << table.text();
  for (const ProcessReport& report : reports) print_counts(report);
  std::erase_if(skipped,
                [&](const auto& each) { return each.pid != 0 && !wanted.empty() && !wanted.contains(each.pid); });
  std::cerr << skipped_text(skipped);
  if (!tracers.incomplete.empty()) std::cerr << "nopspan: " << tracers.incomplete << "\n";
  for (const Unattached& one : obstacles) std::cerr << text_of(one) + ". nopspan attaches to the others alone\n";
  for (const Unattached& one : twins) std::cerr << text_of(one) + "\n";
  std::cerr << checkpoint_text(reports);
  if (reports.empty())
    std::cerr << (wanted.empty() ? "nopspan: no process with nopspan probes was found\n"
                                 : "nopspan: no nopspan probes were found in these processes\n");
  return is_whole ? 0 : Failure::kFailed;
}

constexpr char kPsExplained[] =
    "NSPID      pid in the process's own pid namespace, if it has one\n"
    "SERVICE    service name and version that the process declares by\n"
    "           OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES\n"
    "CONTAINER  container id; outside a container, the cgroup\n"
    "VERSION    version of the library\n"
    "PROBES     number of probes. +batch: nopspan can trace this file.\n"
    "           ,no-batch: it cannot. stripped: the notes about probes are missing.\n"
    "NOP        instruction at the probes. 1-byte is correct. For anything else, see\n"
    "           nopspan doctor.\n"
    "GATE       parts of the gate that are raised. Tracers raise spans, batch and\n"
    "           points. Handlers in the program raise span_handlers and\n"
    "           point_handlers. down: nothing is attached; spans are disabled.\n"
    "           (negative): the process has written to its semaphore, so the kernel\n"
    "           refuses to attach to it. (no sites): it runs under Valgrind, which\n"
    "           would end it at a breakpoint, so it reaches no probe.\n"
    "           A process whose gate is raised by a tracer, or that has a breakpoint,\n"
    "           must not be checkpointed: stderr names it (attached in JSON).\n"
    "TRACERS    programs that are attached to this file. A ? marks a program that may\n"
    "           be attached: the kernel does not report it.\n"
    "HELD       memory of the process's batch buffers\n"
    "THREADS    threads that have a batch buffer\n"
    "LIBRARY    file that contains the probes. If a process has loaded several copies\n"
    "           of the library, each copy has a row. Of copies of one file\n"
    "           (dlmopen), the kernel raises one gate only. (text moved): its text\n"
    "           is not mapped from the file, so probes cannot work.\n"
    "\n"
    "Examples:\n"
    "  nopspan ps\n"
    "  nopspan ps 4711 --json | jq '.processes[].copies[].gate'\n"
    "\n"
    "Without root, CAP_SYS_PTRACE is needed for processes of other users,\n"
    "CAP_CHECKPOINT_RESTORE for deleted files, and CAP_SYS_ADMIN for TRACERS.";

}  // namespace

void add_ps(CLI::App& app, const OutputOptions& common, Run& run) {
  auto only = std::make_shared<std::vector<std::uint32_t>>();
  CLI::App* ps = app.add_subcommand("ps", "List processes with nopspan probes, and their tracers");
  ps->add_option("PID", *only, "List only these processes")->type_name("PID")->check(whole_number(1));
  ps->footer(kPsExplained);
  ps->callback([only, &common, &run] { run = [only, &common] { return run_ps(*only, common); }; });
}

}  // namespace nopspan::collector
