// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_CALCULATOR_H
#define EXAMPLES_CALCULATOR_H

#include <stdexcept>
#include <string>
#include <string_view>

namespace example {

// An error in an expression. what() explains it to the author of the expression.
class CalculatorError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The value of an expression of decimal numbers, + - * /, signs and parentheses. Throws CalculatorError.
double calculate(std::string_view expression);

// The same as text. Integers have no decimal point, other numbers up to 15 significant digits.
std::string calculate_text(std::string_view expression);

}  // namespace example

#endif  // EXAMPLES_CALCULATOR_H
