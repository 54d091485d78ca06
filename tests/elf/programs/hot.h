// SPDX-License-Identifier: Apache-2.0
// Pairs of functions: one with a span that nobody listens to, and the same without. machine_code_test.py looks at them.
#pragma once

struct Pair {
  const char* name;
  int (*plain)(int);
  int (*spanned)(int);
};

extern const Pair pairs[];
extern const int pair_count;
