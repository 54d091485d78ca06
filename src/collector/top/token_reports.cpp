// SPDX-License-Identifier: Apache-2.0
#include "top/token_reports.h"

#include "base/random.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace nopspan::collector {

TokenReports::TokenReports(TakeBack take_back) : take_back_(std::move(take_back)), seed_(random_seed()) {}

// In huge pages if the system has some. The places of spans are random, so that with usual pages the processor would
// look up the page of almost every one.
std::unique_ptr<TokenReports::Set[], TokenReports::FreeSets> TokenReports::make_sets() {
  constexpr std::size_t kBytes = kSets * sizeof(Set), kHugePage = std::size_t{2} << 20U;
  std::unique_ptr<Set[], FreeSets> sets(static_cast<Set*>(std::aligned_alloc(kHugePage, kBytes)));
  if (!sets) throw std::bad_alloc();
  static_cast<void>(::madvise(sets.get(), kBytes, MADV_HUGEPAGE));
  std::uninitialized_value_construct_n(sets.get(), kSets);
  return sets;
}

// An even number. It depends on a random seed, because hostile processes could choose ids with equal hashes.
std::uint64_t TokenReports::key_of(const Entry& span, std::uint64_t id) const {
  if (id == 0) return 0;
  std::uint64_t halves[2];
  std::memcpy(halves, span.trace_id.bytes, sizeof(halves));
  std::uint64_t key = (id ^ halves[0] ^ halves[1] ^ seed_) * 0xff51afd7ed558ccdU;
  key = (key ^ (key >> 32U)) * 0xc4ceb9fe1a85ec53U;
  return (key ^ (key >> 29U)) & ~std::uint64_t{1};
}

TokenReports::Link* TokenReports::find(std::uint64_t span) {
  auto& links = set_of(span).links;
  auto* const found = std::find_if(links.begin(), links.end(), [span](const Link& link) { return link.span == span; });
  return found == links.end() ? nullptr : &*found;
}

void TokenReports::add(const Entry& span, const std::vector<std::uint64_t>* rows, std::uint64_t second) {
  if (span.trace_id.empty()) return;
  Waiting& added = waiting_[waiting_count_++];
  added.span = key_of(span, span.span_id);
  added.parent = key_of(span, span.parent_id);
  added.has_tokens =
      rows != nullptr && span.has_usage && span.counts_tokens && (span.usage.input != 0 || span.usage.output != 0);
  if (added.has_tokens) added.tokens = {second, span.usage, *rows};
  Set& set = set_of(added.span);
  for (std::size_t i = 0; i < set.links.size(); i += kLinksALine) __builtin_prefetch(&set.links[i], 1);
  if (waiting_count_ == waiting_.size()) settle();
}

void TokenReports::settle() {
  for (std::size_t i = 0; i < waiting_count_; ++i) settle(waiting_[i]);
  waiting_count_ = 0;
}

void TokenReports::settle(Waiting& added) {
  Link* link = find(added.span);
  const bool was_expected = expected_.erase(added.span) != 0;
  const bool is_inside = was_expected || (link != nullptr && (link->parent & 1U) != 0);
  if (link == nullptr) {
    auto& links = set_of(added.span).links;
    std::move_backward(links.begin(), links.end() - 1, links.end());
    link = links.data();
  }
  *link = {added.span, added.parent | (is_inside ? 1U : 0U)};
  if (added.has_tokens) remember(added.span, std::move(added.tokens));
  if (is_inside) take_back(added.span);
  if (is_inside || added.has_tokens) mark(added.parent);
}

void TokenReports::remember(std::uint64_t span, Counted report) {
  if (reports_order_.size() == kMost) {
    reports_.erase(reports_order_.front());
    reports_order_.pop_front();
  }
  reports_order_.push_back(span);
  reports_[span] = std::move(report);
}

void TokenReports::take_back(std::uint64_t span) {
  if (const auto report = reports_.extract(span)) take_back_(report.mapped());
}

// Notes for a span and all that it is in that there are tokens inside. Each span is marked once.
void TokenReports::mark(std::uint64_t span) {
  while (span != 0) {
    take_back(span);
    Link* const link = find(span);
    if (link == nullptr) return expect(span);
    if ((link->parent & 1U) != 0) return;
    span = link->parent;
    link->parent |= 1U;
  }
}

void TokenReports::expect(std::uint64_t span) {
  if (!expected_.insert(span).second) return;
  if (expected_order_.size() == kMostExpected) {
    expected_.erase(expected_order_.front());
    expected_order_.pop_front();
  }
  expected_order_.push_back(span);
}

}  // namespace nopspan::collector
