// SPDX-License-Identifier: Apache-2.0
#include "top/span_table.h"

#include "base/saturating.h"
#include "model/steps.h"

#include <nopspan/probes.h>

#include <algorithm>

namespace nopspan::collector {

namespace {

// 32 MiB. 1000 rows with a window of ten seconds need about 9 MiB, unless their durations spread over all orders of
// magnitude.
constexpr std::size_t kMostBlocks = (std::size_t{32} << 20U) / sizeof(BlockStore::Block);

void add_to(std::uint64_t& sum, std::uint64_t value) { sum = saturating_sum(sum, value); }

void take_from(std::uint64_t& sum, std::uint64_t value) { sum -= std::min(sum, value); }

void add_slice(LogLinear& all, const SliceHistogram& slice, const BlockStore& store) {
  slice.for_each(store, [&](std::size_t octave, const BlockStore::Block& block) {
    for (std::size_t i = 0; i < block.size(); ++i) {
      if (block[i] != 0) all.add_bucket((octave << LogLinear::kSubBits) + i, block[i]);  // most are 0
    }
  });
}

// `times` has the buckets of the values only, and not their maximum.
Quantiles quantiles_of(const LogLinear& times, std::uint64_t maximum) {
  if (times.count() == 0) return {0, 0, 0, 0, maximum};
  const auto quantile = [&](unsigned percent) {
    const bool is_maximum = LogLinear::rank_of(times.count(), percent) == times.count();
    return is_maximum ? maximum : std::min(times.quantile(percent), maximum);
  };
  return {times.count(), quantile(50), quantile(90), quantile(99), maximum};
}

Buckets buckets_of(const LogLinear& times) {
  Buckets found;
  for (std::size_t bucket = 0; bucket < LogLinear::kBuckets; ++bucket) {
    if (const std::uint64_t count = times.in_bucket(bucket); count != 0) found.emplace_back(bucket, count);
  }
  return found;
}

bool is_root_span(const Entry& entry) {
  return entry.span_id == entry.root_id && !is_linked(entry) && !is_step(entry) &&
         (entry.flags & NOPSPAN_FLAG_ORPHAN) == 0;
}

void add_span(const Entry& entry, Tally& tally) {
  ++tally.spans;
  if (entry.failed()) ++tally.errors;
  if (entry.status == kCancelled) ++tally.cancelled;
  if ((entry.flags & NOPSPAN_FLAG_ORPHAN) != 0 && !is_step(entry)) {
    ++tally.orphans;
  } else if (is_root_span(entry)) {
    ++((entry.flags & NOPSPAN_FLAG_REMOTE_PARENT) != 0 ? tally.received : tally.requests);
  }
  add_to(tally.duration_sum_ns, entry.duration_ns);
  tally.duration_max_ns = std::max(tally.duration_max_ns, entry.duration_ns);
}

}  // namespace

Tally& Tally::operator+=(const Tally& other) {
  for (std::uint64_t Tally::*const count :
       {&Tally::spans, &Tally::errors, &Tally::cancelled, &Tally::requests, &Tally::received, &Tally::orphans,
        &Tally::input_tokens, &Tally::output_tokens, &Tally::retries, &Tally::duration_sum_ns, &Tally::first_tokens,
        &Tally::first_token_sum_ns, &Tally::unplaced}) {
    add_to(this->*count, other.*count);
  }
  duration_max_ns = std::max(duration_max_ns, other.duration_max_ns);
  first_token_max_ns = std::max(first_token_max_ns, other.first_token_max_ns);
  return *this;
}

bool Tally::empty() const {
  return spans == 0 && retries == 0 && input_tokens == 0 && output_tokens == 0 && first_tokens == 0;
}

SpanTable::SpanTable(Grouping by, std::uint64_t window_seconds, std::size_t most_rows, bool roots_only)
    : by_(std::move(by)),
      most_rows_(most_rows),
      ring_size_(window_seconds + 1),
      roots_only_(roots_only),
      store_(kMostBlocks),
      begins_ns_(ring_size_) {
  rows_.reserve(most_rows_);
  other_.ring.resize(ring_size_);
  inner_.ring.resize(ring_size_);
}

std::uint64_t SpanTable::add(const Entry& entry) {
  const bool is_inner = roots_only_ && entry.kind == Kind::span && !is_root_span(entry);
  const bool has_tokens = entry.has_usage && entry.counts_tokens;
  if (is_inner) {
    add_span(entry, inner_.ring[second_ % ring_size_].tally);
    if (!has_tokens && !entry.has_first_token) return 0;
  }
  Row& row = row_of(entry);
  row.last_second = second_;
  Slice& slice = row.ring[second_ % ring_size_];
  if (entry.kind == Kind::retry) {
    ++slice.tally.retries;
    return row.number;
  }
  if (!is_inner) {
    add_span(entry, slice.tally);
    if (!slice.durations.add(store_, entry.duration_ns)) ++slice.tally.unplaced;
  }
  if (has_tokens) {
    add_to(slice.tally.input_tokens, entry.usage.input);
    add_to(slice.tally.output_tokens, entry.usage.output);
  }
  if (!entry.has_first_token) return row.number;
  ++slice.tally.first_tokens;
  add_to(slice.tally.first_token_sum_ns, entry.first_token_ns);
  slice.tally.first_token_max_ns = std::max(slice.tally.first_token_max_ns, entry.first_token_ns);
  if (!slice.first_tokens.add(store_, entry.first_token_ns)) ++slice.tally.unplaced;
  return row.number;
}

void SpanTable::take_back_tokens(std::uint64_t number, const Usage& tokens, std::uint64_t second) {
  const auto found = by_number_.find(number);
  Row& row = found == by_number_.end() ? other_ : *found->second;
  Tally& tally = second + ring_size_ > second_ ? row.ring[second % ring_size_].tally : row.retired;
  take_from(tally.input_tokens, tokens.input);
  take_from(tally.output_tokens, tokens.output);
}

SpanTable::Row& SpanTable::row_of(const Entry& entry) {
  // A retry counts in the row of the span that it belongs to.
  const RowKeyView view(by_, entry, entry.span_name());
  if (Rows::value_type* const found = recent_.find(rows_, view)) return found->second;
  const std::uint64_t process = number_of(**entry.process);
  if (rows_.size() >= most_rows_) {
    Rows::value_type* const evicted = row_to_evict(process);
    if (evicted == nullptr) return other_;
    evict(*evicted);
  }
  Rows::value_type& added = *rows_.try_emplace(RowKey(view)).first;
  Row& row = added.second;
  row.ring.resize(ring_size_);
  row.number = ++last_number_;
  by_number_[row.number] = &row;
  row.process = process_text(**entry.process);
  row.owner = process;
  shares_.add(process, &added);
  return row;
}

// The row that makes room for a new row of this process: the row that has been idle for the longest time, which has no
// entries in the window. If no row is idle, a row of the process that created the most. A process that created half of
// all rows replaces only its own idle rows, so that it cannot have all rows but the busiest. Null if there is no row.
SpanTable::Rows::value_type* SpanTable::row_to_evict(std::uint64_t process) {
  if (idle_second_ != second_) {
    idle_second_ = second_;
    idle_.clear();
    for (auto& row : rows_) {
      if (row.second.last_second + ring_size_ <= second_) idle_.push_back(&row);
    }
    std::sort(idle_.begin(), idle_.end(),
              [](const auto* a, const auto* b) { return a->second.last_second > b->second.last_second; });
  }
  const bool has_half = shares_.rows_of(process) >= (most_rows_ + 1) / 2;
  while (!idle_.empty()) {
    Rows::value_type* const row = idle_.back();
    idle_.pop_back();
    if (row->second.last_second == second_) continue;  // it has new entries, so it is not idle any more
    if (has_half && row->second.owner != process) continue;
    shares_.remove(row->second.owner, row);
    return row;
  }
  return shares_.take_for(process);
}

void SpanTable::evict(Rows::value_type& evicted) {
  Row& row = evicted.second;
  other_.retired += row.retired;
  other_.retired_durations.merge(row.retired_durations);
  other_.retired_first_tokens.merge(row.retired_first_tokens);
  for (std::size_t slot = 0; slot < ring_size_; ++slot) {
    Slice &to = other_.ring[slot], &from = row.ring[slot];
    to.tally += from.tally;
    to.durations.take(store_, from.durations);
    to.first_tokens.take(store_, from.first_tokens);
  }
  by_number_.erase(row.number);
  recent_.forget();
  rows_.erase(rows_.find(evicted.first));
  ++evicted_;
}

void SpanTable::advance(std::uint64_t now_unix_ns) {
  if (last_now_ns_ != 0 && now_unix_ns > last_now_ns_) elapsed_ns_ += now_unix_ns - last_now_ns_;
  last_now_ns_ = now_unix_ns;
  if (elapsed_ns_ / kSecond != second_) roll_to(elapsed_ns_ / kSecond);
}

void SpanTable::roll_to(std::uint64_t second) {
  const std::uint64_t steps = std::min<std::uint64_t>(second - second_, ring_size_);
  for (std::uint64_t step = 0; step < steps; ++step) {
    const std::size_t slot = (second - step) % ring_size_;
    for (auto& [key, row] : rows_) retire(row, row.ring[slot]);
    retire(other_, other_.ring[slot]);
    retire(inner_, inner_.ring[slot]);
    begins_ns_[slot] = elapsed_ns_;
  }
  second_ = second;
}

void SpanTable::retire(Row& row, Slice& slice) {
  if (slice.tally.empty()) return;
  row.retired += slice.tally;
  add_slice(row.retired_durations, slice.durations, store_);
  add_slice(row.retired_first_tokens, slice.first_tokens, store_);
  slice.durations.clear(store_);
  slice.first_tokens.clear(store_);
  slice.tally = {};
}

void SpanTable::add_numbers(const Row& row, RowNumbers& numbers) const {
  LogLinear durations, first_tokens;
  for (const Slice& slice : row.ring) {
    numbers.window.tally += slice.tally;
    add_slice(durations, slice.durations, store_);
    add_slice(first_tokens, slice.first_tokens, store_);
  }
  numbers.total.tally = row.retired;
  numbers.total.tally += numbers.window.tally;
  numbers.window.duration_ns = quantiles_of(durations, numbers.window.tally.duration_max_ns);
  numbers.window.first_token_ns = quantiles_of(first_tokens, numbers.window.tally.first_token_max_ns);
  durations.merge(row.retired_durations);
  first_tokens.merge(row.retired_first_tokens);
  numbers.total.duration_ns = quantiles_of(durations, numbers.total.tally.duration_max_ns);
  numbers.total.first_token_ns = quantiles_of(first_tokens, numbers.total.tally.first_token_max_ns);
}

std::vector<std::string> SpanTable::texts_of(const RowKey& key, const Row& row) const {
  std::vector<std::string> texts = key.texts;
  for (std::size_t i = 0; i < by_.size(); ++i) {
    if (by_[i] == Dimension::process) texts[i] = row.process;
  }
  return texts;
}

TableNumbers SpanTable::numbers() const {
  TableNumbers table;
  table.by = by_;
  table.now_unix_ns = last_now_ns_;
  table.window_ns = elapsed_ns_ - begins_ns_[(second_ + 1) % ring_size_];
  table.since_ns = elapsed_ns_;
  table.evicted = evicted_;
  table.rows.reserve(rows_.size());
  for (const auto& [key, row] : rows_) {
    RowNumbers& numbers = table.rows.emplace_back();
    numbers.texts = texts_of(key, row);
    numbers.process = key.process;
    add_numbers(row, numbers);
    table.window += numbers.window.tally;
    table.total += numbers.total.tally;
  }
  add_numbers(other_, table.other);
  RowNumbers inner;
  add_numbers(inner_, inner);
  for (const RowNumbers* const row : {&table.other, &inner}) {
    table.window += row->window.tally;
    table.total += row->total.tally;
  }
  table.roots_only = roots_only_;
  return table;
}

std::optional<RowDetail> SpanTable::detail(const std::vector<std::string>& texts, std::uint64_t process) const {
  const Row* found = texts.empty() ? &other_ : nullptr;
  for (const auto& [key, row] : rows_) {
    if (key.process == process && texts_of(key, row) == texts) found = &row;
  }
  if (found == nullptr) return std::nullopt;
  RowDetail detail;
  detail.numbers.texts = texts;
  detail.numbers.process = process;
  add_numbers(*found, detail.numbers);
  LogLinear durations;
  for (const Slice& slice : found->ring) add_slice(durations, slice.durations, store_);
  detail.window = buckets_of(durations);
  durations.merge(found->retired_durations);
  detail.total = buckets_of(durations);
  return detail;
}

}  // namespace nopspan::collector
