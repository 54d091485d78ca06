/* SPDX-License-Identifier: Apache-2.0
 * A program in C. c_api_test.cpp has the same functions in C++. */
#include "c_program.h"

#include <nopspan/probes.h>

#include <string.h>

/* NOLINTBEGIN(modernize-use-nullptr,modernize-redundant-void-arg): it is C too */

static void chat(void) {
  struct nopspan_span_options options;
  memset(&options, 0, sizeof(options));
  options.size = sizeof(options);
  options.kind = NOPSPAN_KIND_SERVER;
  options.flags = NOPSPAN_START_LATER;
  const nopspan_context nothing = {{0}};
  options.context = &nothing;
  nopspan_handle span = nopspan_span_begin_with("llm.chat", &options);
  nopspan_span_request_id(span, "order-7");
  nopspan_span_engine(span, "vllm");
  nopspan_span_model(span, "llama-3");
  nopspan_span_set_double(span, "temperature", 0.25);
  nopspan_span_start(span);
  nopspan_span_first_token(span);
  nopspan_span_usage(span, 120, 34, 0, -1);
  nopspan_span_set_text(span, "finish_reason", "stop");
  nopspan_span_set_content(span, "chat_result", "hello, world", 5);
  nopspan_span_end(span);
}

static void request_with_children(void) {
  const nopspan_context request = nopspan_context_from("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  const nopspan_context with_tenant = nopspan_context_with_label(&request, "tenant", "acme");
  nopspan_handle outer = nopspan_span_begin_in("c.outer", &with_tenant);
  nopspan_span_set_label(outer, "model", "small");
  nopspan_handle inner = nopspan_span_begin("c.inner", outer);
  const nopspan_context of_inner = nopspan_span_context(inner);
  const nopspan_scope scope = nopspan_scope_enter(&of_inner);
  nopspan_handle innermost = nopspan_span_begin_in("c.innermost", NULL);
  nopspan_span_link(innermost, &request);
  nopspan_span_end(innermost);
  nopspan_scope_leave(scope);
  char name[16];
  memcpy(name, "c.text and more", sizeof(name));
  nopspan_span_end(nopspan_span_begin_text(name, 6, inner));
  nopspan_span_end(inner);
  nopspan_span_end(outer);
  nopspan_span_end(nopspan_span_begin("c.orphan", nopspan_none()));
  nopspan_span_end(nopspan_request_begin("c.request"));
}

static void ends(void) {
  const nopspan_context request = nopspan_context_with_request_id("r", 1);
  nopspan_span_fail(nopspan_span_begin_in("c.failed", &request), "timeout");
  nopspan_span_fail_with(nopspan_span_begin_in("c.failed", &request), "io.Error", "disk is full");
  nopspan_span_fail(nopspan_span_begin_in("c.failed", &request), "the disk is full");
  nopspan_span_cancel(nopspan_span_begin_in("c.cancelled", &request), "client is gone");
  nopspan_span_cancel(nopspan_span_begin_in("c.cancelled", &request), NULL);
}

static void events(void) {
  const nopspan_context request = nopspan_context_with_request_id("r", 1);
  nopspan_handle span = nopspan_span_begin_in("c.span", &request);
  nopspan_event("c.event", span);
  nopspan_handle event = nopspan_event_begin_in("c.event", &request);
  nopspan_span_set_int(event, "shard", 4);
  nopspan_span_measure_int(event, "age_ms", 12);
  nopspan_span_end(event);
  event = nopspan_event_begin("engine.preempted", span);
  nopspan_span_set_text(event, "reason", "no_blocks");
  nopspan_span_measure_int(event, "blocks", 3);
  nopspan_span_end(event);
  event = nopspan_event_begin("agent.operator.wait", span);
  nopspan_span_set_text(event, "operator", "ets");
  nopspan_span_set_int(event, "ms", 5);
  nopspan_span_end(event);
  nopspan_retry(span, 2, 500, "rate_limit");
  event = nopspan_event_begin("gen_ai.retry", span);
  nopspan_span_set_int(event, "retry.attempt", 1);
  nopspan_span_end(event);
  event = nopspan_event_begin("llm.adapter.retry", span);
  nopspan_span_set_int(event, "attempt", 3);
  nopspan_span_end(event);
  event = nopspan_event_begin("gen_ai.stream.first_token", span);
  nopspan_span_set_int(event, "gen_ai.stream.tokens_so_far", 2);
  nopspan_span_end(event);
  nopspan_span_end(span);
}

static void gauges(void) {
  nopspan_gauge("llama.cpp", "slots_busy", 3, 8);
  nopspan_gauge(NULL, "waiting{reason=slots}", -2, 0);
  nopspan_counter("llama.cpp", "aborted", 17);
  nopspan_handle gauge = nopspan_gauge_begin();
  nopspan_span_engine(gauge, "vllm");
  nopspan_span_set_text(gauge, "adapter", "german");
  nopspan_gauge_end(gauge, "waiting", 5);
  gauge = nopspan_gauge_begin();
  nopspan_span_model(gauge, "small");
  nopspan_counter_end(gauge, "restarts", 1);
  nopspan_handle stats = nopspan_event_begin("engine.stats", nopspan_none());
  nopspan_span_measure_int(stats, "running", 3);
  nopspan_span_measure_int(stats, "waiting{reason=capacity}", 1);
  nopspan_span_count_int(stats, "requests", 99);
  nopspan_span_end(stats);
}

static void step(void) {
  const nopspan_context remote = nopspan_context_from("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  const nopspan_context nothing = {{0}};
  nopspan_handle request = nopspan_span_begin_in("engine.request", &nothing);
  struct nopspan_member members[3];
  members[0] = nopspan_member_of(nopspan_none(), 42);
  members[0].decode_tokens = 1;
  members[1] = nopspan_member_in(&remote, 43);
  members[1].prefill_tokens = 100;
  members[1].context_tokens = 7;
  members[2] = nopspan_member_of(request, 44);
  members[2].request = members[2].flags == 0 ? 1 : 0; /* the id is another one in each run */
  nopspan_handle pass = nopspan_step_begin(nopspan_none());
  struct nopspan_step_facts facts;
  memset(&facts, 0, sizeof(facts));
  facts.size = sizeof(facts);
  facts.instance = 1;
  facts.number = 77;
  facts.batch_size = 4;
  facts.prefill_tokens = 101;
  facts.decode_tokens = 2;
  facts.drafted_tokens = 5;
  facts.accepted_tokens = 3;
  facts.budget_tokens = 2048;
  facts.host_ns = 1000;
  facts.device_ns = 2000;
  facts.kv_used = 4096;
  facts.kind = NOPSPAN_STEP_MIXED;
  nopspan_span_step(pass, &facts, members, 2);
  nopspan_span_step(pass, NULL, members + 2, 1);
  nopspan_span_end(pass);
  nopspan_span_end(request);
}

static void complete(void) {
  const nopspan_context nothing = {{0}};
  struct nopspan_span_options options;
  memset(&options, 0, sizeof(options));
  options.size = sizeof(options);
  options.context = &nothing;
  options.start_ns = 1000;
  options.flags = NOPSPAN_START_LATER;
  nopspan_handle device = nopspan_span_begin_with("engine.device", &options);
  nopspan_span_set_text(device, "device", "gpu0");
  nopspan_span_measure_int(device, "watts", 300);
  nopspan_span_complete(device, 500);
  options.flags = 0;
  nopspan_handle other = nopspan_span_begin_with("c.measured", &options);
  nopspan_span_end_at(other, 1700);
  nopspan_span_end(other);
}

static void fields(void) {
  static const int64_t ints[] = {1, -2, 3};
  static const double doubles[] = {0.5, 2};
  static const char* const texts[] = {"a", NULL, "b"};
  const nopspan_context nothing = {{0}};
  nopspan_handle span = nopspan_span_begin_in("c.fields", &nothing);
  nopspan_span_set_int(span, "int", -5);
  nopspan_span_set_uint(span, "uint", 5);
  nopspan_span_set_uint(span, "large", UINT64_MAX);
  nopspan_span_set_double(span, "double", 0.5);
  nopspan_span_set_bool(span, "bool", true);
  nopspan_span_set_null(span, "null");
  nopspan_span_set_text(span, "text", "value");
  nopspan_span_set_text(span, "no text", NULL);
  nopspan_span_set_text_n(span, "part", "value", 3);
  nopspan_span_set_ints(span, "ints", ints, 3);
  nopspan_span_set_doubles(span, "doubles", doubles, 2);
  nopspan_span_set_texts(span, "texts", texts, 3);
  nopspan_span_measure_int(span, "rows", 42);
  nopspan_span_measure_double(span, "seconds", 1.5);
  nopspan_span_tenant(span, "acme");
  nopspan_span_set_label(span, "route", "eu");
  nopspan_span_tool_name(span, "search");
  nopspan_span_end(span);
}

static nopspan_handle begin(void) { return nopspan_span_begin("c.span", nopspan_none()); }
static void use(nopspan_handle span) {
  nopspan_span_set_int(span, "n", 1);
  nopspan_span_usage(span, 1, 2, 3, 4);
  nopspan_span_first_token(span);
}
static void end(nopspan_handle span) { nopspan_span_end(span); }

const struct c_program NOPSPAN_PROGRAM = {
    chat, request_with_children, ends, events, gauges, step, complete, fields, begin, use, end};
/* NOLINTEND(modernize-use-nullptr,modernize-redundant-void-arg) */
