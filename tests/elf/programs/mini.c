/* SPDX-License-Identifier: Apache-2.0
 *
 * A program with nopspan_mini.h for mini_test.py. It is compiled as C and as C++. `mini NAME` waits for a line, and then
 * makes a request with a child span and an event, all with names that begin with NAME. MINI_PART selects one of the two
 * files of the program, or of two copies of the header in one program. */
#include <nopspan_mini.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif
int work(const char* name);
int work_of_the_copy(const char* name);
int run(int argc, char** argv);
#ifdef __cplusplus
}
#endif

#if MINI_PART == 1
int work(const char* name) {
#else
int work_of_the_copy(const char* name) {
#endif
  char text[64];
  npm_span request, child, event;
  snprintf(text, sizeof(text), "%s.request", name);
  request = npm_span_begin(text, npm_none());
  npm_span_set_label(request, NPM_MODEL, "a-model");
  snprintf(text, sizeof(text), "%s.child", name);
  child = npm_span_begin(text, request);
  npm_span_set_int(child, "rows", 12);
  snprintf(text, sizeof(text), "%s.event", name);
  event = npm_event_begin(text, child);
  npm_span_end(event);
  npm_span_fail(child, "timeout");
  npm_span_end(request);
  return npm_enabled();
}

#if MINI_PART == 1
int run(int argc, char** argv) {
  char line[8];
  int enabled;
  puts("ready");
  fflush(stdout);
  if (argc < 2 || fgets(line, sizeof(line), stdin) == NULL) return 2;
  enabled = work(argv[1]);
#if defined(MINI_COPIES)
  enabled = work_of_the_copy(argv[1]) && enabled;
#endif
  printf("enabled %d\n", enabled);
  return 0;
}
#if !defined(MINI_LIBRARY)
int main(int argc, char** argv) { return run(argc, argv); }
#endif
#endif
