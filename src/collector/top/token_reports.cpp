// SPDX-License-Identifier: Apache-2.0
#include "top/token_reports.h"

#include <algorithm>
#include <functional>
#include <string_view>

namespace nopspan::collector {

std::size_t TokenReports::TraceIdHash::operator()(const TraceId& id) const {
  return std::hash<std::string_view>()({reinterpret_cast<const char*>(id.bytes), sizeof(id.bytes)});
}

void TokenReports::add(const Entry& span, bool is_counted, std::uint64_t second) {
  if (span.parent_id != 0) parents_[span.span_id % kParents] = {span.span_id, span.parent_id};
  if (!is_counted || !span.has_usage || !span.counts_tokens || span.trace_id.empty()) return;
  if (reports_.size() == kMost) forget_oldest();
  remember(span, second);
  search_request_of(reports_.back());
}

void TokenReports::remember(const Entry& span, std::uint64_t second) {
  Report& added = reports_.emplace_back();
  const std::uint64_t number = first_ + reports_.size() - 1;
  added.trace_id = span.trace_id;
  added.span_id = added.at = span.span_id;
  added.second = second;
  added.usage = span.usage;
  added.rows = rows_of_(span);
  by_span_[span.span_id] = number;
  std::uint64_t& latest = by_trace_[span.trace_id];
  added.older = latest;
  latest = number;
}

void TokenReports::forget_oldest() {
  const Report& oldest = reports_.front();
  if (const auto found = by_span_.find(oldest.span_id); found->second == first_) by_span_.erase(found);
  if (const auto found = by_trace_.find(oldest.trace_id); found->second == first_) by_trace_.erase(found);
  reports_.pop_front();
  young_ = std::max(young_, ++first_);
}

void TokenReports::review(std::uint64_t second) {
  for (std::uint64_t number = young_; number < first_ + reports_.size(); ++number) search(report(number));
  for (; young_ < first_ + reports_.size() && report(young_).second + kYoungSeconds <= second; ++young_) {
    search_request_of(report(young_));
  }
}

void TokenReports::finish() {
  for (Report& one : reports_) search(one);
}

// A span may enclose reports that are much older than itself. It is the last of its chain to end.
void TokenReports::search_request_of(const Report& enclosing) {
  std::uint64_t number = by_trace_.at(enclosing.trace_id);
  for (unsigned i = 0; i < kMostOfATrace && number >= first_; ++i) {
    Report& one = report(number);
    search(one);
    number = one.older;
  }
}

void TokenReports::search(Report& inner) {
  for (; !inner.is_done; ++inner.steps) {
    if (inner.at != inner.span_id) {
      const auto outer = by_span_.find(inner.at);
      if (outer != by_span_.end()) {
        inner.is_done = true;
        take_back(report(outer->second));
        return;
      }
    }
    const Parent& parent = parents_[inner.at % kParents];
    if (parent.span_id != inner.at) return;  // the span has not arrived, or has no parent, or was forgotten
    inner.at = parent.parent_id;
    inner.is_done = inner.steps == kMostSteps;
  }
}

void TokenReports::take_back(Report& outer) {
  if (outer.is_taken_back) return;
  outer.is_taken_back = true;
  take_back_(outer);
}

}  // namespace nopspan::collector
