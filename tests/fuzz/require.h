// SPDX-License-Identifier: Apache-2.0
// Conditions that must hold for every input. libFuzzer reports an abort() as a finding.
#pragma once

#include <cstdio>
#include <cstdlib>

inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "not true: %s\n", what);
  std::abort();
}
