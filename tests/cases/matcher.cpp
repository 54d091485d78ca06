// SPDX-License-Identifier: Apache-2.0
#include "matcher.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <regex>
#include <set>
#include <utility>

namespace cases {
namespace {

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

bool has_type(const Json& value, const std::string& type) {
  if (type == "int") return value.is_number_integer();
  if (type == "double") return value.is_number_float();
  if (type == "number") return value.is_number();
  if (type == "bool") return value.is_boolean();
  if (type == "string") return value.is_string();
  if (type == "list") return value.is_array();
  if (type == "map") return value.is_object();
  if (type == "null") return value.is_null();
  if (type == "string[]") {
    return value.is_array() && std::all_of(value.begin(), value.end(), [](const Json& i) { return i.is_string(); });
  }
  throw Inexpressible("unknown type \"" + type + "\"");
}

bool at_least(const Json& value, const Json& bound) { return value.is_number() && bound.is_number() && value >= bound; }

bool is_near_zero(const Json& value) {
  if (value.is_number_integer()) return std::abs(value.get<double>()) <= 1e9;
  return value.is_number_float() && std::abs(value.get<double>()) <= 1e-9;
}

bool is_list_of(const Json& value, const std::string& type) {
  if (type != "any") has_type({}, type);  // refuses an unknown type even if the list is empty
  const auto fits = [&](const Json& item) { return type == "any" || has_type(item, type); };
  return value.is_array() && std::all_of(value.begin(), value.end(), fits);
}

bool contains_match(const Json& value, const std::string& pattern) {
  try {
    const std::regex regex(pattern);
    return value.is_string() && std::regex_search(value.get_ref<const std::string&>(), regex);
  } catch (const std::regex_error& error) {
    throw Inexpressible(pattern + " is no regular expression: " + error.what());
  }
}

bool equal(const Json& expected, const Json& seen, const Bindings& bindings);

// Applies one matcher of an object of matchers.
bool holds(const std::string& matcher, const Json& argument, const Json& seen, const Bindings& bindings) {
  if (matcher == "$any" && argument == true) return true;
  if (matcher == "$near_zero" && argument == true) return is_near_zero(seen);
  if (matcher == "$ge" && argument.is_number()) return at_least(seen, argument);
  if (matcher == "$ge_ms" && argument.is_number()) return at_least(seen, argument.get<double>() * 1e6);
  if (matcher == "$not") return !equal(argument, seen, bindings);
  const std::string text = string_of(argument, matcher);
  if (matcher == "$type" || matcher == "$any") return has_type(seen, text);
  if (matcher == "$list") return is_list_of(seen, text);
  if (matcher == "$matches") return contains_match(seen, text);
  if (matcher == "$bind") return true;
  if (matcher == "$same") return equal(captured(bindings, text), seen, {});
  if (matcher == "$differs") return !equal(captured(bindings, text), seen, {});
  if (matcher == "$ge_bound") return at_least(seen, captured(bindings, text));
  const auto value = evaluate(text, bindings);  // $expr
  return value && equal(*value, seen, {});
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

bool equal(const Json& expected, const Json& seen, const Bindings& bindings) {
  Mismatches mismatches;
  Walk(bindings, mismatches).compare("", expected, seen);
  return mismatches.empty();
}

// Throws Inexpressible for an unknown matcher, even if the comparison would not reach it.
void check_matchers(const Json& expected) {
  static const std::set<std::string> known = {"$type",      "$any",  "$list",   "$ge",      "$ge_ms",
                                              "$near_zero", "$bind", "$same",   "$differs", "$ge_bound",
                                              "$expr",      "$not",  "$matches"};
  if (is_matcher(expected)) {
    for (const auto& [matcher, argument] : expected.items()) {
      if (known.count(matcher) == 0) throw Inexpressible("unknown matcher " + matcher);
    }
  }
  if (expected.is_structured()) std::for_each(expected.begin(), expected.end(), check_matchers);
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

}  // namespace

void Comparison::add(const std::string& where, Json expected, Json seen) {
  Json list = Json::array();
  list.push_back(std::move(expected));
  check_matchers(list);
  parts_.push_back({where, std::move(list), {[seen = std::move(seen)](const Json&) { return seen; }}, false, false});
}

void Comparison::add_items(const std::string& where, const Json& expected, std::vector<Seen> seen, bool in_any_order) {
  constexpr std::size_t kMostInAnyOrder = 7;  // 5040 orders
  if (!expected.is_array()) throw Inexpressible(where + " is no list: " + expected.dump());
  if (in_any_order && expected.size() > kMostInAnyOrder) {
    throw Inexpressible(where + ": too long for a list in any order");
  }
  check_matchers(expected);
  parts_.push_back({where, expected, std::move(seen), true, in_any_order});
}

Mismatches Comparison::compare(const Orders& orders, Bindings& bindings) const {
  std::set<std::string> names;
  for (const Part& part : parts_) declare(part.expected, bindings, names);
  std::vector<Json> seen_parts;
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const Json& expected = parts_[i].expected;
    Json seen = Json::array();
    for (const std::size_t at : orders[i]) {
      seen.push_back(parts_[i].seen[at](seen.size() < expected.size() ? expected[seen.size()] : Json()));
    }
    capture(expected, seen, bindings);
    seen_parts.push_back(std::move(seen));
  }
  Mismatches mismatches;
  Walk walk(bindings, mismatches);
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const Part& part = parts_[i];
    walk.compare(part.where, part.is_list ? part.expected : part.expected[0],
                 part.is_list ? seen_parts[i] : seen_parts[i][0]);
  }
  return mismatches;
}

// Makes the next orders of the lists that may be in any order. False if there are no more.
bool Comparison::next(Orders& orders) const {
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const Part& part = parts_[i];
    if (!part.in_any_order || part.seen.size() != part.expected.size()) continue;
    if (std::next_permutation(orders[i].begin(), orders[i].end())) return true;
  }
  return false;
}

Mismatches Comparison::mismatches(Bindings& bindings) const {
  Orders orders;
  for (const Part& part : parts_) {
    std::vector<std::size_t> order(part.seen.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    orders.push_back(std::move(order));
  }
  // If no order matches, the reported mismatches are those of the order in which the items were seen.
  const Bindings before = bindings;
  Mismatches first = compare(orders, bindings);
  const Bindings first_bindings = bindings;
  for (bool found = first.empty(); !found; found = compare(orders, bindings).empty()) {
    bindings = before;
    if (!next(orders)) {
      bindings = first_bindings;
      return first;
    }
  }
  return {};
}

}  // namespace cases
