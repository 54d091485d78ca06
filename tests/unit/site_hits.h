// SPDX-License-Identifier: Apache-2.0
// Passings of the batch site, noted without any memory but their own: for code that was interrupted anywhere.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

struct SiteHits {
  struct Hit {
    std::uint64_t stream, first, next;
  };
  Hit all[64];
  std::size_t count = 0;

  void drop_first() { std::copy(all + 1, all + count--, all); }

  // Where they are noted, and nowhere else; null: not. In batch_test.cpp.
  static SiteHits* noted;
};
