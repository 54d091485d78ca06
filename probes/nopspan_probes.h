/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * The records that nopspan's probes carry, and the constants that go with them: the whole of the probe ABI that a
 * reader needs. The text of the ABI is probes/README.md. The library, BPF programs and (as a verbatim copy between the
 * BEGIN and END lines) the bpftrace scripts use this one definition. It includes nothing: <stdint.h> cannot be compiled
 * for BPF beside vmlinux.h, and bpftrace 0.17 wants `unsigned int`, `unsigned long` and `char[]`.
 *
 * 64-bit little-endian only. Times are CLOCK_MONOTONIC in ns. A record is wholly present and zero-filled: a read of
 * sizeof(struct) bytes is valid whatever version wrote it. New fields are taken from the front of `reserved`; `size` is
 * where the writer's `reserved` begins: a field that ends at or before it may be used.
 */
#ifndef NOPSPAN_PROBES_H
#define NOPSPAN_PROBES_H

#define NOPSPAN_ABI_VERSION 1

/* Provider names of the USDT notes. */
#define NOPSPAN_PROVIDER "nopspan"
#define NOPSPAN_BATCH_PROVIDER "nopspan_batch"

/* status */
#define NOPSPAN_STATUS_OK 0
#define NOPSPAN_STATUS_ERROR 1     /* fail() */
#define NOPSPAN_STATUS_CANCELLED 2 /* cancel(), or an AsyncSpan destroyed unended; not an error in rates */
#define NOPSPAN_STATUS_EXCEPTION 3

/* flags */
#define NOPSPAN_FLAG_ORPHAN 0x1u              /* may have a parent that began before the tracer attached: not a root */
#define NOPSPAN_FLAG_REMOTE_PARENT 0x2u       /* parent_id is a span of another process (traceparent) */
#define NOPSPAN_FLAG_FOREIGN_ID 0x4u          /* arg0 is a supplied id of another shape; request_id holds its hash */
#define NOPSPAN_FLAG_ABANDONED 0x8u           /* an AsyncSpan destroyed without end(): status is cancelled */
#define NOPSPAN_FLAG_ATTRIBUTES_DROPPED 0x10u /* attributes over the limit were left out whole, and counted */
#define NOPSPAN_FLAG_LINKS_DROPPED 0x20u      /* links over the limit were left out, and counted */
#define NOPSPAN_FLAG_SAMPLED 0x40u            /* the sampled flag of the incoming traceparent */
#define NOPSPAN_FLAG_HAS_USAGE 0x80u          /* the four token counts are meaningful: a zero is a zero */
#define NOPSPAN_FLAG_HAS_FIRST_TOKEN 0x100u   /* first_token_ns is meaningful */
#define NOPSPAN_FLAG_GIVEN_TIMES 0x200u       /* start or duration was given by the application, not measured */
#define NOPSPAN_FLAG_ASYNC 0x400u             /* an AsyncSpan: bound to no thread, it may end on another */
#define NOPSPAN_FLAG_KIND_SHIFT 12            /* three bits: OTLP's SpanKind, 0 unspecified … 5 consumer */
#define NOPSPAN_FLAG_KIND_MASK 0x7000u

/* BEGIN struct nopspan_span */
struct nopspan_span {
  unsigned int size;
  unsigned int flags;
  unsigned int status;
  unsigned int link_count;
  unsigned long span_id;
  unsigned long parent_id;
  unsigned long root_id;
  unsigned long start_ns;
  unsigned long duration_ns;
  unsigned long stream;
  unsigned long sequence;
  char request_id[24];
  unsigned long name;
  unsigned long engine;
  unsigned long model;
  unsigned long tenant;
  unsigned long exception_kind;
  unsigned long error_type;
  unsigned long tracestate;
  unsigned long attributes;
  unsigned long attributes_bytes;
  unsigned long links;
  unsigned long input_tokens;
  unsigned long output_tokens;
  unsigned long cached_tokens;
  unsigned long reasoning_tokens;
  unsigned long first_token_ns;
  char reserved[40];
};
/* END struct nopspan_span */

/* BEGIN struct nopspan_link */
struct nopspan_link {
  char trace_id[16];
  unsigned long span_id;
};
/* END struct nopspan_link */

/* The record of engine_request: the span's record, then what an inference server knows of one request. engine_size is
 * to this part what size is to the span's, counted from the beginning of the whole. engine_flags is 0. */
/* BEGIN struct nopspan_engine */
struct nopspan_engine {
  struct nopspan_span span;
  unsigned int engine_size;
  unsigned int engine_flags;
  unsigned long arrival_ns;
  unsigned long queue_ns;
  unsigned long prefill_ns;
  unsigned long decode_ns;
  unsigned long prefill_tokens;
  unsigned long decode_tokens;
  unsigned long preemptions;
  char reserved[64];
};
/* END struct nopspan_engine */

#endif /* NOPSPAN_PROBES_H */
