// SPDX-License-Identifier: Apache-2.0
#include "facts/asked_keys.h"

#include "base/text.h"
#include "model/entry_json.h"
#include "model/service.h"

#include <algorithm>
#include <array>
#include <numeric>

namespace nopspan::collector {
namespace {

constexpr std::size_t kMostKnown = 256, kMostKeyBytes = 64;
constexpr std::size_t kMostRead = 10'000;  // entries whose keys are read

bool has_key(const Entry& entry, std::string_view key) {
  NumberText number;
  Attribute attribute;  // a list has no text
  return !label_or_attribute(entry, key, number).empty() || find_attribute(entry, key, attribute);
}

// How many letters must be inserted, removed, replaced or swapped with the next one.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    before.swap(last);
    last.swap(row);
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      const bool is_swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (is_swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row.back();
}

}  // namespace

AskedKeys::AskedKeys(const Filter& filter, const Grouping& by, const std::vector<std::string>& more)
    : known_({"model", "tenant", "engine", "host", "service.name"}) {
  for (const Filter::Condition& one : filter.where) unseen_.push_back({one.key});
  for (const Dimension& one : by) {
    if (one.which == Dimension::attribute) unseen_.push_back({one.key, true});
  }
  for (const std::string& key : more) unseen_.push_back({key});
}

void AskedKeys::look_at(const Entry& entry) {
  std::erase_if(unseen_, [&](const Asked& asked) { return has_key(entry, asked.key); });
  if (unseen_.empty() || ++entries_ > kMostRead) return;
  const auto add = [this](std::string_view key) {
    if (known_.size() < kMostKnown && key.size() <= kMostKeyBytes) known_.emplace(key);
  };
  bool malformed = false;
  for_each_attribute(entry.attributes, entry.kind == Kind::span ? kSpanAttributes : kEventAttributes, malformed,
                     [&](const Attribute& attribute) { add(attribute.key); });
  each_declared(**entry.process, [&](std::string_view key, std::string_view /*value*/) { add(key); });
}

std::string AskedKeys::text(const std::string& before, const std::string& after) const {
  std::string text;
  if (!are_missing()) return text;
  for (const Asked& asked : unseen_) {
    const std::string other = most_like(asked);
    text += "nopspan: " + before + " " + printable(asked.key) + after;
    text += other.empty() ? "\n" : "; did you mean " + printable(other) + "?\n";
  }
  return text;
}

std::string AskedKeys::most_like(const Asked& asked) const {
  std::set<std::string> words = known_;
  if (asked.groups) words.insert(dimension_names().begin(), dimension_names().end());
  const std::string_view key = std::string_view(asked.key).substr(0, 2 * kMostKeyBytes);
  std::size_t least = 2 + key.size() / 4;
  std::string found;
  if (words.contains(asked.key)) return found;
  for (const std::string& word : words) {
    // "version" is a part of "service.version".
    const bool is_part = key.size() > 2 && word.find(key) != std::string::npos;
    const std::size_t differs = is_part ? 1 : distance(key, word);
    if (differs < least) least = differs, found = word;
  }
  return found;
}

}  // namespace nopspan::collector
