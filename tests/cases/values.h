// SPDX-License-Identifier: Apache-2.0
// Between a case's JSON and nopspan's values and names.
#ifndef NOPSPAN_TESTS_CASES_VALUES_H
#define NOPSPAN_TESTS_CASES_VALUES_H

#include <nopspan/fields.h>
#include <nopspan/value.h>

#include <string>

#include "json.h"

namespace cases {

// An input value. Inexpressible for an object in the notation of matchers ("$…"), which is no value.
nopspan::Value to_value(const Json& json);
Json to_json(const nopspan::Value& value);

// "a.b" for ["a", "b"] and for "a.b"; "" for []. The references' prefixes become nopspan's: allm is llm, beamlens is
// agent.
std::string dotted_name(const Json& name);

// `json` with every list of strings under a key "event" or "event_name" made a dotted name.
Json with_dotted_events(Json json);

// Writes a case's metadata and measurements; null is none.
void check_metadata(const Json& metadata);
void check_measurements(const Json& measurements);
void set_metadata(nopspan::Fields& fields, const Json& metadata);
void set_measurements(nopspan::Fields& fields, const Json& measurements);

}  // namespace cases

#endif  // NOPSPAN_TESTS_CASES_VALUES_H
