// SPDX-License-Identifier: Apache-2.0
#include "live/early_requests.h"

#include "live/batch_reader.h"
#include "live/thread_headers.h"
#include "model/steps.h"

#include <string>

namespace nopspan::collector {

void EarlyRequests::read(const Target& process, std::uint64_t gate_address) {
  ThreadHeaders headers(process, gate_address);
  if (!headers.read()) return;
  std::string bytes;
  std::size_t read = 0;
  for (const ThreadHeaders::Thread& thread : headers.threads()) {
    read += thread.header.bytes;
    if (read > kMostBytes) return;
    if (thread.header.bytes > 0 && headers.fetch(thread, bytes)) add(bytes, thread.header.next - thread.header.first);
  }
}

void EarlyRequests::add(std::string_view bytes, std::uint64_t entries) {
  static const ClockMap clocks([] { return std::uint64_t{0}; }, [] { return std::uint64_t{0}; });
  BatchReader reader(bytes, entries, clocks);
  Last* last = nullptr;
  Entry entry;
  for (BatchReader::Outcome outcome; (outcome = reader.next(entry)) != BatchReader::Outcome::end;) {
    if (outcome != BatchReader::Outcome::entry) continue;
    if (entry.step != nullptr) {
      last = nullptr;
      if (steps_.size() >= kMostEngines && !steps_.contains(entry.step->instance)) continue;
      Last& of_engine = steps_[entry.step->instance];
      if (reader.start_ns() < of_engine.start_ns) continue;
      keys_ -= of_engine.keys.size();
      of_engine = {reader.start_ns(), entry.span_id, {}};
      last = &of_engine;
    }
    if (last == nullptr || entry.span_id != last->span_id) continue;
    for_each_member(entry.members, [&](const nopspan_member& member) {
      if (has_own_key(member) && keys_ < kMostKeys) keys_ += last->keys.insert(member.request).second ? 1 : 0;
    });
  }
}

std::vector<std::uint64_t> EarlyRequests::keys() const {
  std::set<std::uint64_t> keys;
  for (const auto& [engine, last] : steps_) keys.insert(last.keys.begin(), last.keys.end());
  return {keys.begin(), keys.end()};
}

}  // namespace nopspan::collector
