// SPDX-License-Identifier: Apache-2.0
// Runs every *.json in tests/cases/run, or in the folder that NOPSPAN_CASES_DIR names, in the order of their names.
// Prints the numbers of passed and failed cases by file and function. Exits with 1 if a case failed, or if the reader
// does not understand a case or a file.
#include <nopspan/stats.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <system_error>
#include <vector>

#include "runners.h"
#include "shapes.h"

namespace {

using cases::Json;

// The runners by the name of the file.
const std::map<std::string, cases::RunCase> kRunners = {
    {"agent_catalogue.json", cases::run_agent_catalogue},
    {"agent_scenarios.json", cases::run_agent_scenarios},
    {"allm_spans.json", cases::run_allm_spans},
    {"genai_attributes.json", cases::run_genai_attributes},
    {"genai_events.json", cases::run_genai_events},
    {"genai_spans_metrics.json", cases::run_genai_spans_metrics},
    {"telemetry_registry.json", cases::run_telemetry_registry},
};

struct Count {
  unsigned passed = 0;
  unsigned failed = 0;
};

struct Report {
  Count cases;
  std::map<std::string, Count> functions;
};

void print_failure(const std::string& file, std::size_t number, const std::string& why) {
  std::printf("FAILED %s case %zu: %s\n", file.c_str(), number, why.c_str());
}

// Counts a case as passed if all of its checks passed.
void run_case(const std::string& file, std::size_t number, const Json& one_case, cases::RunCase run, Report& report) {
  bool passed = true;
  const auto break_off = [&](const std::string& why) {
    passed = false;
    print_failure(file, number, why);
  };
  try {
    std::size_t place = 0;
    for (const cases::Check& check : run(one_case)) {
      ++place;
      Count& count = report.functions[check.function];
      ++(check.mismatches.empty() ? count.passed : count.failed);
      passed = passed && check.mismatches.empty();
      for (const std::string& mismatch : check.mismatches) {
        print_failure(file, number, "step " + std::to_string(place) + " (" + check.function + "): " + mismatch);
      }
    }
  } catch (const cases::Inexpressible& unknown) {
    break_off(std::string("cannot be expressed: ") + unknown.what());
  } catch (const Json::exception& unknown) {  // the case has a value of another type
    break_off(std::string("cannot be expressed: ") + unknown.what());
  } catch (const std::exception& error) {
    break_off(std::string("broke off: ") + error.what());
  }
  ++(passed ? report.cases.passed : report.cases.failed);
}

// Runs all cases of the file. Returns whether all passed.
bool run_file(const std::filesystem::path& path) {
  const std::string file = path.filename().string();
  const auto runner = kRunners.find(file);
  if (runner == kRunners.end()) {
    std::printf("FAILED %s: there is no runner for a file of this name\n", file.c_str());
    return false;
  }
  std::ifstream in(path);
  const Json list = Json::parse(in, nullptr, false);
  if (!list.is_array() || list.empty()) {
    std::printf("FAILED %s: not a list of cases in JSON\n", file.c_str());
    return false;
  }
  Report report;
  for (std::size_t i = 0; i < list.size(); ++i) run_case(file, i + 1, list[i], runner->second, report);
  std::printf("%s: %u passed, %u failed\n", file.c_str(), report.cases.passed, report.cases.failed);
  for (const auto& [function, count] : report.functions) {
    std::printf("  %-24s %u passed, %u failed\n", function.c_str(), count.passed, count.failed);
  }
  return report.cases.failed == 0;
}

}  // namespace

int main() {
  nopspan::capture_stacktraces(true);  // the references always have stack traces
  const char* given = std::getenv("NOPSPAN_CASES_DIR");
  const std::filesystem::path folder = given != nullptr ? given : NOPSPAN_CASES_RUN;
  std::set<std::filesystem::path> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".json") files.insert(entry.path());
  }
  if (files.empty()) {
    std::printf("FAILED: no *.json in %s\n", folder.c_str());
    return 1;
  }
  bool passed = true;
  for (const auto& file : files) passed = run_file(file) && passed;
  return passed ? 0 : 1;
}
