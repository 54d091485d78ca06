// SPDX-License-Identifier: Apache-2.0
// Conversions between a case's JSON and nopspan's values and names.
#ifndef NOPSPAN_TESTS_CASES_VALUES_H
#define NOPSPAN_TESTS_CASES_VALUES_H

#include <nopspan/event.h>
#include <nopspan/fields.h>
#include <nopspan/types.h>

#include <string>

#include "shapes.h"

namespace cases {

nopspan::Value to_value(const Json& json);
Json to_json(const nopspan::Value& value);
// What a function returned. For a refused argument nopspan returns an error, where the references raise an exception.
Json as_returned(nopspan::Errc error);

// "a.b" for ["a", "b"] and for "a.b"; "" for []. nopspan's prefixes replace the references': llm for allm, and agent
// for beamlens.
std::string dotted_name(const Json& name);
Json dotted_names(const Json& names);

// A copy of `json` in which every name under a key "event" or "event_name" is dotted.
Json with_dotted_events(Json json);

// Null means that there are none.
void set_metadata(nopspan::Fields& fields, const Json& metadata);
void set_measurements(nopspan::Fields& fields, const Json& measurements);

}  // namespace cases

#endif  // NOPSPAN_TESTS_CASES_VALUES_H
