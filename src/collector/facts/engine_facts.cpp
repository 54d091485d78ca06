// SPDX-License-Identifier: Apache-2.0
#include "facts/engine_facts.h"

namespace nopspan::collector {
namespace {

// Reads the list of an attribute: value, count, value, count, …
bool read_pairs(const Attribute& list, Gaps& gaps) {
  constexpr unsigned kItems = 1;
  bool is_valid = list.type == Attribute::Type::list, has_value = false;
  std::uint64_t value = 0;
  const bool is_whole = is_valid && for_each_key_value(list.text, kItems, [&](std::string_view item) {
                          Attribute number;
                          is_valid = is_valid && read_value(item, number) && number.type == Attribute::Type::integer &&
                                     number.integer >= 0;
                          if (!is_valid) return;
                          const auto read = static_cast<std::uint64_t>(number.integer);
                          has_value = !has_value;
                          if (has_value) {
                            value = read;
                            is_valid = gaps.empty() || value > gaps.back().first;
                          } else {
                            is_valid = read != 0 && read <= UINT32_MAX && gaps.size() < kMostGaps;
                            if (is_valid) gaps.emplace_back(value, read);
                          }
                        });
  return is_whole && is_valid && !has_value;
}

}  // namespace

bool read_gaps(const Entry& entry, GapsOf of, Gaps& gaps) {
  gaps.clear();
  if (entry.kind != Kind::span || entry.attributes.find("gaps_ns") == std::string_view::npos) return true;
  // The two keys of nopspan's own spans have this prefix. Spans of an application's own names do not have it.
  constexpr std::string_view kPrefix = "nopspan.";
  Attribute by_gap, by_token;
  for_each_key_value(entry.attributes, kSpanAttributes, [&](std::string_view key_value) {
    Attribute attribute;
    if (key_value.find("gaps_ns") == std::string_view::npos || !read_attribute(key_value, attribute)) return;
    if (attribute.key.starts_with(kPrefix)) attribute.key.remove_prefix(kPrefix.size());
    if (attribute.key == "gaps_ns" && by_gap.key.empty()) by_gap = attribute;
    if (attribute.key == "token_gaps_ns" && by_token.key.empty()) by_token = attribute;
  });
  // If each gap brought one token, there is one list.
  const bool is_of_tokens = of == GapsOf::tokens && !by_token.key.empty();
  const Attribute& list = is_of_tokens ? by_token : by_gap;
  if (list.key.empty() || read_pairs(list, gaps)) return true;
  gaps.clear();
  return false;
}

}  // namespace nopspan::collector
