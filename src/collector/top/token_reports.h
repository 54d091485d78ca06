// SPDX-License-Identifier: Apache-2.0
// Finds tokens that several processes report for the same call.
#pragma once

#include "model/entry.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace nopspan::collector {

// The spans of a client and of its server report the same tokens. Within a process the library marks the innermost span
// that reports them (Entry::counts_tokens). This class continues that over processes: if a span with this mark is
// inside another one, the outer one's tokens are taken back. Entries of two processes arrive in any order, so all
// tokens are first counted when they arrive.
//
// A span is known by its id and its trace id together, so that a process can affect only the tokens of requests that it
// was called by.
class TokenReports {
 public:
  // Reports that are remembered. An older one is counted even if a span inside it arrives later.
  static constexpr std::size_t kMost = 32768;

  // Tokens of a span that were counted.
  struct Counted {
    std::uint64_t second = 0;  // that of add()
    Usage usage;
    std::vector<std::uint64_t> rows;  // those of add()
  };
  using TakeBack = std::function<void(const Counted& tokens)>;

  explicit TokenReports(TakeBack take_back);

  // Every span, also those whose tokens are not counted, because they may be between two that report tokens. `rows`
  // are the rows in which its tokens were counted, null if they were not.
  void add(const Entry& span, const std::vector<std::uint64_t>* rows, std::uint64_t second);
  // Calls `take_back` for what has been added. Otherwise it is called a few spans later.
  void settle();

 private:
  static constexpr unsigned kSetBits = 16;
  static constexpr std::size_t kMostExpected = 32768;

  // Keys (key_of()) of a span and of its parent. 0: none.
  struct Link {
    std::uint64_t span = 0;
    std::uint64_t parent = 0;  // bit 0: there are tokens inside the span
  };
  static constexpr std::size_t kCacheLine = 64, kLinksALine = kCacheLine / sizeof(Link);
  // The latest spans whose keys begin with the same bits, the newest first.
  struct alignas(kCacheLine) Set {
    std::array<Link, 8> links;
  };
  // A span that was added and is not in its set yet. The sets have 8 MiB, so the CPU would wait for each of them. It
  // loads the sets of a few spans at the same time.
  struct Waiting {
    std::uint64_t span = 0, parent = 0;  // keys
    bool has_tokens = false;
    Counted tokens;
  };

  [[nodiscard]] std::uint64_t key_of(const Entry& span, std::uint64_t id) const;
  static constexpr std::size_t kSets = std::size_t{1} << kSetBits;
  struct FreeSets {
    void operator()(Set* sets) const { std::free(sets); }
  };
  static std::unique_ptr<Set[], FreeSets> make_sets();
  [[nodiscard]] Set& set_of(std::uint64_t span) { return sets_[span >> (64 - kSetBits)]; }
  [[nodiscard]] Link* find(std::uint64_t span);
  void settle(Waiting& added);
  void remember(std::uint64_t span, Counted report);
  void take_back(std::uint64_t span);
  void mark(std::uint64_t span);
  void expect(std::uint64_t span);

  const TakeBack take_back_;
  const std::uint64_t seed_;
  std::array<Waiting, 16> waiting_;
  std::size_t waiting_count_ = 0;
  const std::unique_ptr<Set[], FreeSets> sets_ = make_sets();
  // Spans that have tokens inside, but are in no set. Most of them have not arrived yet.
  std::unordered_set<std::uint64_t> expected_;
  std::deque<std::uint64_t> expected_order_;
  std::unordered_map<std::uint64_t, Counted> reports_;
  std::deque<std::uint64_t> reports_order_;
};

}  // namespace nopspan::collector
