/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * The probe ABI: the records that nopspan's probes carry, and their constants. BPF programs, tracers and the library
 * use this header; probes/README.md is the manual of the ABI. In a BPF program, a span that took longer than a second:
 *
 *     struct nopspan_span span;
 *     if (duration_ns > 1000000000 && bpf_probe_read_user(&span, sizeof span, record) == 0) {
 *       bpf_printk("%llx %s", span.span_id, span.status == NOPSPAN_STATUS_OK ? "ok" : "not ok");
 *     }
 *
 * The bpftrace scripts have verbatim copies of the structs between the BEGIN and END lines. This header includes
 * nothing: <stdint.h> does not compile for BPF beside the kernel's types, and bpftrace 0.17 needs `unsigned int`,
 * `unsigned long` and `char[]`.
 *
 * 64-bit little-endian only. Times are CLOCK_MONOTONIC in ns. A record is always complete and zero-filled, so a read of
 * sizeof(struct) bytes is valid whatever version wrote it. New fields are taken from the front of `reserved`. `size` is
 * where the writer's `reserved` starts: a field that ends at or before it may be used.
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

/* ---- Batches: provider nopspan_batch, probe `batch` ----
 *
 * While it is up, a thread writes entries with what the probes above report into a buffer of its own, and passes the
 * site once for many: arg0 the first entry's address, arg1 bytes, arg2 entries, arg3 the duration of the longest
 * span among them that is its request's outermost (ns), arg4 entries with status 1 or 3, arg5 the thread's header. An
 * entry holds no pointer: a text lies at an offset from arg0. A hit with arg1 0 announces a thread's header.
 *
 * The same bytes can be read from outside without a hit (process_vm_readv): every thread's header is found from the
 * gate's page, and one that has not changed its `first` over the reading was read whole. */

/* The beginning of the section .probes: the gate, then what a tracer needs to know of this copy of the library. */
/* BEGIN struct nopspan_gate_page */
struct nopspan_gate_page {
  unsigned long gate;
  unsigned long abi_version;
  unsigned long size;            /* of what has a meaning here */
  unsigned long library_version; /* major << 32 | minor << 16 | patch */
  unsigned long threads;         /* pointer to the first struct nopspan_thread; 0: none yet */
  unsigned long process_mark;    /* pointer to an unsigned long; a header with another mark is not of this process */
  unsigned long stats;           /* pointer to struct nopspan::Stats: unsigned longs in the order of nopspan/stats.h */
  unsigned long stats_count;     /* how many they are */
  unsigned long memory_bytes;    /* held for batches by all threads */
};
/* END struct nopspan_gate_page */

#define NOPSPAN_THREAD_MAGIC 0x314854414e50534eUL /* "NSPNATH1" */

/* Written by its thread alone, read by anybody. Headers are never freed: a thread that ends leaves its own to a later
 * one, which has another stream. */
/* BEGIN struct nopspan_thread */
struct nopspan_thread {
  unsigned long magic;
  unsigned int size;         /* where reserved begins */
  unsigned int thread_id;    /* as its own pid namespace numbers it */
  unsigned long next_thread; /* pointer to another struct nopspan_thread; 0: the last */
  unsigned long mark;        /* *process_mark when the stream began; 0: not in use */
  unsigned long stream;      /* random for a thread's life; the sequences below are its own, from 0 */
  unsigned long first;       /* sequence of the first entry in the buffer; changes whenever that is emptied */
  unsigned long next;        /* sequence of the next entry: next - first are in the buffer */
  unsigned long bytes;       /* that they take */
  unsigned long buffer;      /* pointer; 0: none yet */
  unsigned long capacity;    /* of it, bytes */
  unsigned long discarded;   /* entries of the stream that were thrown away because nobody listened any more */
  unsigned long written_ns;  /* when the last entry was written (CLOCK_MONOTONIC) */
  unsigned int open_entries; /* in the buffer, whose request's outermost span is not in it, or began elsewhere; and
                              * spans with links and no parent, which are of the requests that they link to */
  unsigned int reserved_1;
  unsigned long name_bits;    /* a bit for each name in the buffer: nopspan_text_bit() */
  unsigned long model_bits;   /* the same of models */
  unsigned long request_bits; /* 1 << (the trace id's last byte % 64), also of what such spans link to */
  char reserved[32];
};
/* END struct nopspan_thread */

/* The bit of a text in name_bits and model_bits: FNV-1a of 64 bits, of which the first six number the bit. */
static inline unsigned long nopspan_text_bit(const char* text, unsigned long size) {
  unsigned long hash = 0xcbf29ce484222325UL;
  for (unsigned long i = 0; i < size; ++i) hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3UL;
  return 1UL << (hash >> 58);
}

/* The kind of an entry. A reader skips a kind that it does not know. */
#define NOPSPAN_ENTRY_SPAN 0  /* an ended span: span_stop, and the facts that NOPSPAN_TELLS_* name */
#define NOPSPAN_ENTRY_EVENT 1 /* the probe `event`: start_ns is its time */
#define NOPSPAN_ENTRY_RETRY 2 /* `retry`: value delay_ns, number the attempt, error_type the reason */
#define NOPSPAN_ENTRY_GAUGE 3 /* `gauge`: name the gauge's, engine the instance's, value, number the maximum */

/* extras: optional parts, which follow the fixed one in this order, each of unsigned longs */
#define NOPSPAN_EXTRA_USAGE 0x1u       /* input, output, cached, reasoning tokens */
#define NOPSPAN_EXTRA_FIRST_TOKEN 0x2u /* first_token_ns */
#define NOPSPAN_EXTRA_ENGINE 0x4u      /* arrival, queue, prefill, decode ns; prefill, decode tokens; preemptions */
#define NOPSPAN_EXTRA_VALUES 0x8u      /* value, number */
/* and, without a part of their own, in the same word: */
#define NOPSPAN_TELLS_TOKENS 0x10000u /* the innermost span with these tokens: the probe `tokens` fires for it */
#define NOPSPAN_TELLS_TOOL 0x20000u   /* the same for `tool_call`; `text` is the tool's name */

/* A text of an entry, without a NUL at its end: at 8 * offset from the batch's first byte. length 0: there is none. */
/* BEGIN struct nopspan_text */
struct nopspan_text {
  unsigned short offset;
  unsigned short length;
};
/* END struct nopspan_text */

/* BEGIN struct nopspan_entry */
struct nopspan_entry {
  unsigned int size; /* of the whole entry, with the texts behind it: the next one begins there. A multiple of 8 */
  unsigned char kind;
  unsigned char status;
  unsigned short fixed_size; /* of this struct as its writer knew it; extras follow */
  unsigned int flags;        /* NOPSPAN_FLAG_* */
  unsigned int extras;
  char trace_id[16]; /* all zero: in no request */
  unsigned long span_id;
  unsigned long parent_id;
  unsigned long root_id;
  unsigned long start_ns;
  unsigned long duration_ns;
  struct nopspan_text name;
  struct nopspan_text engine;
  struct nopspan_text model;
  struct nopspan_text tenant;
  struct nopspan_text exception_kind;
  struct nopspan_text error_type;
  struct nopspan_text foreign_id; /* the id as the application supplied it, with FOREIGN_ID */
  struct nopspan_text tracestate;
  struct nopspan_text text;       /* a tool's name, or the name of a retry's or event's span */
  struct nopspan_text attributes; /* as in the record */
  struct nopspan_text links;      /* struct nopspan_link[] */
  unsigned int reserved;
};
/* END struct nopspan_entry */

#endif /* NOPSPAN_PROBES_H */
