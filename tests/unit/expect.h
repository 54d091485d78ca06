// SPDX-License-Identifier: Apache-2.0
// EXPECT(condition), for programs that cannot use GoogleTest. Their main() must not return 0 if there were `failures`.
#ifndef NOPSPAN_TESTS_UNIT_EXPECT_H
#define NOPSPAN_TESTS_UNIT_EXPECT_H

#include <cstdio>

inline int failures = 0;

inline void expect(bool condition, const char* what, const char* file, int line) {
  if (condition) return;
  std::fprintf(stderr, "%s:%d: expected %s\n", file, line, what);
  ++failures;
}
#define EXPECT(condition) expect((condition), #condition, __FILE__, __LINE__)

#endif  // NOPSPAN_TESTS_UNIT_EXPECT_H
