// SPDX-License-Identifier: Apache-2.0
// What all parts of the reader share: JSON in insertion order, and the refusal of what a case may not contain.
#ifndef NOPSPAN_TESTS_CASES_JSON_H
#define NOPSPAN_TESTS_CASES_JSON_H

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>

namespace cases {

using Json = nlohmann::ordered_json;

// The case says something that the reader does not know how to run or compare: a failure, never a skip.
class Inexpressible : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Throws Inexpressible unless `object` is an object with no other keys than these.
void only_keys(const Json& object, std::string_view what, std::initializer_list<std::string_view> known);

// The value under a key; Inexpressible where it is missing or of the wrong type.
const Json& required(const Json& object, std::string_view what, const std::string& key);
std::string required_string(const Json& object, std::string_view what, const std::string& key);

// The value under a key, null where it is absent.
Json optional(const Json& object, const std::string& key);

}  // namespace cases

#endif  // NOPSPAN_TESTS_CASES_JSON_H
