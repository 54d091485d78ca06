// SPDX-License-Identifier: Apache-2.0
// Finds tokens that several processes report for the same call.
#pragma once

#include "model/entry.h"
#include "model/row_key.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <unordered_map>
#include <utility>
#include <vector>

namespace nopspan::collector {

// The spans of a client and of its server report the same tokens. Within a process the library marks the innermost span
// that reports them (Entry::counts_tokens). This class continues that over processes: if a span with this mark is
// inside another one, the outer one's tokens are taken back. Entries of two processes arrive in any order, so all
// tokens are first counted when they arrive.
class TokenReports {
 public:
  // Reports that are remembered. An older one is counted even if a span inside it is found later.
  static constexpr std::size_t kMost = 32768;

  // Tokens of a span that were counted.
  struct Counted {
    std::uint64_t span_id = 0, second = 0;  // `second` is that of add()
    Usage usage;
    std::vector<RowKey> rows;  // the rows that have these tokens
  };
  using RowsOf = std::function<std::vector<RowKey>(const Entry& span)>;
  using TakeBack = std::function<void(const Counted& tokens)>;

  TokenReports(RowsOf rows_of, TakeBack take_back) : rows_of_(std::move(rows_of)), take_back_(std::move(take_back)) {}

  // Every span, also those whose tokens are not counted, because they may be between two that report tokens. `second`
  // does not decrease.
  void add(const Entry& span, bool is_counted, std::uint64_t second);
  // Searches again for the outer spans of the latest reports, because spans between may have arrived since.
  void review(std::uint64_t second);
  // The same for all reports, when nothing more will arrive.
  void finish();

 private:
  // Threads deliver their entries within about a second (--max-age).
  static constexpr std::uint64_t kYoungSeconds = 3;
  static constexpr std::size_t kParents = std::size_t{1} << 19U;
  static constexpr unsigned kMostSteps = 64;       // spans between two that report tokens
  static constexpr unsigned kMostOfATrace = 1024;  // latest reports of a request that are searched again

  struct Report : Counted {
    TraceId trace_id;
    std::uint64_t at = 0;     // the ancestor up to which the search for an outer report has come
    std::uint64_t older = 0;  // number of the previous report of the same request; 0: none
    unsigned steps = 0;
    bool is_done = false;  // the outer report was found, or the search was given up
    bool is_taken_back = false;
  };
  struct Parent {
    std::uint64_t span_id = 0, parent_id = 0;
  };
  struct TraceIdHash {
    std::size_t operator()(const TraceId& id) const;
  };

  [[nodiscard]] Report& report(std::uint64_t number) { return reports_[number - first_]; }
  void remember(const Entry& span, std::uint64_t second);
  void forget_oldest();
  void search(Report& report);
  void search_request_of(const Report& report);
  void take_back(Report& report);

  RowsOf rows_of_;
  TakeBack take_back_;
  std::deque<Report> reports_;
  std::uint64_t first_ = 1;                                   // number of the first element of reports_
  std::uint64_t young_ = 1;                                   // number of the first report that review() searches again
  std::unordered_map<std::uint64_t, std::uint64_t> by_span_;  // numbers of reports
  std::unordered_map<TraceId, std::uint64_t, TraceIdHash> by_trace_;  // number of the latest report of each request
  std::vector<Parent> parents_ = std::vector<Parent>(kParents);       // of the latest spans, by span id modulo kParents
};

}  // namespace nopspan::collector
