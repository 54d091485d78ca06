/* SPDX-License-Identifier: Apache-2.0
 * LTTng-UST tracepoints with the fields of a span, for bench/lttng_traces.cpp. */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER bench_span

#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "./lttng_traces.h"

#if !defined(NOPSPAN_BENCH_LTTNG_TRACES_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define NOPSPAN_BENCH_LTTNG_TRACES_H

#include <lttng/tracepoint.h>

/* clang-format off */
LTTNG_UST_TRACEPOINT_EVENT(
  bench_span, start,
  LTTNG_UST_TP_ARGS(const char*, name, const unsigned char*, trace_id, unsigned long, span_id, unsigned long, parent_id),
  LTTNG_UST_TP_FIELDS(
    lttng_ust_field_string(name, name)
    lttng_ust_field_array(unsigned char, trace_id, trace_id, 16)
    lttng_ust_field_integer_hex(unsigned long, span_id, span_id)
    lttng_ust_field_integer_hex(unsigned long, parent_id, parent_id)))

LTTNG_UST_TRACEPOINT_EVENT(
  bench_span, stop,
  LTTNG_UST_TP_ARGS(unsigned long, span_id, const char*, tool, long, rows, int, cached, const char*, shard),
  LTTNG_UST_TP_FIELDS(
    lttng_ust_field_integer_hex(unsigned long, span_id, span_id)
    lttng_ust_field_string(tool, tool)
    lttng_ust_field_integer(long, rows, rows)
    lttng_ust_field_integer(int, cached, cached)
    lttng_ust_field_string(shard, shard)))

LTTNG_UST_TRACEPOINT_EVENT(
  bench_span, stop_bare,
  LTTNG_UST_TP_ARGS(unsigned long, span_id),
  LTTNG_UST_TP_FIELDS(lttng_ust_field_integer_hex(unsigned long, span_id, span_id)))
/* clang-format on */

#endif

#include <lttng/tracepoint-event.h>
