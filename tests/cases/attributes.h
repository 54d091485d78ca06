// SPDX-License-Identifier: Apache-2.0
// Shared by the files of the GenAI layer: metadata in their notation, and attributes with their types.
#ifndef NOPSPAN_TESTS_CASES_ATTRIBUTES_H
#define NOPSPAN_TESTS_CASES_ATTRIBUTES_H

#include <nopspan/event.h>

#include <string>

#include "json.h"
#include "matcher.h"

namespace cases {

// Rejects a case that has other keys than these, or that asks for a variant that nopspan does not implement.
void check_genai_case(const Json& one_case);

// Metadata as the genai functions expect it. An error {"$exception": …} or {"$map": …} becomes a map. native_unit is
// omitted, because nopspan's unit is always ns.
nopspan::Value to_metadata(const Json& input);

// A copy of `seen`, in which a double that is within 1e-9 of the expected one is replaced by the expected one.
Json nearly(const Json& expected, Json seen);

// Rejects an expectation of attributes with other keys than attributes, types, key_order, exact and `more`.
void check_attributes(const Json& expected, std::initializer_list<std::string_view> more = {});
// Compares attributes (a map) with such an expectation.
void compare_attributes(const Json& expected, const nopspan::Value& seen, Comparison& comparison);

// Compares a function's result with "value".
void compare_value(const Json& expected, const nopspan::Value& seen, Comparison& comparison);

// `attributes`, with nopspan's prefix in place of req_llm's.
Json with_own_prefix(const Json& attributes);

}  // namespace cases

#endif  // NOPSPAN_TESTS_CASES_ATTRIBUTES_H
