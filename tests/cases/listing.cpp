// SPDX-License-Identifier: Apache-2.0
#include "listing.h"

#include <regex>
#include <set>

#include "values.h"

namespace cases {

void check_listing(const Json& expect) {
  only_keys(expect, "the expectation of a list", {"length", "distinct", "equals", "matches"});
  if (expect.empty()) throw Inexpressible("an expectation of nothing");
  if (expect.contains("matches")) required_string(expect, "the expectation of a list", "matches");
  for (const Json& name : optional(expect, "equals")) dotted_name(name);
}

Mismatches compare_listing(const Json& expect, const std::vector<std::string>& list) {
  Comparison comparison;
  if (expect.contains("length")) comparison.add("length", expect["length"], list.size());
  if (expect.contains("distinct")) {
    comparison.add("distinct", expect["distinct"], std::set<std::string>(list.begin(), list.end()).size());
  }
  if (expect.contains("equals")) {
    Json expected = Json::array();
    for (const Json& name : expect["equals"]) expected.push_back(dotted_name(name));
    comparison.add("equals", expected, Json(list));
  }
  if (expect.contains("matches")) {
    const std::regex pattern(expect["matches"].get<std::string>());
    for (const std::string& text : list) comparison.add("matches of " + text, true, std::regex_search(text, pattern));
  }
  Bindings bindings;
  return comparison.mismatches(bindings);
}

unsigned times_of(const Json& when) {
  const Json times = optional(when, "times");
  if (times.is_null()) return 1;
  if (!times.is_number_unsigned() || times == 0) throw Inexpressible("times: " + times.dump());
  return times.get<unsigned>();
}

}  // namespace cases
