// SPDX-License-Identifier: Apache-2.0
#include <nopspan/event.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

namespace nopspan {
namespace {

void write_string(std::string_view text, std::string& out) {
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (byte < 0x20) {
      constexpr char kHex[] = "0123456789abcdef";
      out += "\\u00";
      out += kHex[byte >> 4U];
      out += kHex[byte & 15U];
    } else {
      out += c;
    }
  }
  out += '"';
}

void write_double(double number, std::string& out) {
  if (!std::isfinite(number)) {
    out += std::isnan(number) ? "\"NaN\"" : number > 0 ? "\"Infinity\"" : "\"-Infinity\"";
    return;
  }
  char text[32];
  auto* const end = std::to_chars(text, text + sizeof(text), number).ptr;
  const std::string_view written(text, static_cast<std::size_t>(end - text));
  out += written;
  if (written.find_first_of(".e") == std::string_view::npos) out += ".0";  // so that a reader gets a double again
}

// Writes a value that is not a list or map.
void write_leaf(const Value& value, std::string& out) {
  switch (value.type()) {
    case Value::Type::boolean:
      out += value.as_bool() ? "true" : "false";
      break;
    case Value::Type::integer:
      out += std::to_string(value.as_int());
      break;
    case Value::Type::real:
      write_double(value.as_double(), out);
      break;
    case Value::Type::string:
      write_string(value.as_string(), out);
      break;
    default:
      out += "null";
      break;
  }
}

// A list or map of which some items are written.
struct Open {
  const Value* value;
  std::size_t written = 0;
};

bool is_nested(const Value& value) noexcept {
  return value.type() == Value::Type::list || value.type() == Value::Type::map;
}

// Writes the next item, or the end. Returns the item if it is a list or map: only its begin is written then.
const Value* write_next(Open& open, std::string& out) {
  const Value& value = *open.value;
  const bool is_map = value.type() == Value::Type::map;
  if (open.written == (is_map ? value.as_map().size() : value.as_list().size())) {
    out += is_map ? '}' : ']';
    return nullptr;
  }
  if (open.written > 0) out += ',';
  if (is_map) {
    write_string(value.as_map()[open.written].first, out);
    out += ':';
  }
  const Value& item = is_map ? value.as_map()[open.written].second : value.as_list()[open.written];
  ++open.written;
  if (!is_nested(item)) {
    write_leaf(item, out);
    return &value;
  }
  out += item.type() == Value::Type::map ? '{' : '[';
  return &item;
}

}  // namespace

const Value* Value::find(std::string_view key) const& noexcept {
  const auto found = std::find_if(map_.begin(), map_.end(), [&](const auto& entry) { return entry.first == key; });
  return found == map_.end() ? nullptr : &found->second;
}

std::optional<Value> Value::find(std::string_view key) && {
  const Value* found = find(key);  // this is an lvalue
  return found != nullptr ? std::optional<Value>(std::move(const_cast<Value&>(*found))) : std::nullopt;
}

Value& Value::set(std::string_view key, Value value) {
  if (type_ != Type::map) *this = Value::map();
  const auto found = std::find_if(map_.begin(), map_.end(), [&](const auto& entry) { return entry.first == key; });
  if (found != map_.end()) {
    found->second = std::move(value);
  } else {
    map_.emplace_back(key, std::move(value));
  }
  return *this;
}

namespace {

using Pairs = std::vector<std::pair<const Value*, const Value*>>;

// Adds the pairs that must be equal for two lists or maps to be equal. Returns false if these are not equal anyway.
bool add_items(const Value& a, const Value& b, Pairs& pairs) {
  if (a.as_list().size() != b.as_list().size() || a.as_map().size() != b.as_map().size()) return false;
  for (std::size_t i = 0; i < a.as_list().size(); ++i) pairs.emplace_back(&a.as_list()[i], &b.as_list()[i]);
  // A map may have been made with the same key twice. As in find(), the first value of each key counts.
  for (const auto& entry : b.as_map()) {
    if (a.find(entry.first) == nullptr) return false;
  }
  for (const auto& entry : a.as_map()) {
    if (a.find(entry.first) != &entry.second) continue;
    const Value* const other = b.find(entry.first);
    if (other == nullptr) return false;
    pairs.emplace_back(&entry.second, other);
  }
  return true;
}

bool is_equal_leaf(const Value& a, const Value& b) noexcept {
  switch (a.type()) {
    case Value::Type::boolean:
      return a.as_bool() == b.as_bool();
    case Value::Type::integer:
      return a.as_int() == b.as_int();
    case Value::Type::real:
      return a.as_double() == b.as_double();
    case Value::Type::string:
      return a.as_string() == b.as_string();
    default:
      return true;
  }
}

}  // namespace

bool operator==(const Value& a, const Value& b) {
  if (!is_nested(a)) return a.type() == b.type() && is_equal_leaf(a, b);
  for (Pairs left{{&a, &b}}; !left.empty();) {
    const auto [one, other] = left.back();
    left.pop_back();
    if (one->type() != other->type()) return false;
    if (is_nested(*one) ? !add_items(*one, *other, left) : !is_equal_leaf(*one, *other)) return false;
  }
  return true;
}

void Value::copy_items(const Value& other) {
  std::vector<std::pair<const Value*, Value*>> left;
  const auto copy_one = [&](const Value& item, Value& copy) {
    if (item.has_items()) left.emplace_back(&item, &copy);
  };
  const Value* from = &other;
  for (Value* to = this;; std::tie(from, to) = left.back(), left.pop_back()) {
    to->list_.reserve(from->list_.size());  // so that the copies stay where they are
    to->map_.reserve(from->map_.size());
    for (const Value& item : from->list_) copy_one(item, to->list_.emplace_back(leaf_of(item)));
    for (const auto& [key, item] : from->map_) copy_one(item, to->map_.emplace_back(key, leaf_of(item)).second);
    if (left.empty()) return;
  }
}

// Goes down to the last item that has items, and removes items from the last one on. A value with items does not need
// its number, so `integer_` has the address of the value that contains it. Nothing is allocated.
void Value::destroy_items() noexcept {
  const auto remove_last = [](Value& from) {
    if (!from.list_.empty()) {
      from.list_.pop_back();
    } else {
      from.map_.pop_back();
    }
  };
  for (Value* at = this;;) {
    while (at->has_items()) {
      Value& last = at->list_.empty() ? at->map_.back().second : at->list_.back();
      if (last.has_items()) {
        last.integer_ = reinterpret_cast<std::intptr_t>(at);
        at = &last;
      } else {
        remove_last(*at);
      }
    }
    if (at == this) return;
    at = reinterpret_cast<Value*>(at->integer_);  // NOLINT(performance-no-int-to-ptr): it is one
    remove_last(*at);
  }
}

std::string Value::to_string() const {
  std::string out;
  if (!is_nested(*this)) {
    write_leaf(*this, out);
    return out;
  }
  out += type_ == Type::map ? '{' : '[';
  std::vector<Open> open{{this}};
  while (!open.empty()) {
    const Value* const next = write_next(open.back(), out);
    if (next == nullptr) {
      open.pop_back();
    } else if (next != open.back().value) {
      open.push_back({next});
    }
  }
  return out;
}

}  // namespace nopspan
