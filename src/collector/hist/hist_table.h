// SPDX-License-Identifier: Apache-2.0
// The rows of `nopspan hist`, from a source or from the JSON of other hosts.
#pragma once

#include "base/log_linear.h"
#include "hist/hist_quantity.h"
#include "model/ledger.h"
#include "model/row_key.h"

#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace nopspan::collector {

struct HistRow {
  LogLinear times;
  std::uint64_t errors = 0, cancelled = 0;

  void add(const Measured& measured);
  void merge(const HistRow& row);
};

class HistTable {
 public:
  using Key = std::vector<std::string>;  // as many as `by`, as the process wrote them

  Grouping by;
  const Quantity* of = nullptr;
  std::vector<std::string> hosts;
  std::uint64_t began_unix_ns = 0, ended_unix_ns = 0;
  std::map<Key, HistRow> rows;
  HistRow other;     // all keys that found no room
  LedgerSum ledger;  // delivered are those in the rows and in `other`

  // The key's row, valid as long as the table; `other` if the key is new and there are `most_rows`.
  HistRow& row(const Key& key, std::size_t most_rows);
  void add_host(const std::string& host);
  // Throws Failure with kUsageError if the other one's `by` or `of` differ.
  void merge(const HistTable& table);
  // The greatest count first.
  [[nodiscard]] std::vector<const std::pair<const Key, HistRow>*> sorted() const;
};

// {"of": "duration", "by": ["name", "model"], "hosts": […], "began_unix_ns": …, "ended_unix_ns": …,
//  "rows": [{"name": …, "model": …, "errors": …, "cancelled": …, "p50": …, "p90": …, "p99": …, "histogram": {…}}],
//  "other": {… the same without a key …}, "ledger": {…}}; a histogram is as log_linear.h has it, the ledger as
//  ledger.h.
nlohmann::ordered_json to_json(const HistTable& table);
// Throws Failure with kUsageError if it is nothing that to_json() made.
HistTable hist_table_from_json(const nlohmann::ordered_json& json);

}  // namespace nopspan::collector
