// SPDX-License-Identifier: Apache-2.0
#include "top/gauge_board.h"

#include "base/saturating.h"
#include "facts/engine_facts.h"
#include "facts/row_key.h"
#include "model/entry.h"
#include "model/otlp_wire.h"

#include <nopspan/probes.h>

#include <algorithm>
#include <limits>
#include <string_view>
#include <tuple>
#include <utility>

namespace nopspan::collector {

namespace {

constexpr std::size_t kMostBytes = 256, kMostFactBytes = 128;
// A gauge that has not been reported for one minute may be replaced by a new one.
constexpr std::uint64_t kOld = 60'000'000'000;

constexpr std::size_t kMostLabels = 16;
constexpr std::uint64_t kRateTime = 5 * kSecond;
// A value that is older than the last one by less than this was delivered late. Otherwise the clock was set back.
constexpr std::uint64_t kMostLate = 10 * kSecond;

std::string cut(std::string_view text) { return std::string(text.substr(0, kMostBytes)); }

std::string_view cut_fact(std::string_view text) { return text.substr(0, kMostFactBytes); }

// Lists, maps and bytes are no labels.
std::vector<GaugeReading::Label> labels_of(const Entry& gauge) {
  std::vector<GaugeReading::Label> labels;
  for_each_key_value(gauge.attributes, kEventAttributes, [&](std::string_view key_value) {
    Attribute attribute;
    NumberText number;
    if (labels.size() == kMostLabels || !read_attribute(key_value, attribute)) return;
    const std::string_view text = scalar_text(attribute, number);
    if (!text.empty()) labels.emplace_back(cut(attribute.key), cut(text));
  });
  std::sort(labels.begin(), labels.end());
  return labels;
}

}  // namespace

double GaugeReading::per_second() const {
  if (last.unix_ns <= older.unix_ns) return 0;
  return static_cast<double>(last.increase - older.increase) * 1e9 / static_cast<double>(last.unix_ns - older.unix_ns);
}

void GaugeReading::set(const Entry& gauge, std::uint64_t now_unix_ns) {
  // The values of two threads may arrive in another order than they were reported in.
  const std::uint64_t at_unix_ns = gauge.start_unix_ns;
  if (at_unix_ns < last.unix_ns && last.unix_ns - at_unix_ns < kMostLate) return;
  const bool is_first = reported_unix_ns == 0;
  const bool was_counter = is_counter;
  is_counter = (gauge.flags & NOPSPAN_FLAG_COUNTER) != 0 && gauge.value >= 0;
  if (is_counter && was_counter) {
    const bool has_restarted = gauge.value < value;
    if (has_restarted) ++restarts;
    const auto more = static_cast<std::uint64_t>(has_restarted ? gauge.value : gauge.value - value);
    increase = more > std::numeric_limits<std::uint64_t>::max() - increase ? more : increase + more;
  }
  if (is_first || at_unix_ns < newer.unix_ns || increase < older.increase) {
    older = newer = {increase, at_unix_ns};
  } else if (at_unix_ns - newer.unix_ns >= kRateTime) {
    older = std::exchange(newer, {increase, at_unix_ns});
  }
  last = {increase, at_unix_ns};
  value = gauge.value;
  maximum = gauge.number;
  reported_unix_ns = now_unix_ns;
}

void GaugeBoard::add(const Entry& gauge, std::uint64_t now_unix_ns) {
  Key key{key_of(**gauge.process), cut(gauge.engine), cut(gauge.model), cut(gauge.name), labels_of(gauge)};
  auto found = readings_.find(key);
  if (found == readings_.end()) {
    const std::uint64_t process = number_of(**gauge.process);
    if (readings_.size() >= kMost && !make_room(process, now_unix_ns)) {
      ++dropped_;
      return;
    }
    GaugeReading reading;
    reading.process = *gauge.process;
    std::tie(std::ignore, reading.engine, reading.model, reading.name, reading.labels) = key;
    found = readings_.emplace(std::move(key), std::move(reading)).first;
    shares_.add(process, &*found);
  }
  found->second.set(gauge, now_unix_ns);
}

bool GaugeBoard::make_room(std::uint64_t process, std::uint64_t now_unix_ns) {
  const auto oldest = std::min_element(readings_.begin(), readings_.end(), [](const auto& a, const auto& b) {
    return a.second.reported_unix_ns < b.second.reported_unix_ns;
  });
  if (oldest->second.reported_unix_ns + kOld <= now_unix_ns) {
    shares_.remove(number_of(*oldest->second.process), &*oldest);
    readings_.erase(oldest);
    return true;
  }
  const auto* const replaced = shares_.take_for(process);
  if (replaced == nullptr) return false;
  readings_.erase(replaced->first);
  ++dropped_;
  return true;
}

std::vector<GaugeReading> GaugeBoard::readings() const {
  std::vector<GaugeReading> readings;
  readings.reserve(readings_.size());
  for (const auto& [key, reading] : readings_) readings.push_back(reading);
  return readings;
}

bool FactSums::take_room() {
  if (sums_ == kMost) {
    ++dropped_;
    return false;
  }
  ++sums_;
  return true;
}

void FactSums::add(const Entry& entry) {
  if (!has_engine_facts(entry)) return;
  const Rows::key_type names(cut_fact(entry.name), cut_fact(entry.engine), cut_fact(entry.model));
  if (!rows_.contains(names) && !take_room()) return;
  Row& row = rows_[names];
  ++row.count;
  const auto add_number = [&](std::string_view key, std::uint64_t more) {
    auto sum = row.sums.find(cut_fact(key));
    if (sum == row.sums.end()) {
      if (!take_room()) return;
      sum = row.sums.emplace(cut_fact(key), 0).first;
    }
    sum->second = saturating_sum(sum->second, more);
  };
  const auto add_text = [&](std::string_view key, std::string_view text) {
    const std::pair<std::string, std::string> both(key, cut_fact(text));
    if (row.texts.contains(both) || take_room()) ++row.texts[both];
  };
  for_each_engine_fact(entry, add_number, add_text);
}

}  // namespace nopspan::collector
