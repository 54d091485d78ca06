// SPDX-License-Identifier: Apache-2.0
// Who stalled whom in engines, of which processes may claim anything (claimed_entries.h). The limits are small, so that
// windows end and requests are forgotten.
#include "claimed_entries.h"
#include "require.h"

#include "blame/blame.h"
#include "blame/blame_print.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string_view>

namespace {

using namespace nopspan::collector;  // NOLINT: the whole file tests this namespace

BlameLimits small_limits() {
  BlameLimits limits;
  limits.steps = 64;
  limits.requests = 12;
  limits.engines = 3;
  limits.ended = 8;
  limits.culprits = 4;
  return limits;
}

// Only the last digits of doubles may differ.
void require_sum(const Blame::Request& request) {
  double size = 1;
  for (const double ns : request.ns) size += std::abs(ns);
  const double sum = std::accumulate(request.ns.begin(), request.ns.end(), 0.0);
  const double off = std::abs(sum - static_cast<double>(request.duration_ns));
  require(off <= 1e-6 * (size + static_cast<double>(request.duration_ns)), "all causes together are the duration");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  BlameTable table(BlameBy::tenant, 3, 5);
  Blame blame(
      small_limits(), [](const Entry&) { return true; },
      [&](const Blame::Request& request) {
        require_sum(request);
        table.add(request);
        to_text(request);
        to_json(request).dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
      });
  ClaimedEntries claimed({reinterpret_cast<const char*>(data), size});
  claimed.for_each([&](const Entry& entry) {
    blame.on_entry(entry);
    if (entry.sequence % 16 == 0) blame.on_tick(claimed.now_ns());
    if (entry.sequence % 8 == 0 && entry.kind == Kind::span) blame.find(entry);
  });
  blame.finish();
  to_text(blame);
  to_text(table, 5);
  to_json(table, blame);
  for (const Blame::Fit& fit : blame.fits()) to_json(fit);
  return 0;
}
