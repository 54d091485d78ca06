// SPDX-License-Identifier: Apache-2.0
// Compares what a case expects with what happened.
//
// A literal matches itself: types matter (1 is not 1.0), lists are ordered, and maps have the same keys in any order.
// An object whose keys begin with "$" is a matcher. If it has several keys, all must hold:
//   {"$type":T}       int, double, number, bool, string, list, map, null, string[]
//   {"$ge":n}         a number of at least n                {"$ge_ms":n}   ns, at least n ms
//   {"$near_zero":true}  an integer (ns) within one second of 0, or a double within 1e-9
//   {"$any":true}     any value except a missing one; {"$any":T} any value of a type
//   {"$list":"any"}   any list; {"$list":T} a list of a type
//   {"$bind":x}       captures; {"$same":x}, {"$differs":x}, {"$ge_bound":x} compare with the capture
//   {"$expr":e}       the value of e: captures and integers with + - * and parentheses
//   {"$not":m}        a value that m does not match        {"$matches":r}  a string in which the regex r is found
// All captures of a comparison are made first. They are kept for the next comparison.
#ifndef NOPSPAN_TESTS_CASES_MATCHER_H
#define NOPSPAN_TESTS_CASES_MATCHER_H

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "json.h"

namespace cases {

using Bindings = std::map<std::string, Json>;
using Mismatches = std::vector<std::string>;

// Everything that one step of a case expects.
class Comparison {
 public:
  // What was seen, in the notation of the given expectation.
  using Seen = std::function<Json(const Json& expected)>;

  void add(const std::string& where, Json expected, Json seen);
  void add_in_order(const std::string& where, const Json& expected, std::vector<Seen> seen);
  void add_in_any_order(const std::string& where, const Json& expected, std::vector<Seen> seen);

  // The mismatches, or an empty list. Adds the captures to `bindings`.
  Mismatches mismatches(Bindings& bindings) const;

 private:
  struct Items {
    std::string where;
    Json expected;
    std::vector<Seen> seen;
    bool in_order;
    bool single;  // one value, not a list
  };
  using Order = std::vector<std::size_t>;

  Mismatches compare(Bindings& bindings, const std::vector<Order>& orders) const;

  std::vector<Items> items_;
};

}  // namespace cases

#endif  // NOPSPAN_TESTS_CASES_MATCHER_H
