// SPDX-License-Identifier: Apache-2.0
#include "matcher.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

namespace cases {
namespace {

using Bindings = std::map<std::string, Json>;

// A longer list in any order would have too many permutations.
constexpr std::size_t kMostInAnyOrder = 8;

bool is_matcher(const Json& json) {
  if (!json.is_object() || json.empty()) return false;
  const auto marked = [](const auto& item) { return !item.key().empty() && item.key()[0] == '$'; };
  const auto items = json.items();
  const bool any = std::any_of(items.begin(), items.end(), marked);
  if (any && !std::all_of(items.begin(), items.end(), marked)) {
    throw Inexpressible("matchers beside other keys: " + json.dump());
  }
  return any;
}

std::string string_of(const Json& argument, const std::string& matcher) {
  if (!argument.is_string()) throw Inexpressible(matcher + " takes a string, not " + argument.dump());
  return argument.get<std::string>();
}

const Json& bound(const Bindings& bindings, const Json& argument, const std::string& matcher) {
  const std::string name = string_of(argument, matcher);
  const auto found = bindings.find(name);
  if (found == bindings.end()) throw Inexpressible(matcher + ": \"" + name + "\" is bound nowhere");
  return found->second;
}

// "a - b" of two captures. Empty if one of them is no integer.
std::optional<std::int64_t> difference(const std::string& text, const Bindings& bindings) {
  const std::size_t minus = text.find(" - ");
  if (minus == std::string::npos) throw Inexpressible("not a difference of two captures: " + text);
  const Json& a = bound(bindings, text.substr(0, minus), "$expr");
  const Json& b = bound(bindings, text.substr(minus + 3), "$expr");
  if (!a.is_number_integer() || !b.is_number_integer()) return std::nullopt;
  return a.get<std::int64_t>() - b.get<std::int64_t>();
}

bool equal(const Json& expected, const Json& seen);

// Applies one matcher of an object of matchers.
bool holds(const std::string& matcher, const Json& argument, const Json& seen, const Bindings& bindings) {
  if (matcher == "$type" && argument == "int") return seen.is_number_integer();
  if (matcher == "$list" && argument == "any") return seen.is_array();
  if (matcher == "$any" && argument == true) return true;
  if (matcher == "$ge" && argument.is_number()) return seen.is_number() && seen >= argument;
  if (matcher == "$bind") return string_of(argument, matcher), true;
  if (matcher == "$same") return equal(bound(bindings, argument, matcher), seen);
  if (matcher == "$expr") {
    const auto expected = difference(string_of(argument, matcher), bindings);
    return expected && equal(*expected, seen);
  }
  throw Inexpressible("unknown matcher " + matcher + " of " + argument.dump());
}

std::string short_dump(const Json& json) {
  std::string text = json.dump();
  if (text.size() > 300) text = text.substr(0, 297) + "...";
  return text;
}

// Walks through an expectation and what was seen in parallel, and collects the differences with their paths.
class Walk {
 public:
  Walk(const Bindings& bindings, Mismatches& mismatches) : bindings_(bindings), mismatches_(mismatches) {}

  void compare(const std::string& where, const Json& expected, const Json& seen) {
    if (is_matcher(expected)) {
      for (const auto& [matcher, argument] : expected.items()) {
        if (!holds(matcher, argument, seen, bindings_)) {
          Json one;
          one[matcher] = argument;
          report(where, one, seen);
        }
      }
    } else if (expected.is_object() && seen.is_object()) {
      compare_maps(where, expected, seen);
    } else if (expected.is_array() && seen.is_array()) {
      if (expected.size() != seen.size()) report(where, expected, seen);
      for (std::size_t i = 0; i < std::min(expected.size(), seen.size()); ++i) {
        compare(where + "[" + std::to_string(i) + "]", expected[i], seen[i]);
      }
    } else if (expected != seen || expected.is_number_float() != seen.is_number_float()) {
      report(where, expected, seen);
    }
  }

 private:
  void compare_maps(const std::string& where, const Json& expected, const Json& seen) {
    for (const auto& [key, value] : expected.items()) {
      const std::string at = std::string(where).append(".").append(key);
      const auto found = seen.find(key);
      if (found == seen.end()) {
        mismatches_.push_back(at + ": expected " + short_dump(value) + ", but there is none");
      } else {
        compare(at, value, *found);
      }
    }
    for (const auto& [key, value] : seen.items()) {
      if (!expected.contains(key)) {
        mismatches_.push_back(std::string(where).append(".").append(key) + ": not expected, but is " +
                              short_dump(value));
      }
    }
  }
  void report(const std::string& where, const Json& expected, const Json& seen) {
    mismatches_.push_back(where + ": expected " + short_dump(expected) + ", but is " + short_dump(seen));
  }

