// SPDX-License-Identifier: Apache-2.0
// The rows of `nopspan hist`, and how they are printed.
#pragma once

#include "base/log_linear.h"
#include "facts/row_key.h"
#include "hist/hist_quantity.h"
#include "model/ledger.h"

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
  using Key = std::vector<std::string>;  // a text for each dimension of `by`, as the process wrote it

  Grouping by;
  const Quantity* of = nullptr;
  std::vector<std::string> hosts;
  std::uint64_t began_unix_ns = 0, ended_unix_ns = 0;
  std::map<Key, HistRow> rows;
  HistRow other;                // all keys beyond the limit of rows
  std::uint64_t malformed = 0;  // spans whose list of gaps is not valid; they are in no row
  LedgerSum ledger;             // delivered: the entries in `rows` and `other`

  // Does nothing if the name is empty or already there.
  void add_host(const std::string& host);
  // The rows, the most frequent first.
  [[nodiscard]] std::vector<const std::pair<const Key, HistRow>*> sorted() const;
};

// {"of": "duration", "by": ["name", "model"], "hosts": […], "began_unix_ns": …, "ended_unix_ns": …,
//  "rows": [{"name": …, "model": …, "errors": …, "cancelled": …, "p50": …, "p90": …, "p99": …, "histogram": {…}}],
//  "other": {… the same without a key …}, "malformed": …, "ledger": {…}}; log_linear.h describes a histogram,
//  ledger.h the ledger.
nlohmann::ordered_json to_json(const HistTable& table);

struct HistStyle {
  std::size_t width = 80;  // columns
  bool color = false;
  bool blocks = true;         // UTF-8 block characters instead of ASCII
  std::size_t most_rows = 0;  // 0: all

  // Suits stdout: `width` is that of the terminal (otherwise COLUMNS, otherwise 80), and `blocks` is set if the locale
  // is UTF-8.
  static HistStyle of_stdout(bool color);
};

std::string to_text(const HistTable& table, const HistStyle& style);
// The ledger as all commands print it, and the number of times in the row `other`.
std::string ledger_text(const HistTable& table);

}  // namespace nopspan::collector
