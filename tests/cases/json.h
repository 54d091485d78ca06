// SPDX-License-Identifier: Apache-2.0
// Used by all parts of the reader: JSON in insertion order, and errors for cases that it does not understand.
#ifndef NOPSPAN_TESTS_CASES_JSON_H
#define NOPSPAN_TESTS_CASES_JSON_H

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>

namespace cases {

using Json = nlohmann::ordered_json;

// The reader does not know how to run or compare a part of the case. This is a failure, never a skip.
class Inexpressible : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Throws Inexpressible unless `object` is an object without other keys than these.
void only_keys(const Json& object, std::string_view what, std::initializer_list<std::string_view> known);

// The value of a key. Throws Inexpressible if it is missing or has the wrong type.
const Json& required(const Json& object, std::string_view what, const std::string& key);
std::string required_string(const Json& object, std::string_view what, const std::string& key);

// The value of a key, or null if it is missing.
Json optional(const Json& object, const std::string& key);

}  // namespace cases

#endif  // NOPSPAN_TESTS_CASES_JSON_H
