// SPDX-License-Identifier: Apache-2.0
// The headers of W3C Trace Context (https://www.w3.org/TR/trace-context/) according to their grammar. Shares no code
// with the library's parser.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

inline std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

inline std::string_view without_blanks(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t");
  return begin == std::string_view::npos ? "" : text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

// Whether `text` consists of these characters only.
inline bool is_of(std::string_view text, std::string_view characters) {
  return text.find_first_not_of(characters) == std::string_view::npos;
}

struct Traceparent {
  bool valid = false;
  bool current = false;  // version 00
  std::string trace_id;
  std::string parent_id;
  std::string flags;
};

inline Traceparent read_traceparent(std::string_view header) {
  const std::vector<std::string> fields = split(without_blanks(header), '-');
  constexpr std::size_t kSizes[] = {2, 32, 16, 2};
  if (fields.size() < 4) return {};
  for (std::size_t i = 0; i < 4; ++i) {
    if (fields[i].size() != kSizes[i] || !is_of(fields[i], "0123456789abcdef")) return {};
  }
  Traceparent read;
  read.current = fields[0] == "00";
  const bool more = fields.size() > 4;
  read.valid = fields[0] != "ff" && !is_of(fields[1], "0") && !is_of(fields[2], "0") && !(read.current && more);
  read.trace_id = fields[1];
  read.parent_id = fields[2];
  read.flags = fields[3];
  return read;
}

struct Tracestate {
  std::string header;         // the header to pass on
  std::uint64_t dropped = 0;  // members dropped for their length, or 1 for a malformed header
};

// As in Level 2.
inline bool is_tracestate_key(const std::string& key) {
  constexpr char kFirst[] = "abcdefghijklmnopqrstuvwxyz0123456789";
  return !key.empty() && key.size() <= 256 && is_of(key.substr(0, 1), kFirst) &&
         is_of(key, std::string(kFirst) + "_-*/@");
}

inline bool is_tracestate_value(const std::string& value) {
  const auto allowed = [](char c) { return c >= ' ' && c <= '~' && c != ',' && c != '='; };
  return !value.empty() && value.size() <= 256 && value.back() != ' ' &&
         std::all_of(value.begin(), value.end(), allowed);
}

inline std::string joined(const std::vector<std::string>& members) {
  std::string all;
  for (const std::string& member : members) all += (all.empty() ? "" : ",") + member;
  return all;
}

inline Tracestate read_tracestate(std::string_view header) {
  std::vector<std::string> members;
  for (const std::string& part : split(header, ',')) {
    const std::string member(without_blanks(part));
    if (member.empty()) continue;
    const std::size_t equals = member.find('=');
    if (equals == std::string::npos) return {"", 1};
    if (!is_tracestate_key(member.substr(0, equals)) || !is_tracestate_value(member.substr(equals + 1))) return {"", 1};
    members.push_back(member);
  }
  if (members.size() > 32) return {"", 1};
  Tracestate read;
  while (joined(members).size() > 512) {
    const auto too_long = std::find_if(members.rbegin(), members.rend(), [](const auto& m) { return m.size() > 128; });
    members.erase(too_long == members.rend() ? members.end() - 1 : too_long.base() - 1);
    ++read.dropped;
  }
  read.header = joined(members);
  return read;
}
