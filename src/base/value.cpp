// SPDX-License-Identifier: Apache-2.0
#include <nopspan/value.h>

#include <algorithm>
#include <charconv>
#include <cmath>

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

void write(const Value& value, std::string& out) {
  switch (value.type()) {
    case Value::Type::null:
      out += "null";
      break;
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
    case Value::Type::list: {
      out += '[';
      const char* separator = "";
      for (const Value& item : value.as_list()) {
        out += separator;
        write(item, out);
        separator = ",";
      }
      out += ']';
      break;
    }
    case Value::Type::map: {
      out += '{';
      const char* separator = "";
      for (const auto& [key, item] : value.as_map()) {
        out += separator;
        write_string(key, out);
        out += ':';
        write(item, out);
        separator = ",";
      }
      out += '}';
      break;
    }
  }
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
// A map may have been made with the same key twice. As in find(), the first value of each key counts.
bool same_entries(const Value& a, const Value& b) noexcept {
  const auto in_a = [&](const auto& entry) { return a.find(entry.first) != nullptr; };
  const auto same = [&](const auto& entry) {
    if (a.find(entry.first) != &entry.second) return true;
    const Value* other = b.find(entry.first);
    return other != nullptr && *other == entry.second;
  };
  return std::all_of(b.as_map().begin(), b.as_map().end(), in_a) &&
         std::all_of(a.as_map().begin(), a.as_map().end(), same);
}
}  // namespace

bool operator==(const Value& a, const Value& b) noexcept {
  if (a.type_ != b.type_) return false;
  switch (a.type_) {
    case Value::Type::null:
      return true;
    case Value::Type::boolean:
    case Value::Type::integer:
      return a.integer_ == b.integer_;
    case Value::Type::real:
      return a.real_ == b.real_;
    case Value::Type::string:
      return a.string_ == b.string_;
    case Value::Type::list:
      return a.list_ == b.list_;
    case Value::Type::map:
      return a.map_.size() == b.map_.size() && same_entries(a, b);
  }
  return false;
}

std::string Value::to_string() const {
  std::string out;
  write(*this, out);
  return out;
}

}  // namespace nopspan
