// SPDX-License-Identifier: Apache-2.0
// Compares what a case expects with what happened.
//
// A literal matches itself: types matter (1 is not 1.0), lists are ordered, and maps have the same keys in any order.
// An object whose keys begin with "$" is a matcher. If it has several keys, all must hold:
//   {"$type":"int"}   an integer                           {"$list":"any"}  any list
//   {"$ge":n}         a number of at least n               {"$any":true}    any value except a missing one
//   {"$bind":x}       captures a value                     {"$same":x}      the captured value
//   {"$expr":"x - y"} the difference of two captures
// All captures of a comparison are made first.
#ifndef NOPSPAN_TESTS_CASES_MATCHER_H
#define NOPSPAN_TESTS_CASES_MATCHER_H

#include <functional>
#include <string>
#include <vector>

#include "shapes.h"

namespace cases {

using Mismatches = std::vector<std::string>;

// Everything that one step of a case expects.
class Comparison {
 public:
  // What was seen, in the notation of the given expectation.
  using Seen = std::function<Json(const Json& expected)>;

  void add(const std::string& where, Json expected, Json seen);
  void add_in_order(const std::string& where, const Json& expected, std::vector<Seen> seen);
  void add_in_any_order(const std::string& where, const Json& expected, std::vector<Seen> seen);

  // The mismatches, or an empty list.
  Mismatches mismatches() const;

 private:
  struct Items {
    std::string where;
    Json expected;
    std::vector<Seen> seen;
    bool in_order;
    bool single;  // one value, not a list
  };
  using Order = std::vector<std::size_t>;

  Mismatches compare(const std::vector<Order>& orders) const;

  std::vector<Items> items_;
};

}  // namespace cases

#endif  // NOPSPAN_TESTS_CASES_MATCHER_H
