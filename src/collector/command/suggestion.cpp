// SPDX-License-Identifier: Apache-2.0
#include "command/suggestion.h"

#include <algorithm>
#include <numeric>

namespace nopspan::collector {
namespace {

// How many characters to insert, delete or replace (Levenshtein), a row of the table at a time.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string suggestion_for(std::string_view word, const std::vector<std::string>& known) {
  constexpr std::size_t kLongest = 64;
  if (word.size() > kLongest) return "";
  std::string nearest;
  std::size_t least = 3;
  for (const std::string& one : known) {
    const std::size_t edits = distance(word, one);
    if (edits < least && 2 * edits < one.size()) {
      least = edits;
      nearest = one;
    }
  }
  return nearest;
}

}  // namespace nopspan::collector
