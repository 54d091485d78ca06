// SPDX-License-Identifier: Apache-2.0
// Adds up spans by name and model or by another grouping: over a window of seconds, and since the beginning.
#pragma once

#include "base/log_linear.h"
#include "facts/row_key.h"
#include "model/entry.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace nopspan::collector {

// Sums over spans. A sum that would overflow stays at its maximum, which no real spans can reach.
struct Tally {
  std::uint64_t spans = 0;
  std::uint64_t errors = 0;  // fail() and exceptions
  std::uint64_t cancelled = 0;
  std::uint64_t requests = 0;                         // root spans without a remote parent, without linked spans
  std::uint64_t received = 0;                         // root spans with a remote parent
  std::uint64_t orphans = 0;                          // spans that may be root spans (NOPSPAN_FLAG_ORPHAN)
  std::uint64_t input_tokens = 0, output_tokens = 0;  // of spans with counts_tokens, see also token_reports.h
  std::uint64_t retries = 0;
  std::uint64_t duration_sum_ns = 0, duration_max_ns = 0;
  std::uint64_t first_tokens = 0;  // number of spans that had a first token
  std::uint64_t first_token_sum_ns = 0, first_token_max_ns = 0;
  std::uint64_t unplaced = 0;  // values missing in the quantiles, because the memory for histograms was full

  Tally& operator+=(const Tally& other);
  [[nodiscard]] bool empty() const;
};

// Quantiles are within 1.6 %; the maximum is exact. All are 0 if `count` is 0.
struct Quantiles {
  std::uint64_t count = 0, p50 = 0, p90 = 0, p99 = 0, maximum = 0;
};

struct Numbers {
  Tally tally;
  Quantiles duration_ns, first_token_ns;
};

struct RowNumbers {
  std::vector<std::string> texts;  // for each dimension of the grouping, as the process wrote it
  std::uint64_t process = 0;       // identifies the process, if the grouping has processes
  Numbers window, total;
};

struct TableNumbers {
  Grouping by;
  std::uint64_t now_unix_ns = 0;
  std::uint64_t window_ns = 0, since_ns = 0;  // the time that `window` and `total` cover
  std::vector<RowNumbers> rows;               // unsorted
  RowNumbers other;                           // spans of keys beyond the limit of rows
  Tally window, total;                        // sums of all rows, of `other`, and of spans in no row
  bool roots_only = false;                    // inner spans are in no row
  std::uint64_t evicted = 0;                  // rows that were moved into `other` for a new row
};

// A row's durations in ascending order: buckets of LogLinear with their counts.
using Buckets = std::vector<std::pair<std::size_t, std::uint64_t>>;
struct RowDetail {
  RowNumbers numbers;
  Buckets window, total;
};

class SpanTable {
 public:
  // The window has the last `window_seconds` whole seconds and the current one. It is shorter after a time without
  // advance(), because the entries that waited leave it together. If `roots_only`, rows have the
  // counts and durations of root spans only, but tokens, first tokens and retries of all spans.
  SpanTable(Grouping by, std::uint64_t window_seconds, std::size_t most_rows, bool roots_only = false);
  ~SpanTable() = default;
  SpanTable(const SpanTable&) = delete;
  SpanTable& operator=(const SpanTable&) = delete;

  // Adds a span or retry to the current second, which advance() sets. Returns the number of the row that has it. 0:
  // `other`, or none.
  std::uint64_t add(const Entry& entry);
  // Subtracts the tokens of a span that was added to the row with this number in this second. If another row has
  // replaced it since, its tokens are in `other`.
  void take_back_tokens(std::uint64_t number, const Usage& tokens, std::uint64_t second);
  [[nodiscard]] const Grouping& by() const { return by_; }
  [[nodiscard]] std::uint64_t second() const { return second_; }
  // Sets the time. If the clock was set back, the table's time stands still instead.
  void advance(std::uint64_t now_unix_ns);

  [[nodiscard]] TableNumbers numbers() const;
  // Details of the row with these texts and process, or of `other` if there are no texts. Nothing if there is no such
  // row.
  [[nodiscard]] std::optional<RowDetail> detail(const std::vector<std::string>& texts, std::uint64_t process) const;

 private:
  struct Slice {
    Tally tally;
    SliceHistogram durations, first_tokens;
  };
  struct Row {
    std::vector<Slice> ring;
    std::uint64_t number = 0;       // of all rows that there ever were, from 1; 0: `other`
    std::uint64_t last_second = 0;  // the last second with an entry
    // Sums of the slices that have left the ring.
    Tally retired;
    LogLinear retired_durations, retired_first_tokens;
    std::string process;      // the process as text
    std::uint64_t owner = 0;  // the number of the process that created the row
  };
  using Rows = std::unordered_map<RowKey, Row, RowKeyHash, RowKeyEqual>;

  Row& row_of(const Entry& entry);
  Rows::value_type* row_to_evict(std::uint64_t process);
  void evict(Rows::value_type& evicted);
  void roll_to(std::uint64_t second);
  void retire(Row& row, Slice& slice);
  void add_numbers(const Row& row, RowNumbers& numbers) const;
  [[nodiscard]] std::vector<std::string> texts_of(const RowKey& key, const Row& row) const;

  Grouping by_;
  std::size_t most_rows_, ring_size_;
  bool roots_only_;
  BlockStore store_;
  Rows rows_;
  RecentRows<Rows> recent_;
  std::unordered_map<std::uint64_t, Row*> by_number_;
  std::uint64_t last_number_ = 0;
  RowShares<Rows::value_type> shares_;
  Row other_;
  Row inner_;  // spans in no row; without histograms
  std::uint64_t evicted_ = 0;

  std::uint64_t elapsed_ns_ = 0, second_ = 0, last_now_ns_ = 0;
  // The `elapsed_ns_` at which each slot of the rings became the current one. If the collector was held up, the slot
  // before has all entries that waited, and the seconds that were skipped have no time.
  std::vector<std::uint64_t> begins_ns_;
  // Rows that may be evicted. The row that has been idle for the longest time is the last element. Computed in
  // `idle_second_`.
  std::vector<Rows::value_type*> idle_;
  std::uint64_t idle_second_ = UINT64_MAX;
};

}  // namespace nopspan::collector
