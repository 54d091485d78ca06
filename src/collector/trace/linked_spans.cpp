// SPDX-License-Identifier: Apache-2.0
#include "trace/linked_spans.h"

#include <algorithm>

namespace nopspan::collector {

std::size_t LinkedSpans::add(const LinkedSpan& entry, std::size_t most_kept) {
  std::size_t grown = 0;
  const std::size_t octave = LogLinear::bucket_of(entry.duration_ns) >> LogLinear::kSubBits;
  if (times.octave(octave) == nullptr) grown += sizeof(LogLinear::Octave);
  times.add(entry.duration_ns);
  failed += entry.failed() ? 1 : 0;
  start_unix_ns = std::min(start_unix_ns, entry.start_unix_ns);
  end_unix_ns = std::max(end_unix_ns, entry.end_unix_ns());
  if (each.size() < most_kept) {
    each.push_back(entry);
    grown += 2 * sizeof(LinkedSpan);
  }
  return grown;
}

}  // namespace nopspan::collector
