// SPDX-License-Identifier: Apache-2.0
// Compares what a case expects with what happened.
//
// A literal matches itself: types matter (1 is not 1.0), lists are ordered, and maps have the same keys in any order.
// An object whose keys begin with "$" is a matcher. If it has several keys, all must hold:
//   {"$type":T}      int, double, number, bool, string, list, map, null or string[]
//   {"$any":true}    any value except a missing one; {"$any":T} any value of a type
//   {"$list":"any"}  any list; {"$list":T} a list of a type
//   {"$ge":n}        a number of at least n; {"$ge_ms":n} a number of ns that are at least n ms
//   {"$near_zero":true}  an integer (ns) within one second of 0, or a double within 1e-9
//   {"$bind":x}      captures the value; {"$same":x}, {"$differs":x} and {"$ge_bound":x} compare with the capture
//   {"$expr":e}      the value of an expression of captures (expression.h)
//   {"$not":m}       a value that m does not match
//   {"$matches":r}   a string in which the regular expression r is found
// All captures of a comparison are made first. They are kept for the next comparison of the case.
#ifndef NOPSPAN_TESTS_CASES_MATCHER_H
#define NOPSPAN_TESTS_CASES_MATCHER_H

#include <cstddef>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "expression.h"
#include "shapes.h"

namespace cases {

using Mismatches = std::vector<std::string>;

// Everything that one step of a case expects.
class Comparison {
 public:
  void add(const std::string& where, Json expected, Json seen);
  // Compares a list with items that `see(item, expected)` returns in the notation of the expected one at their place.
  // The items must outlive the comparison.
  template <class Items, class See>
  void add_list(const std::string& where, const Json& expected, const Items& items, const See& see) {
    add_items(where, expected, seen_of(items, see), false);
  }
  // The same for lists in any order.
  template <class Items, class See>
  void add_unordered(const std::string& where, const Json& expected, const Items& items, const See& see) {
    add_items(where, expected, seen_of(items, see), true);
  }

  // The mismatches, or an empty list. Adds the captures to `bindings`.
  Mismatches mismatches(Bindings& bindings) const;
  Mismatches mismatches() const {
    Bindings bindings;
    return mismatches(bindings);
  }

 private:
  // What was seen, in the notation of the given expectation.
  using Seen = std::function<Json(const Json& expected)>;
  // A list of values, or one value, with what was seen of it.
  struct Part {
    std::string where;
    Json expected;  // a list
    std::vector<Seen> seen;
    bool is_list;
    bool in_any_order;
  };
  // For each part, which of the items that were seen is at which place.
  using Orders = std::vector<std::vector<std::size_t>>;

  template <class Items, class See>
  static std::vector<Seen> seen_of(const Items& items, const See& see) {
    std::vector<Seen> all;
    for (const auto& item : items) {
      all.emplace_back([&item, see](const Json& expected) { return see(item, expected); });
    }
    return all;
  }
  void add_items(const std::string& where, const Json& expected, std::vector<Seen> seen, bool in_any_order);
  Mismatches compare(const Orders& orders, Bindings& bindings) const;
  bool next(Orders& orders) const;

  std::vector<Part> parts_;
};

}  // namespace cases

#endif  // NOPSPAN_TESTS_CASES_MATCHER_H
