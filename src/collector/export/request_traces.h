// SPDX-License-Identifier: Apache-2.0
// Remembers to which traces spans belong. The members of a step are span ids, and a link needs the trace id too.
#pragma once

#include "model/entry.h"

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <utility>

namespace nopspan::collector {

class RequestTraces {
 public:
  // Remembers the trace of an entry's span and of the spans around it. A request's own span ends last, but its phases
  // end before, and name it as their parent.
  void add(const Entry& entry) {
    if (entry.trace_id.empty() || entry.step != nullptr) return;
    for (const std::uint64_t id : {entry.span_id, entry.parent_id, entry.root_id}) {
      if (id != 0) recent_[id] = entry.trace_id;
    }
    if (recent_.size() >= kMost) older_ = std::exchange(recent_, {});
  }
  // Returns the empty id if the span is not known, or not any longer.
  [[nodiscard]] TraceId trace_of(std::uint64_t span_id) const {
    for (const auto* traces : {&recent_, &older_}) {
      if (const auto found = traces->find(span_id); found != traces->end()) return found->second;
    }
    return {};
  }

 private:
  static constexpr std::size_t kMost = 65'536;  // of each map
  std::unordered_map<std::uint64_t, TraceId> recent_, older_;
};

}  // namespace nopspan::collector