  const Bindings& bindings_;
  Mismatches& mismatches_;
};

bool equal(const Json& expected, const Json& seen) {
  Mismatches mismatches;
  Walk({}, mismatches).compare("", expected, seen);
  return mismatches.empty();
}

// Declares the captures of an expectation. They are null until they are made. A name stands for one value in a
// comparison.
void declare(const Json& expected, Bindings& bindings, std::set<std::string>& names) {
  if (is_matcher(expected) && expected.contains("$bind")) {
    const std::string name = string_of(expected["$bind"], "$bind");
    if (!names.insert(name).second) throw Inexpressible("\"" + name + "\" is bound twice in one step");
    bindings[name] = nullptr;
  } else if (expected.is_structured()) {
    for (const Json& item : expected) declare(item, bindings, names);
  }
}

void capture(const Json& expected, const Json& seen, Bindings& bindings) {
  if (is_matcher(expected)) {
    if (expected.contains("$bind")) bindings[expected["$bind"].get<std::string>()] = seen;
  } else if (expected.is_object() && seen.is_object()) {
    for (const auto& [key, value] : expected.items()) {
      const auto found = seen.find(key);
      if (found != seen.end()) capture(value, *found, bindings);
    }
  } else if (expected.is_array() && seen.is_array()) {
    for (std::size_t i = 0; i < std::min(expected.size(), seen.size()); ++i) capture(expected[i], seen[i], bindings);
  }
}

// Throws Inexpressible for an unknown matcher, even if the comparison would not reach it.
void check_matchers(const Json& expected) {
  static const std::set<std::string> known = {"$type", "$ge", "$bind", "$same", "$expr", "$any", "$list"};
  if (is_matcher(expected)) {
    for (const auto& [matcher, argument] : expected.items()) {
      if (known.count(matcher) == 0) throw Inexpressible("unknown matcher " + matcher);
    }
  }
  if (expected.is_structured()) {
    for (const Json& item : expected) check_matchers(item);
  }
}

}  // namespace

void Comparison::add(const std::string& where, Json expected, Json seen) {
  Json list = Json::array();
  list.push_back(std::move(expected));
  add_in_order(where, list, {[seen = std::move(seen)](const Json&) { return seen; }});
  items_.back().single = true;
}

void Comparison::add_in_order(const std::string& where, const Json& expected, std::vector<Seen> seen) {
  if (!expected.is_array()) throw Inexpressible(where + " is no list: " + expected.dump());
  check_matchers(expected);
  items_.push_back({where, expected, std::move(seen), true, false});
}

void Comparison::add_in_any_order(const std::string& where, const Json& expected, std::vector<Seen> seen) {
  add_in_order(where, expected, std::move(seen));
  if (expected.size() > kMostInAnyOrder) throw Inexpressible(where + ": too long for a list in any order");
  items_.back().in_order = false;
}

Mismatches Comparison::compare(const std::vector<Order>& orders) const {
  Bindings bindings;
  Mismatches mismatches;
  std::set<std::string> names;
  std::vector<Json> seen_lists;
  for (const Items& items : items_) declare(items.expected, bindings, names);
  for (std::size_t i = 0; i < items_.size(); ++i) {
    const Items& items = items_[i];
    Json seen = Json::array();
    for (const std::size_t at : orders[i]) {
      const std::size_t place = seen.size();
      seen.push_back(items.seen[at](place < items.expected.size() ? items.expected[place] : Json()));
    }
    capture(items.expected, seen, bindings);
    seen_lists.push_back(std::move(seen));
  }
  Walk walk(bindings, mismatches);
  for (std::size_t i = 0; i < items_.size(); ++i) {
    const Items& items = items_[i];
    walk.compare(items.where, items.single ? items.expected[0] : items.expected,
                 items.single ? seen_lists[i][0] : seen_lists[i]);
  }
  return mismatches;
}

Mismatches Comparison::mismatches() const {
  std::vector<Order> orders;
  for (const Items& items : items_) {
    Order order(items.seen.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    orders.push_back(std::move(order));
  }
  // Tries every order of every list that may be in any order, until one matches. If none does, the reported mismatches
  // are those of the order that was seen.
  Mismatches first = compare(orders);
  while (!first.empty()) {
    std::size_t i = 0;
    for (; i < items_.size(); ++i) {
      const bool same_size = items_[i].seen.size() == items_[i].expected.size();
      if (!items_[i].in_order && same_size && std::next_permutation(orders[i].begin(), orders[i].end())) break;
    }
    if (i == items_.size()) break;
    if (compare(orders).empty()) return {};
  }
  return first;
}

}  // namespace cases
