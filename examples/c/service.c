// SPDX-License-Identifier: Apache-2.0
// A service in C that answers each line of its input: TENANT PROMPT, or TRACEPARENT TENANT PROMPT if the caller is
// traced. To see its spans, run in another terminal: sudo nopspan trace
//
//   socat TCP-LISTEN:8080,reuseaddr,fork EXEC:./service
#define _POSIX_C_SOURCE 200809L
#include <nopspan/c.h>

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

// Stands for the work of a model: the time of one token.
static void think(void) {
  const struct timespec pause = {0, 2000000};
  nanosleep(&pause, NULL);
}

// Counts the words, which this model calls tokens.
static int tokenize(const char* prompt, nopspan_handle request) {
  const nopspan_handle span = nopspan_span_begin("prompt.tokenize", request);
  int words = 0;
  for (const char* at = prompt; *at != '\0'; ++at) {
    words += !isspace((unsigned char)*at) && (at == prompt || isspace((unsigned char)at[-1]));
  }
  nopspan_span_measure_int(span, "tokens", words);
  nopspan_span_end(span);
  return words;
}

static void answer(const char* tenant, const char* prompt, const nopspan_context* caller) {
  const nopspan_handle request = nopspan_span_begin_in("llm.chat", caller);
  nopspan_span_engine(request, "upper");
  nopspan_span_model(request, "capitals-1");
  nopspan_span_tenant(request, tenant);

  const int words = tokenize(prompt, request);
  if (words == 0) {
    puts("error: the prompt is empty");
    nopspan_span_fail_with(request, "empty_prompt", "there are no words in the prompt");
    return;
  }
  int sent = 0;
  for (const char* at = prompt; *at != '\0'; ++at) {
    if (at == prompt || isspace((unsigned char)at[-1])) think();
    putchar(toupper((unsigned char)*at));
    if (sent++ == 0) nopspan_span_first_token(request);
  }
  putchar('\n');
  nopspan_span_set_content(request, "input_messages", prompt, strlen(prompt));
  nopspan_span_usage(request, words, words, 0, -1);
  nopspan_span_end(request);
}

int main(void) {
  char line[4096];
  int64_t answered = 0;
  while (fgets(line, sizeof(line), stdin) != NULL) {
    char* rest = line;
    rest[strcspn(rest, "\n")] = '\0';
    const char* first = strtok_r(rest, " ", &rest);
    const int is_traced = first != NULL && strlen(first) == 55;                     // a traceparent
    const nopspan_context caller = nopspan_context_from(is_traced ? first : NULL);  // NULL: a new request
    const char* tenant = is_traced ? strtok_r(rest, " ", &rest) : first;
    answer(tenant, rest, &caller);
    nopspan_counter("upper", "answered", ++answered);
    fflush(stdout);
  }
  return 0;
}
