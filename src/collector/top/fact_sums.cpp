// SPDX-License-Identifier: Apache-2.0
#include "top/fact_sums.h"

#include "model/otlp_attributes.h"
#include "model/step_facts.h"

#include <algorithm>
#include <iterator>
#include <tuple>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::size_t kMostFactBytes = 128;

std::string_view cut_fact(std::string_view text) { return text.substr(0, kMostFactBytes); }

// Attributes with few texts. The finish reason is not one of them, because it is a list.
bool is_counted_text(std::string_view key) {
  constexpr std::string_view kKeys[] = {"nopspan.reason", "nopspan.mode", "nopspan.tier", "nopspan.direction",
                                        "nopspan.admission_reason"};
  return std::find(std::begin(kKeys), std::end(kKeys), key) != std::end(kKeys);
}

bool is_no_amount(std::string_view key) { return key == "nopspan.arrival_ns" || key == "nopspan.opened_ns"; }

}  // namespace

void FactSums::add(const Entry& entry) {
  if ((entry.kind != Kind::span && entry.kind != Kind::event) || !entry.name.starts_with("engine.")) return;
  const auto wanted = std::tuple(cut_fact(entry.name), cut_fact(entry.engine), cut_fact(entry.model));
  const auto key_of = [](const Row& row) {
    return std::tuple(std::string_view(row.name), std::string_view(row.engine), std::string_view(row.model));
  };
  auto row = std::lower_bound(rows_.begin(), rows_.end(), wanted,
                              [&](const Row& one, const auto& key) { return key_of(one) < key; });
  if (row == rows_.end() || key_of(*row) != wanted) {
    if (sums_ == kMost) {
      ++dropped_;
      return;
    }
    ++sums_;
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
      if (sums_ == kMost) {
        ++dropped_;
        return;
      }
      ++sums_;
      sum = row->sums.emplace(cut_fact(key), 0).first;
    }
    sum->second = more > UINT64_MAX - sum->second ? UINT64_MAX : sum->second + more;
  };
  const auto add_text = [&](std::string_view key, std::string_view text) {
    const std::pair<std::string, std::string> both(key, cut_fact(text));
    if (!row->texts.contains(both)) {
      if (sums_ == kMost) {
        ++dropped_;
        return;
      }
      ++sums_;
    }
    ++row->texts[both];
  };
  if (entry.step != nullptr) for_each_step_fact(*entry.step, add_number);
  for_each_key_value(entry.attributes, entry.kind == Kind::span ? kSpanAttributes : kEventAttributes,
                     [&](std::string_view key_value, std::string_view) {
                       Attribute attribute;
                       if (!read_attribute(key_value, attribute)) return;
                       if (attribute.type == Attribute::Type::text && is_counted_text(attribute.key)) {
                         add_text(attribute.key, attribute.text);
                         return;
                       }
                       if (attribute.type != Attribute::Type::integer || attribute.integer < 0 ||
                           is_no_amount(attribute.key) || (entry.step != nullptr && is_step_fact(attribute.key))) {
                         return;
                       }
                       add_number(attribute.key, static_cast<std::uint64_t>(attribute.integer));
                     });
}

}  // namespace nopspan::collector
