// SPDX-License-Identifier: Apache-2.0
// Pairs of functions, one with a disabled span and one without. machine_code_test.py compares them.
#pragma once

struct Pair {
  const char* name;
  int (*plain)(int);
  int (*spanned)(int);
};

extern const Pair pairs[];
extern const int pair_count;
