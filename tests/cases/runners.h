// SPDX-License-Identifier: Apache-2.0
// How the cases of a file are run. Only the file's name decides.
#ifndef NOPSPAN_TESTS_CASES_RUNNERS_H
#define NOPSPAN_TESTS_CASES_RUNNERS_H

#include <string>
#include <vector>

#include "matcher.h"
#include "shapes.h"

namespace cases {

// One check of a case: the function that it tests, and the mismatches.
struct Check {
  std::string function;
  Mismatches mismatches;
};

// Each runs one case and restores the state before it. Throws Inexpressible for a case that it does not understand, if
// possible before running it.
using RunCase = std::vector<Check> (*)(const Json& one_case);
std::vector<Check> run_agent_catalogue(const Json& one_case);
std::vector<Check> run_agent_scenarios(const Json& one_case);
std::vector<Check> run_allm_spans(const Json& one_case);
std::vector<Check> run_genai_attributes(const Json& one_case);
std::vector<Check> run_genai_events(const Json& one_case);
std::vector<Check> run_genai_spans_metrics(const Json& one_case);
std::vector<Check> run_telemetry_registry(const Json& one_case);

// Compares a list of names, or the ids of several calls, with `length`, `distinct` (the number of distinct items),
// `equals` (event names) and `matches` (a regular expression that each item must match).
Mismatches compare_listing(const Json& expect, const std::vector<std::string>& list);

}  // namespace cases

#endif  // NOPSPAN_TESTS_CASES_RUNNERS_H
