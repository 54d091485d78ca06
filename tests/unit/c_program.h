/* SPDX-License-Identifier: Apache-2.0
 * The functions of c_program.c, which is compiled as C99 and as C++. c_api_test.cpp compares what they emit with what
 * the C++ API emits. */
#ifndef NOPSPAN_TESTS_UNIT_C_PROGRAM_H
#define NOPSPAN_TESTS_UNIT_C_PROGRAM_H

#include <nopspan/c.h>

#ifdef __cplusplus
extern "C" {
#endif

/* NOLINTBEGIN(modernize-use-nullptr,modernize-redundant-void-arg): it is C too */
struct c_program {
  void (*chat)(void);
  void (*request_with_children)(void);
  void (*ends)(void);
  void (*events)(void);
  void (*gauges)(void);
  void (*step)(void);
  void (*complete)(void);
  void (*fields)(void);
  nopspan_handle (*begin)(void);
  void (*use)(nopspan_handle span);
  void (*end)(nopspan_handle span);
};
/* NOLINTEND(modernize-use-nullptr,modernize-redundant-void-arg) */

extern const struct c_program program_in_c;
extern const struct c_program program_in_cxx;

#ifdef __cplusplus
}
#endif

#endif /* NOPSPAN_TESTS_UNIT_C_PROGRAM_H */
