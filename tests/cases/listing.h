// SPDX-License-Identifier: Apache-2.0
// Lists of texts that a function returns: names, or the ids of several calls.
#ifndef NOPSPAN_TESTS_CASES_LISTING_H
#define NOPSPAN_TESTS_CASES_LISTING_H

#include <string>
#include <vector>

#include "json.h"
#include "matcher.h"

namespace cases {

// Rejects an expectation with other keys than these: length, distinct (the number of distinct items), equals (event
// names), and matches (a regular expression that each item must match).
void check_listing(const Json& expect);
Mismatches compare_listing(const Json& expect, const std::vector<std::string>& list);

// How often the case calls the function: `times`, or once.
unsigned times_of(const Json& when);

}  // namespace cases

#endif  // NOPSPAN_TESTS_CASES_LISTING_H
