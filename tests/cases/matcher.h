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

#include <string>
#include <utility>
#include <vector>

#include "shapes.h"

namespace cases {

using Mismatches = std::vector<std::string>;

// Everything that one step of a case expects.
class Comparison {
 public:
  void add(const std::string& where, Json expected, Json seen);
  // Compares a list with items that `see(item, expected)` returns in the notation of the expected one at their place.
  template <class Items, class See>
  void add_list(const std::string& where, const Json& expected, const Items& items, const See& see) {
    Json seen = Json::array();
    for (const auto& item : items) {
      seen.push_back(see(item, seen.size() < expected.size() ? expected[seen.size()] : Json()));
    }
    add(where, expected, std::move(seen));
  }
  // Compares lists of values, in any order.
  void add_unordered(const std::string& where, Json expected, Json seen);

  // The mismatches, or an empty list.
  Mismatches mismatches() const;

 private:
  struct Item {
    std::string where;
    Json expected, seen;
  };

  std::vector<Item> items_;
};

}  // namespace cases

#endif  // NOPSPAN_TESTS_CASES_MATCHER_H
