/* SPDX-License-Identifier: Apache-2.0 */
#include <nopspan_mini.h> /* as by a header of the project */
#define NPM_IMPLEMENTATION
#include <nopspan_mini.h>

/* For mini_test.cpp: the errors that the next hits of the batch site will report. */
unsigned mini_errors_of_batches(void);
unsigned mini_errors_of_batches(void) {
  unsigned errors = 0;
  for (int i = 0; i < NPM_THREADS; ++i) errors += npm_slots[i].errors;
  return errors;
}
