// SPDX-License-Identifier: Apache-2.0
// The rows of `nopspan hist`, and how they are printed.
#pragma once

#include "base/log_linear.h"
#include "facts/row_key.h"
#include "model/entry.h"
#include "model/ledger.h"

#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

// The times and numbers that `nopspan hist` can measure (--of).
struct Quantity {
  // What has it: spans, tool calls, retries, engine steps, a list of gaps (read_gaps()), or an
  // attribute of spans and events.
  enum class In : std::uint8_t { span, tool, retry, step, gap, token_gap, attribute };
  // Nothing if the entry does not have it.
  using Read = std::optional<std::uint64_t> (*)(const Entry& entry);

  const char* name;  // the value of --of
  const char* of;    // for people: "duration of spans"
  In in;
  Read read = nullptr;  // null for lists and attributes
  const char* unit = "ns";
  bool has_status = true;  // the span's status also applies to the measured value, so that errors can be counted
  std::string_view attribute = {};  // the key, if `in` is attribute

  [[nodiscard]] bool is_time() const { return std::string_view(unit) == "ns"; }
  // Whether an entry has a list of them.
  [[nodiscard]] bool is_list() const { return in == In::gap || in == In::token_gap; }
  // Whether the entry is named by Entry::text: the name of the tool, or the name of the span that the retry is in.
  [[nodiscard]] bool is_named_by_text() const { return in == In::tool || in == In::retry; }
};
// Those with a name. Numbers of attributes are quantities too.
const std::vector<Quantity>& quantities();
// A quantity by its name, by the name of a fact (facts/engine_facts.h), or by the name of any attribute ("attr:rows").
// Null if it is none of these. The result lives as long as the program, and is the same for the same quantity. Not
// thread-safe.
const Quantity* find_quantity(std::string_view name);

struct Measured {
  std::uint64_t value = 0;
  std::uint8_t status = kOk;
  std::string_view name;
  std::uint64_t times = 1;
};
// False if the entry does not have the quantity. Negative numbers are not counted, and fractions are rounded.
bool measure(const Entry& entry, const Quantity& quantity, Measured& measured);

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
