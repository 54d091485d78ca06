// SPDX-License-Identifier: Apache-2.0
#include "host/process_report.h"

#include "base/text.h"
#include "host/process_facts.h"

#include <nlohmann/json.hpp>

#include <cerrno>
#include <map>

namespace nopspan::collector {
namespace {

using nlohmann::ordered_json;

CopyReport report_copy(std::uint32_t pid, const Host::Copy& copy, const Tracers& tracers) {
  CopyReport report{copy, std::nullopt, "", tracers.of(*copy.file, copy.path)};
  if (copy.gate_address == 0) {
    report.why_no_view = copy.file->has_gate() ? "its gate is not mapped" : "it has no gate";
    return report;
  }
  report.view = view_library(pid, copy.gate_address);
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
  ordered_json probes = ordered_json::array();
  for (const Probe& probe : file.probes())
    probes.push_back({{"provider", probe.provider},
                      {"name", probe.name},
                      {"offset", probe.offset},
                      {"semaphore_offset", probe.semaphore_offset},
                      {"nop", to_string(probe.nop)}});
  json["probes"] = std::move(probes);
  json["batch"] = file.batch_probe() != nullptr;
  json["notes_missing"] = file.notes_are_missing();
  json["gate"] = nullptr;
  if (report.view) {
    ordered_json gate = ordered_json::object();
    for (const auto& [name, value] : report.view->gate.by_name()) gate[name] = value;
    json["gate"] = std::move(gate);
  } else {
    json["why_no_gate"] = report.why_no_view;
  }
  json["tracers"] = ordered_json::array();
  for (const AttachedTracer& attached : report.attached) json["tracers"].push_back(to_json(attached));
  if (report.view && report.view->is_whole) {
    json["calls_sites"] = report.view->calls_sites;
    json["memory_bytes"] = report.view->memory_bytes;
    json["threads"] = report.view->threads;
    json["held_entries"] = report.view->held_entries;
    ordered_json counts = ordered_json::object();
    for (const auto& [name, count] : report.view->counts) counts[name] = count;
    json["counts"] = std::move(counts);
    json["warnings"] = report.view->warnings;
  }
  return json;
}

}  // namespace

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
                    {"copies", ordered_json::array()}};
  for (const CopyReport& copy : report.copies) json["copies"].push_back(to_json(copy));
  return json;
}

std::string skipped_text(const std::vector<Unattached>& skipped) {
  std::map<std::string, std::vector<const Unattached*>> by_reason;
  for (const Unattached& each : skipped) by_reason[each.why].push_back(&each);
  std::string text;
  for (const auto& [reason, all] : by_reason) {
    const Unattached& first = *all.front();
    if (first.pid == 0) {
      const std::string what = first.path.empty() ? "not all processes were examined" : printable(first.path);
      text.append("nopspan: ").append(what).append(": ").append(reason).append("\n");
      continue;
    }
    text += "nopspan: not examined: process " + std::to_string(first.pid) + " (" + printable(first.comm) + ")" +
            (first.path.empty() ? "" : ", " + printable(first.path)) + ": " + reason;
    if (all.size() > 1) text += " (and " + std::to_string(all.size() - 1) + " more)";
    text += "\n";
  }
  return text;
}

}  // namespace nopspan::collector
