// SPDX-License-Identifier: Apache-2.0
// What the files of the GenAI layer have in common: metadata as they write it, and attributes with their types.
#ifndef NOPSPAN_TESTS_CASES_ATTRIBUTES_H
#define NOPSPAN_TESTS_CASES_ATTRIBUTES_H

#include <nopspan/value.h>

#include <string>

#include "json.h"
#include "matcher.h"

namespace cases {

// Refuses a case of these files with other keys than these, or of a variant that nopspan does not follow.
void check_genai_case(const Json& one_case);

// Metadata as genai's functions take it: an error {"$exception": …} or {"$map": …} is a map, native_unit (ns) is left
// out.
nopspan::Value to_metadata(const Json& input);

// `seen`, where a double that is within 1e-9 of the expected one is that one.
Json nearly(const Json& expected, Json seen);

// Refuses an expectation of attributes with other keys than attributes, types, key_order, exact and `more`.
void check_attributes(const Json& expected, std::initializer_list<std::string_view> more = {});
// Compares attributes, a map, with such an expectation.
void compare_attributes(const Json& expected, const nopspan::Value& seen, Comparison& comparison);

// Compares what a function returned with "value".
void compare_value(const Json& expected, const nopspan::Value& seen, Comparison& comparison);

// `attributes` with nopspan's prefix for req_llm's.
Json with_own_prefix(const Json& attributes);

}  // namespace cases

#endif  // NOPSPAN_TESTS_CASES_ATTRIBUTES_H
