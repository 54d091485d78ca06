// SPDX-License-Identifier: Apache-2.0
// nopspan doctor: reports why an attach would fail, and what to do about it.
#include "base/failure.h"
#include "command/command.h"
#include "command/options.h"
#include "doctor/checks.h"
#include "host/host.h"
#include "host/privileges.h"
#include "host/process_facts.h"
#include "host/process_reader.h"
#include "host/tracers.h"
#include "live/kernel_programs.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <iostream>
#include <memory>

namespace nopspan::collector {
namespace {

using nlohmann::ordered_json;

void print_json(const Checks& checks) {
  ordered_json json{{"would_attach", !checks.failed()}, {"checks", ordered_json::array()}};
  for (const Check& check : checks.all())
    json["checks"].push_back(
        {{"result", to_string(check.result)}, {"name", check.name}, {"found", check.found}, {"advice", check.advice}});
  std::cout << json.dump(2, ' ', false, ordered_json::error_handler_t::replace) << "\n";
}

void print_text(const Checks& checks, bool color) {
  static constexpr const char* kColors[] = {"\x1b[32m", "\x1b[33m", "\x1b[31m"};
  for (const Check& check : checks.all()) {
    const std::string result = to_string(check.result);
    const auto paint = [&](const std::string& text) {
      return color ? kColors[static_cast<unsigned>(check.result)] + text + "\x1b[0m" : text;
    };
    std::cout << paint(result) << std::string(9 - result.size(), ' ') << check.name << ": " << check.found << "\n";
    if (!check.advice.empty()) std::cout << "         -> " << check.advice << "\n";
  }
  std::cout << (checks.failed() ? "Tracing would fail or be incomplete.\n" : "Tracing would work.\n");
}

// `pid` is 0 if no process was named.
int run_doctor(std::uint32_t pid, const OutputOptions& common) {
  if (pid != 0) require_processes({pid});
  confine({tracing_capabilities(true), {}, {}});
  start_process_reader();
  Checks checks;
  check_kernel(checks);
  const auto programs = check_privileges(checks);
  Host host;
  if (pid != 0) {
    host.scan_completely({pid});
    check_process(host, Tracers::find(), pid, programs.get(), checks);
  } else {
    host.scan_completely({});
    check_files(host, programs.get(), checks);
  }
  check_obstacles(host, pid, checks);
  check_left_alone(checks);
  if (common.json) {
    print_json(checks);
  } else {
    print_text(checks, common.color);
  }
  return checks.failed() ? Failure::kFailed : 0;
}

constexpr char kDoctorExplained[] =
    "Loads BPF programs, as nopspan trace does. Attaches them to a probe in doctor\n"
    "itself, and to the probes in files that processes map. No other program is\n"
    "affected, because no gate of another process is raised.\n"
    "\n"
    "Examples:\n"
    "  nopspan doctor\n"
    "  nopspan doctor 4711\n"
    "  nopspan doctor --json | jq '.checks[] | select(.result != \"ok\")'\n"
    "\n"
    "Exit status: 0 if tracing would work, 1 if it would fail or be incomplete, 2\n"
    "for a usage error.";

}  // namespace

void add_doctor(CLI::App& app, const OutputOptions& common, Run& run) {
  auto pid = std::make_shared<std::uint32_t>(0);
  CLI::App* doctor = app.add_subcommand("doctor", "Find out why tracing would fail, and how to fix it");
  doctor->add_option("PID", *pid, "Check only this process")->type_name("PID")->check(whole_number(1));
  doctor->footer(kDoctorExplained);
  doctor->callback([pid, &common, &run] { run = [pid, &common] { return run_doctor(*pid, common); }; });
}

}  // namespace nopspan::collector
