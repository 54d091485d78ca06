// SPDX-License-Identifier: Apache-2.0
// The last value of each gauge that inference engines reported.
#pragma once

#include "model/entry.h"
#include "model/row_shares.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

namespace nopspan::collector {

struct GaugeReading {
  ProcessPointer process;
  std::string engine, name, model;  // as the process wrote them
  std::int64_t value = 0;
  std::uint64_t maximum = 0;  // 0: none
  std::uint64_t reported_unix_ns = 0;
};

class GaugeBoard {
 public:
  static constexpr std::size_t kMost = 256;

  void add(const Entry& gauge, std::uint64_t now_unix_ns);
  // All readings, sorted by process, engine, model and name.
  [[nodiscard]] std::vector<GaugeReading> readings() const;
  [[nodiscard]] std::uint64_t dropped() const { return dropped_; }  // values of gauges beyond kMost, and replaced ones

 private:
  // The first two are the pid and the start of the process.
  using Key = std::tuple<std::uint32_t, std::uint64_t, std::string, std::string, std::string>;

  using Readings = std::map<Key, GaugeReading>;

  bool make_room(std::uint64_t process, std::uint64_t now_unix_ns);

  Readings readings_;
  RowShares<Readings::value_type> shares_;
  std::uint64_t dropped_ = 0;
};

}  // namespace nopspan::collector
