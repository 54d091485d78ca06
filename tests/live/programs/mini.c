/* SPDX-License-Identifier: Apache-2.0
 *
 * A program that traces with nopspan_mini.h alone. `mini` executes commands, one per line of stdin, with one line of
 * answer each: */
#define NPM_IMPLEMENTATION
#include <nopspan_mini.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static npm_span kept;

/* A request of each kind that the header has. */
static void work(const char* caller) {
  const char* const reasons[] = {"length"};
  const npm_times times = {0, 1000, 2000, 3000, 10, 4, 1};
  npm_step facts = {0};
  npm_member member;
  npm_context context;
  npm_span server, query, event, tool, request, step;
  npm_context_from_traceparent(&context, caller);
  server = npm_span_begin_in("http.server", &context);
  npm_span_set_kind(server, NPM_SERVER);
  npm_span_set_label(server, NPM_TENANT, "acme");
  query = npm_span_begin("db.query", server);
  npm_span_set_int(query, "db.rows", 12);
  event = npm_event_begin("cache.miss", query);
  npm_span_set_text(event, "cache.key", "users");
  npm_span_end(event);
  npm_retry(query, 1, 500, "timeout");
  npm_span_fail(query, "timeout");
  tool = npm_span_begin("llm.tool", server);
  npm_span_set_text(tool, "gen_ai.tool.name", "calc");
  npm_span_end(tool);
  context = npm_span_context(server);
  request = npm_request_begin(&context);
  npm_span_set_label(request, NPM_ENGINE, "tiny");
  npm_span_set_label(request, NPM_MODEL, "tiny-1");
  npm_span_first_token(request);
  step = npm_step_begin();
  npm_span_set_label(step, NPM_ENGINE, "tiny");
  member = npm_member_of(request, 1);
  member.prefill_tokens = 10;
  facts.number = 1;
  npm_step_end(step, &facts, &member, 1);
  npm_request_set_times(request, &times);
  npm_span_set_usage(request, 10, 5, 2, 0);
  npm_span_set_texts(request, "gen_ai.response.finish_reasons", reasons, 1);
  npm_span_end(request);
  npm_gauge("tiny", "running", 3, 8);
  npm_counter("tiny", "ended", 17);
  npm_span_end(server);
}

/* Content by its key, on a span, an event, and a span of a catalogue. */
static void content(void) {
  const npm_span span = npm_span_begin("work", npm_none());
  const npm_span tool = npm_span_begin("llm.tool", span);
  const npm_span event = npm_event_begin("exception", span);
  const char* const texts[] = {"CANARY-list"};
  npm_span_set_text(span, "gen_ai.input.messages", "CANARY-prompt");
  npm_span_set_texts(span, "gen_ai.output.messages", texts, 1);
  npm_span_set_text(span, "row", "public");
  npm_span_set_text(tool, "arguments", "CANARY-arguments");
  npm_span_set_text(event, "exception.message", "CANARY-message");
  npm_span_end(event);
  npm_span_end(tool);
  npm_span_end(span);
}

/* The chat of story.cpp, by the names of OpenTelemetry's conventions. */
static npm_span chat_span(npm_span parent) {
  const npm_span span = npm_span_begin("chat m", parent);
  npm_span_set_kind(span, NPM_CLIENT);
  npm_span_set_text(span, "gen_ai.operation.name", "chat");
  npm_span_set_text(span, "gen_ai.provider.name", "openai"); /* which is not inherited here */
  return span;
}
static void story(void) {
  const npm_context none = {0};
  const npm_span chat = npm_span_begin_in("chat m", &none);
  npm_span tool, stream, step;
  npm_span_set_kind(chat, NPM_CLIENT);
  npm_span_set_text(chat, "gen_ai.operation.name", "chat");
  npm_span_set_text(chat, "gen_ai.request.model", "m");
  npm_span_set_text(chat, "gen_ai.provider.name", "openai");
  npm_span_set_label(chat, NPM_ENGINE, "vllm");
  npm_span_set_label(chat, NPM_TENANT, "acme");
  npm_retry(chat, 2, 500, "rate_limit");
  tool = npm_span_begin("execute_tool calc", chat);
  npm_span_set_text(tool, "gen_ai.operation.name", "execute_tool");
  npm_span_set_text(tool, "gen_ai.tool.name", "calc");
  npm_span_end(tool);
  stream = chat_span(chat);
  npm_span_first_token(stream);
  npm_span_set_int(stream, "gen_ai.usage.input_tokens", 100);
  npm_span_set_int(stream, "gen_ai.usage.output_tokens", 20);
  npm_span_set_int(stream, "gen_ai.usage.cache_read.input_tokens", 40);
  npm_span_set_int(stream, "gen_ai.usage.reasoning.output_tokens", 5);
  npm_span_end(stream);
  step = chat_span(chat);
  npm_span_set_int(step, "http.response.status_code", 503);
  npm_span_fail(step, "503");
  npm_span_end(chat);
}

static void* short_thread(void* unused) {
  int i;
  (void)unused;
  for (i = 0; i < 5; ++i) npm_span_end(npm_span_begin("short", npm_none()));
  return NULL;
}

/* Threads that end while their spans may still wait in the buffer. */
static void run_threads(void) {
  pthread_t threads[20];
  int i;
  for (i = 0; i < 20; ++i) pthread_create(&threads[i], NULL, short_thread, NULL);
  for (i = 0; i < 20; ++i) pthread_join(threads[i], NULL);
}

int main(void) {
  char line[256];
  printf("ready %d\n", (int)getpid());
  fflush(stdout);
  while (fgets(line, sizeof(line), stdin) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    if (strncmp(line, "work ", 5) == 0) work(line + 5);
    if (strncmp(line, "span ", 5) == 0) npm_span_end(npm_span_begin(line + 5, npm_none()));
    if (strcmp(line, "threads") == 0) run_threads();
    if (strcmp(line, "content") == 0) content();
    if (strcmp(line, "story") == 0) story();
    if (strcmp(line, "open") == 0) kept = npm_span_begin("kept", npm_none());
    if (strcmp(line, "hold") == 0) npm_span_end(npm_span_begin("held", kept)); /* it waits in the buffer */
    if (strcmp(line, "exit") == 0) return 0;
    printf("%d\n", npm_enabled());
    fflush(stdout);
  }
  return 0;
}
