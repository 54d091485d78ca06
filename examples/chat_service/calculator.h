// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_CALCULATOR_H
#define EXAMPLES_CALCULATOR_H

#include <stdexcept>
#include <string>
#include <string_view>

namespace example {

// What is wrong with an expression, in words for the one who wrote it.
class CalculatorError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The value of an expression of decimal numbers, + - * /, signs and parentheses. Throws CalculatorError.
double calculate(std::string_view expression);

// The same as text: whole numbers without a decimal point, others with up to 15 significant digits.
std::string calculate_text(std::string_view expression);

}  // namespace example

#endif  // EXAMPLES_CALCULATOR_H
