// SPDX-License-Identifier: Apache-2.0
#include "top/gauge_board.h"

#include "model/row_key.h"

#include <algorithm>
#include <string_view>

namespace nopspan::collector {

namespace {

constexpr std::size_t kMostBytes = 256;
// A gauge that has not been reported for one minute may be replaced by a new one.
constexpr std::uint64_t kOld = 60'000'000'000;

std::string cut(std::string_view text) { return std::string(text.substr(0, kMostBytes)); }

}  // namespace

void GaugeBoard::add(const Entry& gauge, std::uint64_t now_unix_ns) {
  Key key{(*gauge.process)->pid, (*gauge.process)->start_ticks, cut(gauge.engine), cut(gauge.model), cut(gauge.name)};
  auto found = readings_.find(key);
  if (found == readings_.end()) {
    const std::uint64_t process = number_of(**gauge.process);
    if (readings_.size() >= kMost && !make_room(process, now_unix_ns)) {
      ++dropped_;
      return;
    }
    GaugeReading reading{*gauge.process, std::get<2>(key), std::get<4>(key), std::get<3>(key), 0, 0, 0};
    found = readings_.emplace(std::move(key), std::move(reading)).first;
    shares_.add(process, &*found);
  }
  found->second.value = gauge.value;
  found->second.maximum = gauge.number;
  found->second.reported_unix_ns = now_unix_ns;
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

}  // namespace nopspan::collector
