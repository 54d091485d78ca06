// SPDX-License-Identifier: Apache-2.0
// Sums of the numbers of an inference engine's spans and events.
#pragma once

#include "model/entry.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {

// Counts spans and events whose name begins with "engine.", by name, engine and model, and adds up their attributes
// that are integers of at least 0. Times of day and identifiers are not added up. The texts of a few attributes are
// counted, such as the reason of an event.
class FactSums {
 public:
  static constexpr std::size_t kMost = 1024;  // sums and counts of texts, of all rows together

  struct Row {
    std::string name, engine, model;
    std::uint64_t count = 0;
    std::map<std::string, std::uint64_t, std::less<>> sums;                   // saturate
    std::map<std::pair<std::string, std::string>, std::uint64_t> texts = {};  // by attribute and text
  };

  void add(const Entry& entry);
  // Sorted by name, engine and model.
  [[nodiscard]] const std::vector<Row>& rows() const { return rows_; }
  // Numbers that have no sum, and texts that are not counted, because there are kMost.
  [[nodiscard]] std::uint64_t dropped() const { return dropped_; }

 private:
  // Takes the room of one more sum. False if there is none: something is dropped.
  bool take_room();

  std::vector<Row> rows_;
  std::size_t sums_ = 0;  // rows count too
  std::uint64_t dropped_ = 0;
};

}  // namespace nopspan::collector
