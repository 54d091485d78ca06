// SPDX-License-Identifier: Apache-2.0
// JSON in insertion order, and what a case may say.
#ifndef NOPSPAN_TESTS_CASES_SHAPES_H
#define NOPSPAN_TESTS_CASES_SHAPES_H

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

namespace cases {

using Json = nlohmann::ordered_json;

// The reader does not know how to run or compare a part of the case. This is a failure, never a skip.
class Inexpressible : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Throws Inexpressible unless `json` fits the shape with this name, or if there is no such shape.
void check(const Json& json, const std::string& shape);

// The value of a key, or null if it is missing.
Json optional(const Json& object, const std::string& key);

}  // namespace cases

#endif  // NOPSPAN_TESTS_CASES_SHAPES_H
