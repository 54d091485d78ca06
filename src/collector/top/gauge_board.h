// SPDX-License-Identifier: Apache-2.0
// The last value of each gauge and counter that inference engines reported.
#pragma once

#include "facts/row_key.h"
#include "model/entry.h"

#include <cstddef>
#include <cstdint>
#include <functional>
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
  using Key = std::tuple<ProcessKey, std::string, std::string, std::string, std::vector<GaugeReading::Label>>;

  using Readings = std::map<Key, GaugeReading>;

  bool make_room(std::uint64_t process, std::uint64_t now_unix_ns);

  Readings readings_;
  RowShares<Readings::value_type> shares_;
  std::uint64_t dropped_ = 0;
};

// Counts spans and events whose name begins with "engine.", by name, engine and model, and adds up their attributes
// that are integers of at least 0. Times of day and identifiers are not added up. The texts of a few attributes are
// counted, such as the reason of an event.
class FactSums {
 public:
  static constexpr std::size_t kMost = 1024;  // sums and counts of texts, of all rows together

  struct Row {
    std::uint64_t count = 0;
    std::map<std::string, std::uint64_t, std::less<>> sums;                   // saturate
    std::map<std::pair<std::string, std::string>, std::uint64_t> texts = {};  // by attribute and text
  };

  void add(const Entry& entry);
  // By name, engine and model.
  using Rows = std::map<std::tuple<std::string, std::string, std::string>, Row>;
  [[nodiscard]] const Rows& rows() const { return rows_; }
  // Numbers that have no sum, and texts that are not counted, because there are kMost.
  [[nodiscard]] std::uint64_t dropped() const { return dropped_; }

 private:
  // Takes the room of one more sum. False if there is none: something is dropped.
  bool take_room();

  Rows rows_;
  std::size_t sums_ = 0;  // rows count too
  std::uint64_t dropped_ = 0;
};

}  // namespace nopspan::collector
