// SPDX-License-Identifier: Apache-2.0
#include "calculator.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <system_error>

namespace example {
namespace {

constexpr int kDeepestNesting = 200;

// sum = product {("+" | "-") product}; product = factor {("*" | "/") factor};
// factor = ("+" | "-") factor | "(" sum ")" | number
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  double parse() {
    const double value = sum();
    if (peek() != '\0') fail(std::string("unexpected '") + peek() + "'");
    return value;
  }

 private:
  double sum() {
    double value = product();
    while (true) {
      if (take('+'))
        value += product();
      else if (take('-'))
        value -= product();
      else
        return value;
    }
  }

  double product() {
    double value = factor();
    while (true) {
      if (take('*')) {
        value *= factor();
      } else if (take('/')) {
        const double divisor = factor();
        if (divisor == 0.0) throw CalculatorError("division by zero");
        value /= divisor;
      } else {
        return value;
      }
    }
  }

  double factor() {
    if (++depth_ > kDeepestNesting) fail("nested too deeply");
    double value = 0.0;
    if (take('-')) {
      value = -factor();
    } else if (take('+')) {
      value = factor();
    } else if (take('(')) {
      value = sum();
      if (!take(')')) fail("missing ')'");
    } else {
      value = number();
    }
    --depth_;
    return value;
  }

  double number() {
    const char c = peek();
    if (c == '\0') fail("unexpected end");
    if ((c < '0' || c > '9') && c != '.') fail(std::string("unexpected '") + c + "'");
    double value = 0.0;
    const char* begin = text_.data() + at_;
    const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), value, std::chars_format::fixed);
    if (error != std::errc()) fail("not a number");
    at_ += static_cast<std::size_t>(end - begin);
    return value;
  }

  char peek() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n')) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  bool take(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw CalculatorError(what + " at position " + std::to_string(at_ + 1));
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

double calculate(std::string_view expression) {
  const double value = Parser(expression).parse();
  if (!std::isfinite(value)) throw CalculatorError("the result is too large");
  return value == 0.0 ? 0.0 : value;  // never -0
}

std::string calculate_text(std::string_view expression) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.15g", calculate(expression));
  return text.data();
}

}  // namespace example
