// SPDX-License-Identifier: Apache-2.0
// What spans add up to, by name and model or another grouping: over the last seconds, and since the beginning.
#pragma once

#include "base/log_linear.h"
#include "base/slice_histogram.h"
#include "model/row_key.h"
#include "model/span.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace nopspan::collector {

// What adds up. What would not fit stays at its greatest value: it came from no real span.
struct Tally {
  std::uint64_t spans = 0;
  std::uint64_t errors = 0;  // fail() and exceptions
  std::uint64_t cancelled = 0;
  std::uint64_t requests = 0;  // spans that are a request's outermost, in its process; not what requests share
  std::uint64_t orphans = 0;   // may be, or not: they began before the attach (NOPSPAN_FLAG_ORPHAN)
  std::uint64_t input_tokens = 0, output_tokens = 0;  // of spans with tells_tokens, so that none counts twice
  std::uint64_t retries = 0;
  std::uint64_t duration_sum_ns = 0, duration_max_ns = 0;
  std::uint64_t first_tokens = 0;  // spans that had one
  std::uint64_t first_token_sum_ns = 0, first_token_max_ns = 0;
  std::uint64_t unplaced = 0;  // values that quantiles do not know of, because the store of histograms was full

  Tally& operator+=(const Tally& other);
};

// Within 1.6 %; the maximum is exact. 0 where `count` is.
struct Quantiles {
  std::uint64_t count = 0, p50 = 0, p90 = 0, p99 = 0, maximum = 0;
};

struct Numbers {
  Tally tally;
  Quantiles duration_ns, first_token_ns;
};

struct RowNumbers {
  std::vector<std::string> texts;  // as the process wrote them; one for each of the grouping's dimensions
  std::uint64_t process = 0;       // which process it is, where the grouping has processes
  Numbers window, total;
};

struct TableNumbers {
  Grouping by;
  std::uint64_t now_unix_ns = 0;
  std::uint64_t window_ns = 0, since_ns = 0;  // how long a time `window` and `total` are of
  std::vector<RowNumbers> rows;               // in no order
  RowNumbers other;                           // what had no row
  Tally window, total;                        // of all rows and other
  std::uint64_t evicted = 0;                  // rows that went into other for a new one, because nothing came for long
};

// A row's durations: buckets of LogLinear and how many are in them, ascending.
using Buckets = std::vector<std::pair<std::size_t, std::uint64_t>>;
struct RowDetail {
  RowNumbers numbers;
  Buckets window, total;
};

class SpanTable {
 public:
  // Rates and quantiles are of the last `window_seconds` and what has passed of the current one.
  SpanTable(Grouping by, unsigned window_seconds, std::size_t most_rows);
  ~SpanTable() = default;
  SpanTable(const SpanTable&) = delete;
  SpanTable& operator=(const SpanTable&) = delete;

  // Spans and retries; others are none of its business. It counts for the second that advance() told last.
  void add(const Span& span);
  // The time goes on. A clock that is set back does not take the table's back.
  void advance(std::uint64_t now_unix_ns);

  [[nodiscard]] TableNumbers numbers() const;
  // Of the row with these texts and process; with no texts, of `other`.
  [[nodiscard]] std::optional<RowDetail> detail(const std::vector<std::string>& texts, std::uint64_t process) const;

 private:
  struct Slice {
    Tally tally;
    SliceHistogram durations, first_tokens;
  };
  struct Row {
    std::vector<Slice> ring;
    std::uint64_t last_second = 0;  // that something came in
    // What has left the ring.
    Tally retired;
    LogLinear retired_durations, retired_first_tokens;
    std::string process;  // its text
  };
  using Rows = std::unordered_map<RowKey, Row, RowKeyHash, RowKeyEqual>;

  Row& row_of(const Span& span);
  bool make_room();
  void roll_to(std::uint64_t second);
  void retire(Row& row, Slice& slice);
  void add_numbers(const Row& row, RowNumbers& numbers) const;
  [[nodiscard]] std::vector<std::string> texts_of(const RowKey& key, const Row& row) const;

  Grouping by_;
  std::size_t most_rows_, ring_size_;
  BlockStore store_;
  Rows rows_;
  Row other_;
  std::uint64_t evicted_ = 0;

  std::uint64_t elapsed_ns_ = 0, second_ = 0, last_now_ns_ = 0;
  // Rows that may go, the longest idle last; as of `idle_second_`.
  std::vector<Rows::iterator> idle_;
  std::uint64_t idle_second_ = UINT64_MAX;
};

}  // namespace nopspan::collector
