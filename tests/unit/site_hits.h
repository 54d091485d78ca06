// SPDX-License-Identifier: Apache-2.0
// Records the hits of the batch site in its own memory only, so that it works in code interrupted anywhere.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

struct SiteHits {
  struct Hit {
    std::uint64_t sequence_id, first, next;
  };
  Hit all[64];
  std::size_t count = 0;

  void drop_first() { std::copy(all + 1, all + count--, all); }

  // The only place where hits are recorded, or null to record none. Defined in batch_test.cpp.
  static SiteHits* noted;
};
