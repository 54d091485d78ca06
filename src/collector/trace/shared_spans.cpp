// SPDX-License-Identifier: Apache-2.0
#include "trace/shared_spans.h"

#include <algorithm>

namespace nopspan::collector {

std::size_t SharedSpans::add(const SharedSpan& span, std::size_t most_kept) {
  std::size_t grown = 0;
  const std::size_t octave = LogLinear::bucket_of(span.duration_ns) >> LogLinear::kSubBits;
  if (times.octave(octave) == nullptr) grown += sizeof(LogLinear::Octave);
  times.add(span.duration_ns);
  failed += span.failed() ? 1 : 0;
  start_unix_ns = std::min(start_unix_ns, span.start_unix_ns);
  end_unix_ns = std::max(end_unix_ns, span.end_unix_ns());
  if (each.size() < most_kept) {
    each.push_back(span);
    grown += 2 * sizeof(SharedSpan);
  }
  return grown;
}

}  // namespace nopspan::collector
