// SPDX-License-Identifier: Apache-2.0
// How the cases of a file are run: by the file's name, and by nothing else.
#ifndef NOPSPAN_TESTS_CASES_RUNNER_H
#define NOPSPAN_TESTS_CASES_RUNNER_H

#include <string>
#include <string_view>
#include <vector>

#include "json.h"
#include "matcher.h"

namespace cases {

// A part of a case: what function it was about, and what was wrong.
struct Check {
  std::string function;
  Mismatches mismatches;
};

// Runs one case and leaves nothing behind. Throws Inexpressible for a case that it does not understand, before it runs
// it where it can.
using RunCase = std::vector<Check> (*)(const Json& one_case);

// Null for a file of an unknown name.
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
