// SPDX-License-Identifier: Apache-2.0
#include "top/top_feed.h"

#include "model/steps.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace nopspan::collector {

namespace {

// Whether the spans of a request differ in this, so that a row does not mix them. They inherit all labels.
bool is_of_span(const Dimension& by) {
  return by.which == Dimension::name || by.which == Dimension::tool || by.which == Dimension::error;
}

}  // namespace

TopFeed::TopFeed(const Source& source, Filter filter, std::uint64_t window_seconds, std::size_t most_rows,
                 const TopRequest& request, bool at_once, Publish publish)
    : source_(source),
      filter_(std::move(filter)),
      window_seconds_(window_seconds),
      most_rows_(most_rows),
      publish_(std::move(publish)),
      tokens_([this](const TokenReports::Counted& tokens) {
        for (std::size_t i = 0; i < tables_.size(); ++i) {
          tables_[i].take_back_tokens(tokens.rows[i], tokens.usage, tokens.second);
        }
      }),
      at_once_(at_once),
      request_(request) {
  add_table(request.by, request.all_spans);
  for (const Grouping& by : request.others) add_table(by, request.all_spans);
}

void TopFeed::add_table(const Grouping& by, bool all_spans) {
  const bool has_inner = all_spans || !filter_.name.empty() || std::any_of(by.begin(), by.end(), is_of_span);
  tables_.emplace_back(by, window_seconds_, most_rows_, !has_inner);
}

SpanTable& TopFeed::table() {
  return *std::find_if(tables_.begin(), tables_.end(),
                       [this](const SpanTable& one) { return one.by() == request_.by; });
}

void TopFeed::on_entry(const Entry& entry) {
  const bool is_selected = filter_.selects(entry);
  if (is_selected) {
    has_matched_ = has_matched_ || filter_.may_want_own_request_of(entry);
    count(entry);
  } else {
    filtered_.add(*entry.process);
  }
  // A span that the filter removes may be between two spans that report the same tokens.
  if (entry.kind == Kind::span) tokens_.add(entry, is_selected ? &rows_ : nullptr, tables_.front().second());
}

void TopFeed::count(const Entry& entry) {
  const Process& process = **entry.process;
  if (&process != last_process_) note_process(process);
  if (entry.kind == Kind::gauge) {
    gauges_.add(entry, now_ns_);
    return;
  }
  facts_.add(entry);
  if (entry.kind == Kind::event) {
    ++events_;
    return;
  }
  if (!entry.members.empty()) note_members(entry);
  if (entry.kind == Kind::part) return;
  rows_.clear();
  for (SpanTable& table : tables_) rows_.push_back(table.add(entry));
}

void TopFeed::note_process(const Process& process) {
  constexpr std::string_view kMore = ", ...";
  if (host_.empty()) {
    host_ = process.host;
  } else if (host_ != process.host && !host_.ends_with(kMore)) {
    host_ += kMore;
  }
  const std::uint64_t number = number_of(process);
  if (!processes_.contains(number) && processes_.size() >= kMostProcesses) return;
  processes_[number] = now_ns_ + window_seconds_ * kSecond;
  last_process_ = &process;
}

void TopFeed::note_members(const Entry& entry) {
  const std::uint64_t process = number_of(**entry.process);
  for_each_member(entry.members, [&](const nopspan_member& member) {
    if (named_by(member) != NamedBy::own_key) return;
    const std::pair key(process, std::uint64_t{member.request});
    if (early_.size() < kMostEarly || early_.contains(key)) {
      early_[key] = now_ns_ + window_seconds_ * kSecond;
    } else {
      ++early_dropped_;
    }
  });
}

void TopFeed::on_tick(std::uint64_t now_unix_ns) {
  now_ns_ = now_unix_ns;
  last_process_ = nullptr;
  filtered_.forget_ended(source_);
  tokens_.settle();
  take_request();
  for (SpanTable& table : tables_) table.advance(now_unix_ns);
  if (next_ns_ == 0) next_ns_ = at_once_ ? now_unix_ns : now_unix_ns + request_.interval_ns;
  // If the clock was set back, the next snapshot is due after one interval.
  if (next_ns_ > now_unix_ns + request_.interval_ns) next_ns_ = now_unix_ns + request_.interval_ns;
  if (now_unix_ns < next_ns_) return;
  next_ns_ = now_unix_ns - next_ns_ < request_.interval_ns ? next_ns_ + request_.interval_ns
                                                           : now_unix_ns + request_.interval_ns;
  publish_(snapshot(false));
}

void TopFeed::finish() {
  take_request();
  tokens_.settle();
  publish_(snapshot(true));
}

void TopFeed::ask(const TopRequest& request) {
  const std::lock_guard lock(mutex_);
  asked_ = request;
}

void TopFeed::take_request() {
  const std::lock_guard lock(mutex_);
  if (!asked_) return;
  request_ = *std::exchange(asked_, std::nullopt);
  next_ns_ = now_ns_;
}

TopSnapshotPointer TopFeed::snapshot(bool is_last) {
  auto made = std::make_shared<TopSnapshot>();
  made->table = table().numbers();
  if (request_.detail) made->detail = table().detail(request_.detail->texts, request_.detail->process);
  made->gauges = gauges_.readings();
  made->gauges_dropped = gauges_.dropped();
  made->facts = facts_;
  made->events = events_;
  const auto is_over = [&](const auto& known) { return known.second < now_ns_; };
  made->all_early_requests = early_.size() + early_over_;
  early_over_ += std::erase_if(early_, is_over);
  made->early_requests = early_.size();
  made->early_dropped = early_dropped_;
  made->host = host_;
  made->all_processes = processes_.size() + processes_over_;
  made->processes =
      processes_.size() - static_cast<std::size_t>(std::count_if(processes_.begin(), processes_.end(), is_over));
  if (processes_.size() >= kMostProcesses) processes_over_ += std::erase_if(processes_, is_over);
  made->ledger = ledger();
  made->ledger.processes.clear();
  made->is_last = is_last;
  return made;
}

}  // namespace nopspan::collector
