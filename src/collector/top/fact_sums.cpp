// SPDX-License-Identifier: Apache-2.0
#include "top/fact_sums.h"

#include "base/saturating.h"
#include "facts/engine_facts.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::size_t kMostFactBytes = 128;

std::string_view cut_fact(std::string_view text) { return text.substr(0, kMostFactBytes); }

}  // namespace

bool FactSums::take_room() {
  const bool has_room = sums_ < kMost;
  if (has_room) {
    ++sums_;
  } else {
    ++dropped_;
  }
  return has_room;
}

void FactSums::add(const Entry& entry) {
  if (!has_engine_facts(entry)) return;
  const auto wanted = std::tuple(cut_fact(entry.name), cut_fact(entry.engine), cut_fact(entry.model));
  const auto key_of = [](const Row& row) {
    return std::tuple(std::string_view(row.name), std::string_view(row.engine), std::string_view(row.model));
  };
  auto row = std::lower_bound(rows_.begin(), rows_.end(), wanted,
                              [&](const Row& one, const auto& key) { return key_of(one) < key; });
  if (row == rows_.end() || key_of(*row) != wanted) {
    if (!take_room()) return;
    row = rows_.insert(row, Row{std::string(std::get<0>(wanted)),
                                std::string(std::get<1>(wanted)),
                                std::string(std::get<2>(wanted)),
                                0,
                                {},
                                {}});
  }
  ++row->count;
  const auto add_number = [&](std::string_view key, std::uint64_t more) {
    auto sum = row->sums.find(cut_fact(key));
    if (sum == row->sums.end()) {
      if (!take_room()) return;
      sum = row->sums.emplace(cut_fact(key), 0).first;
    }
    sum->second = saturating_sum(sum->second, more);
  };
  const auto add_text = [&](std::string_view key, std::string_view text) {
    const std::pair<std::string, std::string> both(key, cut_fact(text));
    if (row->texts.contains(both) || take_room()) ++row->texts[both];
  };
  for_each_engine_fact(entry, add_number, add_text);
}

}  // namespace nopspan::collector
