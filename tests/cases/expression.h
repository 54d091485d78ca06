// SPDX-License-Identifier: Apache-2.0
// The values that a comparison has captured, and expressions over them.
#ifndef NOPSPAN_TESTS_CASES_EXPRESSION_H
#define NOPSPAN_TESTS_CASES_EXPRESSION_H

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "shapes.h"

namespace cases {

// Captured values by name. A value that is not captured yet is null.
using Bindings = std::map<std::string, Json>;

// Returns the captured value. Throws Inexpressible if no part of the step captures this name.
const Json& captured(const Bindings& bindings, const std::string& name);

// Computes an expression of names and integers with + - * and parentheses: "t1 - t0". Empty if a captured value is not
// an integer. Throws Inexpressible if the text is not an expression.
std::optional<std::int64_t> evaluate(const std::string& text, const Bindings& bindings);

}  // namespace cases

#endif  // NOPSPAN_TESTS_CASES_EXPRESSION_H
