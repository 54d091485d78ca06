// SPDX-License-Identifier: Apache-2.0
// Records which process created each row of a table that has a limit of rows. If the table is full, a process that
// creates ever new keys must not keep others from having rows.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

namespace nopspan::collector {

// Processes are numbers (number_of() in row_key.h).
template <typename Row>
class RowShares {
 public:
  void add(std::uint64_t process, Row* row) {
    auto& rows = rows_[process];
    count(process, rows.size(), rows.size() + 1);
    rows.push_back(row);
  }
  void remove(std::uint64_t process, Row* row) {
    const auto found = rows_.find(process);
    auto& rows = found->second;
    count(process, rows.size(), rows.size() - 1);
    rows.erase(std::find(rows.rbegin(), rows.rend(), row).base() - 1);
    if (rows.empty()) rows_.erase(found);
  }
  [[nodiscard]] std::size_t rows_of(std::uint64_t process) const {
    const auto found = rows_.find(process);
    return found == rows_.end() ? 0 : found->second.size();
  }
  // Chooses the row that makes room for a row of `process`: the newest row of the process that has the most rows. That
  // process still has at least as many rows as `process` afterwards. Otherwise returns null. Removes the row here.
  Row* take_for(std::uint64_t process) {
    if (most_.empty()) return nullptr;
    const auto [count, owner] = *most_.rbegin();
    if (count < rows_of(process) + 2) return nullptr;
    Row* const row = rows_.find(owner)->second.back();
    remove(owner, row);
    return row;
  }

 private:
  void count(std::uint64_t process, std::size_t before, std::size_t after) {
    if (before > 0) most_.erase({before, process});
    if (after > 0) most_.insert({after, process});
  }

  std::unordered_map<std::uint64_t, std::vector<Row*>> rows_;  // in the order of their creation
  std::set<std::pair<std::size_t, std::uint64_t>> most_;       // number of rows, process
};

}  // namespace nopspan::collector
