// SPDX-License-Identifier: Apache-2.0
#include "matcher.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>

namespace cases {
namespace {

using Bindings = std::map<std::string, Json>;

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
// comparison. Throws Inexpressible for an unknown matcher, even if the comparison would not reach it.
void declare(const Json& expected, Bindings& bindings) {
  static const std::set<std::string> known = {"$type", "$ge", "$bind", "$same", "$expr", "$any", "$list"};
  if (is_matcher(expected)) {
    for (const auto& [matcher, argument] : expected.items()) {
      if (known.count(matcher) == 0) throw Inexpressible("unknown matcher " + matcher);
    }
    if (!expected.contains("$bind")) return;
    const std::string name = string_of(expected["$bind"], "$bind");
    if (!bindings.emplace(name, nullptr).second) throw Inexpressible("\"" + name + "\" is bound twice in one step");
  } else if (expected.is_structured()) {
    for (const Json& item : expected) declare(item, bindings);
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
  items_.push_back({where, std::move(expected), std::move(seen)});
}

void Comparison::add_unordered(const std::string& where, Json expected, Json seen) {
  std::sort(expected.begin(), expected.end());
  std::sort(seen.begin(), seen.end());
  add(where, std::move(expected), std::move(seen));
}

Mismatches Comparison::mismatches() const {
  Bindings bindings;
  Mismatches mismatches;
  for (const Item& item : items_) declare(item.expected, bindings);
  for (const Item& item : items_) capture(item.expected, item.seen, bindings);
  Walk walk(bindings, mismatches);
  for (const Item& item : items_) walk.compare(item.where, item.expected, item.seen);
  return mismatches;
}

}  // namespace cases
