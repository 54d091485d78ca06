// SPDX-License-Identifier: Apache-2.0
#include "open/early_requests.h"

#include "model/steps.h"
#include "reader/batch_reader.h"

#include <algorithm>
#include <utility>

namespace nopspan::collector {

void EarlyRequests::add(std::string_view bytes, std::uint64_t entries) {
  static const ClockSamples clocks{ClockSample()};
  BatchReader reader(bytes, entries, clocks);
  Last* last = nullptr;
  Last parts;  // of a step whose beginning was in an earlier batch. A step in this batch is a later one.
  bool has_step = false;
  Entry entry;
  for (BatchReader::Outcome outcome; (outcome = reader.next(entry)) != BatchReader::Outcome::end;) {
    if (outcome != BatchReader::Outcome::entry) continue;
    if (entry.step != nullptr) {
      has_step = true;
      last = nullptr;
      if (steps_.size() >= kMostEngines && !steps_.contains(entry.step->instance)) {
        unread_ += entry.step->members;
        continue;
      }
      Last& of_engine = steps_[entry.step->instance];
      if (reader.start_ns() < of_engine.start_ns) continue;
      keys_ -= of_engine.keys.size();
      of_engine = {reader.start_ns(), entry.span_id, entry.step->members, 0, {}};
      last = &of_engine;
    } else if (entry.kind == Kind::part && !has_step) {
      if (entry.span_id != parts.span_id) {
        keys_ -= parts.keys.size();
        parts = {reader.start_ns(), entry.span_id, 0, 0, {}};
      }
      parts.members = std::min<std::uint64_t>(entry.number, UINT32_MAX) + members_of(entry);
      last = &parts;
    }
    if (last != nullptr && entry.span_id == last->span_id) add_members(*last, entry);
  }
  if (!has_step && parts.read > 0 && parts_.size() < kMostEngines) {
    parts_.push_back(std::move(parts));
  } else {
    keys_ -= parts.keys.size();
    if (!has_step) unread_ += parts.members;
  }
}

void EarlyRequests::add_members(Last& to, const Entry& from) {
  for_each_member(from.members, [&](const nopspan_member& member) {
    if (has_own_key(member) && keys_ >= kMostKeys && !to.keys.contains(member.request)) return;
    ++to.read;
    if (has_own_key(member)) keys_ += to.keys.insert(member.request).second ? 1 : 0;
  });
}

std::uint64_t EarlyRequests::unread() const {
  std::uint64_t unread = unread_;
  const auto add = [&](const Last& last) { unread += last.members - std::min(last.members, last.read); };
  for (const auto& [engine, last] : steps_) add(last);
  std::for_each(parts_.begin(), parts_.end(), add);
  return unread;
}

std::vector<std::uint64_t> EarlyRequests::keys() const {
  std::set<std::uint64_t> keys;
  for (const auto& [engine, last] : steps_) keys.insert(last.keys.begin(), last.keys.end());
  for (const Last& last : parts_) keys.insert(last.keys.begin(), last.keys.end());
  return {keys.begin(), keys.end()};
}

}  // namespace nopspan::collector
