// SPDX-License-Identifier: Apache-2.0
// W3C tracestate headers.
#include "base/clean_text.h"
#include "base/counters.h"
#include "state/header_store.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace nopspan::detail {
namespace {

constexpr std::size_t kMaxItems = 32;  // W3C Trace Context, 3.3.1.1
bool is_lower_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

// True for a simple-key, or a multi-tenant key tenant@system, of the specification.
bool is_key(std::string_view key) {
  const std::size_t at = key.find('@');
  const auto is_part = [](std::string_view part, std::size_t longest, bool digit_first) {
    if (part.empty() || part.size() > longest) return false;
    if (!(part[0] >= 'a' && part[0] <= 'z') && !(digit_first && part[0] >= '0' && part[0] <= '9')) return false;
    return std::all_of(part.begin(), part.end(),
                       [](char c) { return is_lower_or_digit(c) || c == '_' || c == '-' || c == '*' || c == '/'; });
  };
  // The second edition of the specification allows a simple key to begin with a digit.
  if (at == std::string_view::npos) return is_part(key, 256, true);
  return is_part(key.substr(0, at), 241, true) && is_part(key.substr(at + 1), 14, false);
}

bool is_value(std::string_view value) {
  if (value.empty() || value.size() > 256 || value.back() == ' ') return false;
  return std::all_of(value.begin(), value.end(), [](char c) { return c >= 0x20 && c <= 0x7e && c != ',' && c != '='; });
}

struct Items {
  std::array<std::string_view, kMaxItems> at;
  std::size_t count = 0;
  std::size_t bytes = 0;  // of all items with the commas between them
};

// Splits a header into its items. False if it is malformed.
bool parse(std::string_view header, Items& items) {
  while (true) {
    const std::size_t comma = header.find(',');
    const std::string_view item = trim(header.substr(0, comma));
    if (!item.empty()) {  // empty items are allowed
      const std::size_t equals = item.find('=');
      if (equals == std::string_view::npos) return false;
      const std::string_view key = item.substr(0, equals);
      if (!is_key(key) || !is_value(item.substr(equals + 1)) || items.count == kMaxItems) return false;
      for (std::size_t i = 0; i < items.count; ++i) {
        if (items.at[i].substr(0, items.at[i].find('=')) == key) return false;  // a key may occur only once
      }
      items.at[items.count++] = item;
      items.bytes += item.size() + (items.count > 1 ? 1 : 0);
    }
    if (comma == std::string_view::npos) return true;
    header.remove_prefix(comma + 1);
  }
}

// Removes whole items, and counts them, until the rest fits: first those of more than 128 bytes, then from the end
// (W3C Trace Context, section 3.3.1.5).
void shorten(Items& items) {
  const auto remove = [&](std::size_t i) {
    items.bytes -= items.at[i].size() + (items.count > 1 ? 1 : 0);
    std::move(items.at.begin() + static_cast<std::ptrdiff_t>(i) + 1,
              items.at.begin() + static_cast<std::ptrdiff_t>(items.count),
              items.at.begin() + static_cast<std::ptrdiff_t>(i));
    --items.count;
    count(counters.invalid_tracestate);
  };
  for (std::size_t i = items.count; i-- > 0 && items.bytes > kMaxTracestateBytes;) {
    if (items.at[i].size() > 128) remove(i);
  }
  while (items.bytes > kMaxTracestateBytes) remove(items.count - 1);
}

}  // namespace

std::size_t check_tracestate(const Text* lines, std::size_t count_of_lines, char* out) noexcept {
  Items items;
  for (std::size_t i = 0; i < count_of_lines; ++i) {
    if (parse(lines[i].view(), items)) continue;
    count(counters.invalid_tracestate);
    return 0;
  }
  shorten(items);
  std::size_t size = 0;
  for (std::size_t i = 0; i < items.count; ++i) {
    if (i > 0) out[size++] = ',';
    std::memcpy(out + size, items.at[i].data(), items.at[i].size());
    size += items.at[i].size();
  }
  return size;
}

}  // namespace nopspan::detail
