// SPDX-License-Identifier: Apache-2.0
#include "export/held_events.h"

#include "model/otlp_wire.h"

#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::size_t kNodeBytes = 128;  // of the list, the map and the allocator, for each group

}  // namespace

bool is_span_event(const Entry& entry) {
  if (entry.kind != Kind::event && entry.kind != Kind::retry) return false;
  return entry.span_id != 0 && !entry.trace_id.empty() && log_event(entry.name) == nullptr;
}

HeldEvent HeldEvents::encoded(const Entry& entry) {
  attributes_.read(entry);
  dropped_attributes_ += attributes_.dropped();
  buffer_.clear();
  append_fixed64(buffer_, 1, entry.start_unix_ns);
  append_bytes(buffer_, 2, attributes_.valid_text(entry.name));
  attributes_.write_own(buffer_, kEventAttributes);
  attributes_.write_event_facts(buffer_, kEventAttributes);
  if (attributes_.dropped() > 0) append_varint(buffer_, 4, attributes_.dropped());
  HeldEvent event{entry.trace_id,
                  entry.span_id,
                  *entry.process,
                  trace_flags(entry.flags),
                  entry.kind == Kind::retry,
                  std::string(buffer_.view()),
                  {}};
  buffer_.clear();
  attributes_.write_labels(buffer_, kLogAttributes);
  event.labels = buffer_.view();
  return event;
}

HeldEvents::Groups::iterator HeldEvents::find(const Entry& entry) {
  const auto found = by_span_.find(key_of(**entry.process, entry.span_id));
  return found == by_span_.end() ? groups_.end() : found->second;
}

std::vector<HeldEvent> HeldEvents::remove(Groups::iterator group) {
  by_span_.erase(key_of(*group->process, group->span_id));
  std::vector<HeldEvent> events = std::move(group->events);
  bytes_ -= group->bytes;
  events_ -= events.size();
  groups_.erase(group);
  return events;
}

void HeldEvents::pass_on_oldest() {
  for (const HeldEvent& event : remove(groups_.begin())) on_log_(event);
}

void HeldEvents::add(const Entry& entry) {
  HeldEvent event = encoded(entry);
  auto group = find(entry);
  const std::size_t bytes = event.bytes();
  if (group != groups_.end() && (group->events.size() >= kMostOfSpan || group->bytes + bytes > kMostBytesOfSpan)) {
    return on_log_(event);
  }
  if (group == groups_.end()) {
    group = groups_.insert(groups_.end(),
                           Group{entry.span_id, now_unix_ns_, now_, *entry.process, {}, kNodeBytes + sizeof(Group)});
    by_span_.emplace(key_of(*group->process, group->span_id), group);
    bytes_ += group->bytes;
  }
  group->events.push_back(std::move(event));
  group->bytes += bytes;
  bytes_ += bytes;
  ++events_;
  while (bytes_ > most_bytes_ && !groups_.empty()) pass_on_oldest();
}

std::vector<HeldEvent> HeldEvents::take(const Entry& span) {
  if (groups_.empty()) return {};
  const auto group = find(span);
  return group == groups_.end() ? std::vector<HeldEvent>() : remove(group);
}

void HeldEvents::on_tick(std::uint64_t now_unix_ns, std::chrono::nanoseconds longest_wait) {
  if (now_unix_ns < now_unix_ns_) {  // the clock was set back: waiting begins again
    for (Group& group : groups_) group.since_unix_ns = now_unix_ns;
  }
  now_unix_ns_ = now_unix_ns;
  now_ = Clock::now();
  const auto is_old = [&](const Group& group) {
    return now_unix_ns_ - group.since_unix_ns >= max_age_ns_ || now_ - group.since >= longest_wait;
  };
  while (!groups_.empty() && is_old(groups_.front())) pass_on_oldest();
}

void HeldEvents::finish() {
  while (!groups_.empty()) pass_on_oldest();
}

}  // namespace nopspan::collector
