// SPDX-License-Identifier: Apache-2.0
#include "expression.h"

#include <algorithm>
#include <cctype>

namespace cases {
namespace {

bool is_digit(char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; }
bool is_of_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

// A capture that is not an integer.
struct NoInteger {};

// Recursive descent for this grammar: sum = product {(+|-) product}; product = factor {* factor}; factor = integer,
// name, (sum), -factor.
class Expression {
 public:
  Expression(const std::string& text, const Bindings& bindings) : text_(text), bindings_(bindings) {}

  std::int64_t value() {
    const std::int64_t result = sum();
    if (next() != '\0') refuse();
    return result;
  }

 private:
  std::int64_t sum() {
    std::int64_t result = product();
    while (next() == '+' || next() == '-') {
      const char sign = text_[at_++];
      const std::int64_t operand = product();
      result = sign == '+' ? result + operand : result - operand;
    }
    return result;
  }
  std::int64_t product() {
    std::int64_t result = factor();
    while (accept('*')) result *= factor();
    return result;
  }
  std::int64_t factor() {
    if (accept('-')) return -factor();
    if (accept('(')) {
      const std::int64_t result = sum();
      if (!accept(')')) refuse();
      return result;
    }
    if (!is_of_word(next())) refuse();
    std::string word;
    while (at_ < text_.size() && is_of_word(text_[at_])) word += text_[at_++];
    if (is_digit(word[0])) {
      if (!std::all_of(word.begin(), word.end(), is_digit)) refuse();
      return std::stoll(word);
    }
    const Json& value = captured(bindings_, word);
    if (!value.is_number_integer()) throw NoInteger{};
    return value.get<std::int64_t>();
  }

  // The next character that is not a space, or NUL at the end.
  char next() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool accept(char wanted) {
    if (next() != wanted) return false;
    ++at_;
    return true;
  }
  [[noreturn]] void refuse() const { throw Inexpressible("not an expression: " + text_); }

  const std::string& text_;
  const Bindings& bindings_;
  std::size_t at_ = 0;
};

}  // namespace

const Json& captured(const Bindings& bindings, const std::string& name) {
  const auto found = bindings.find(name);
  if (found == bindings.end()) throw Inexpressible("\"" + name + "\" is bound nowhere");
  return found->second;
}

std::optional<std::int64_t> evaluate(const std::string& text, const Bindings& bindings) {
  try {
    return Expression(text, bindings).value();
  } catch (const NoInteger&) {
    return std::nullopt;
  }
}

}  // namespace cases
