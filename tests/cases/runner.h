// SPDX-License-Identifier: Apache-2.0
// Selects how the cases of a file are run. Only the file's name decides.
#ifndef NOPSPAN_TESTS_CASES_RUNNER_H
#define NOPSPAN_TESTS_CASES_RUNNER_H

#include <string>
#include <string_view>
#include <vector>

#include "json.h"
#include "matcher.h"

namespace cases {

// One check of a case: the function that it tests, and the mismatches.
struct Check {
  std::string function;
  Mismatches mismatches;
};

// Runs one case and restores the state before it. Throws Inexpressible for a case that it does not understand, if
// possible before running it.
using RunCase = std::vector<Check> (*)(const Json& one_case);

// Null if no runner has this file name.
RunCase find_runner(std::string_view file_name) noexcept;

std::vector<Check> run_agent_catalogue(const Json& one_case);
std::vector<Check> run_agent_scenarios(const Json& one_case);
std::vector<Check> run_allm_spans(const Json& one_case);
std::vector<Check> run_genai_attributes(const Json& one_case);
std::vector<Check> run_genai_events(const Json& one_case);
std::vector<Check> run_genai_spans_metrics(const Json& one_case);
std::vector<Check> run_telemetry_registry(const Json& one_case);

}  // namespace cases

#endif  // NOPSPAN_TESTS_CASES_RUNNER_H
