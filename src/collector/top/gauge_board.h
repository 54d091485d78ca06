// SPDX-License-Identifier: Apache-2.0
// The last value of each gauge and counter that inference engines reported.
#pragma once

#include "facts/row_shares.h"
#include "model/entry.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace nopspan::collector {

struct GaugeReading {
  using Label = std::pair<std::string, std::string>;
  struct Point {
    std::uint64_t increase = 0, unix_ns = 0;
  };

  ProcessPointer process;
  std::string engine, name, model;  // as the process wrote them
  std::int64_t value = 0;
  std::uint64_t maximum = 0;  // 0: none
  std::uint64_t reported_unix_ns = 0;
  std::vector<Label> labels = {};  // sorted, as the process wrote them
  bool is_counter = false;
  std::uint64_t increase = 0;  // of a counter, since its first value here. After a restart it counts from 0
  std::uint64_t restarts = 0;  // of a counter: how often its value fell
  Point older = {}, newer = {}, last = {};  // for per_second()

  // The increase per second of the last 5 to 10 seconds; 0 after the first value.
  [[nodiscard]] double per_second() const;
  void set(const Entry& gauge, std::uint64_t now_unix_ns);
};

class GaugeBoard {
 public:
  static constexpr std::size_t kMost = 256;

  void add(const Entry& gauge, std::uint64_t now_unix_ns);
  // All readings, sorted by process, engine, model, name and labels.
  [[nodiscard]] std::vector<GaugeReading> readings() const;
  [[nodiscard]] std::uint64_t dropped() const { return dropped_; }  // values of gauges beyond kMost, and replaced ones

 private:
  // The first two are the pid and the start of the process.
  using Key =
      std::tuple<std::uint32_t, std::uint64_t, std::string, std::string, std::string, std::vector<GaugeReading::Label>>;

  using Readings = std::map<Key, GaugeReading>;

  bool make_room(std::uint64_t process, std::uint64_t now_unix_ns);

  Readings readings_;
  RowShares<Readings::value_type> shares_;
  std::uint64_t dropped_ = 0;
};

}  // namespace nopspan::collector
