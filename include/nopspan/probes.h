/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * The probe ABI: the records that nopspan's probes carry, and their constants. BPF programs, tracers and the library
 * use this header; probes/README.md is the manual of the ABI. This code of a BPF program prints a span that took longer
 * than a second:
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
 * where the writer's `reserved` starts: a field that ends at or before it may be used. The records in a batch have
 * rules of their own.
 */
#ifndef NOPSPAN_PROBES_H
#define NOPSPAN_PROBES_H

#define NOPSPAN_ABI_VERSION 2

/* Provider names of the USDT notes. */
#define NOPSPAN_PROVIDER "nopspan"
#define NOPSPAN_BATCH_PROVIDER "nopspan_batch"

/* status */
#define NOPSPAN_STATUS_OK 0
#define NOPSPAN_STATUS_ERROR 1     /* fail(), or a failure in the metadata */
#define NOPSPAN_STATUS_CANCELLED 2 /* cancel(), or an AsyncSpan destroyed before its end; not an error in rates */
#define NOPSPAN_STATUS_EXCEPTION 3

/* flags */
#define NOPSPAN_FLAG_ORPHAN 0x1U              /* the parent may have begun before the tracer attached: not a root */
#define NOPSPAN_FLAG_REMOTE_PARENT 0x2U       /* parent_id is a span of another process (traceparent) */
#define NOPSPAN_FLAG_FOREIGN_ID 0x4U          /* arg0 is a supplied id of another form; request_id is from its hash */
#define NOPSPAN_FLAG_ABANDONED 0x8U           /* an AsyncSpan destroyed without end(): status is cancelled */
#define NOPSPAN_FLAG_ATTRIBUTES_DROPPED 0x10U /* whole attributes beyond the limit were dropped, and counted */
#define NOPSPAN_FLAG_LINKS_DROPPED 0x20U      /* links beyond the limit were dropped, and counted */
#define NOPSPAN_FLAG_SAMPLED 0x40U            /* the sampled flag of the trace */
#define NOPSPAN_FLAG_HAS_USAGE 0x80U          /* the four token counts are valid: 0 means 0 */
#define NOPSPAN_FLAG_HAS_FIRST_TOKEN 0x100U   /* first_token_ns is valid */
#define NOPSPAN_FLAG_GIVEN_TIMES 0x200U       /* the application gave the start or the end; it was not measured */
#define NOPSPAN_FLAG_ASYNC 0x400U             /* an AsyncSpan, which may end on another thread */
#define NOPSPAN_FLAG_STEP 0x800U              /* a step of an engine (engine.step): never a root, never a request */
#define NOPSPAN_FLAG_KIND_SHIFT 12            /* three bits: OTLP's SpanKind, from 0 (unspecified) to 5 (consumer) */
#define NOPSPAN_FLAG_KIND_MASK 0x7000U
#define NOPSPAN_FLAG_COUNTER 0x8000U /* of a gauge: the value is the total of a counter */
#define NOPSPAN_FLAG_RANDOM 0x10000U /* the random flag of the trace: the last 7 bytes of its id are random */
/* The library never sets the bits 0xc0000000, because a tracer may use them. */

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
  unsigned long sequence_id;
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
/* An attribute that has what a link has no room for: a line for each link, which is empty, or has the flags of OTLP's
 * links in hexadecimal, a space and the tracestate. A span of which all links are sampled contexts of this process, and
 * without a tracestate, does not have it. */
#define NOPSPAN_ATTRIBUTE_LINKS "nopspan.links"

/* The record of engine_request: the span's record, then the times and counts of one request in an inference server.
 * engine_size is the offset from the beginning of this struct at which the second `reserved` begins. engine_flags is 0.
 */
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

/* kind of a step: what it does for its members */
#define NOPSPAN_STEP_UNKNOWN 0
#define NOPSPAN_STEP_PREFILL 1
#define NOPSPAN_STEP_DECODE 2
#define NOPSPAN_STEP_MIXED 3

/* One step of an engine. 0 means unknown for a time, `budget_tokens` and `kv_used`. The kind and the numbers of tokens
 * are those that the application gave, or else the sums of its members. `dropped` members more were reported to the
 * library, but there was no memory for them. */
/* BEGIN struct nopspan_step */
struct nopspan_step {
  unsigned int size;      /* offset of the writer's `reserved` */
  unsigned int kind;      /* NOPSPAN_STEP_* */
  unsigned long instance; /* of the engine: the application's own number; 0 if it has one engine */
  unsigned long number;   /* of the step, counted by its instance; 0: unknown */
  unsigned int members;
  unsigned int members_with_prefill; /* they come first */
  unsigned int dropped;
  unsigned int batch_size; /* requests that the step served: as the application gave it, otherwise members + dropped */
  unsigned long prefill_tokens;
  unsigned long decode_tokens;
  unsigned long drafted_tokens;
  unsigned long accepted_tokens;
  unsigned long budget_tokens; /* the tokens that the scheduler could have given the step */
  unsigned long host_ns;
  unsigned long device_ns;
  unsigned long kv_used; /* cells of the KV cache that the step attended to, or that were in use */
  char reserved[24];
};
/* END struct nopspan_step */

#define NOPSPAN_MEMBER_OWN_KEY                                                            \
  0x1U /* `request` is not a span id, but the engine's own key: the request's span is not \
        * recorded */
#define NOPSPAN_MEMBER_TRACE_KEY 0x2U /* with OWN_KEY: the key is the first 8 bytes of the request's trace id */

/* What a step did for one request. */
/* BEGIN struct nopspan_member */
struct nopspan_member {
  unsigned long request; /* the id of a span of the request, as a rule engine.request; with OWN_KEY: a key */
  unsigned int prefill_tokens;
  unsigned int context_tokens; /* in the KV cache before the step */
  unsigned short decode_tokens;
  unsigned short drafted_tokens;
  unsigned short accepted_tokens;
  unsigned short flags; /* NOPSPAN_MEMBER_* */
};
/* END struct nopspan_member */

#define NOPSPAN_MEMBERS_PER_ENTRY 512

/* The record of engine_step. `members` are all members of the step. record_size is the offset from the beginning of
 * this struct at which the last `reserved` begins. record_flags is 0. */
/* BEGIN struct nopspan_step_record */
struct nopspan_step_record {
  struct nopspan_span span;
  struct nopspan_step step;
  unsigned long members; /* pointer to struct nopspan_member[step.members] */
  unsigned int record_size;
  unsigned int record_flags;
  char reserved[48];
};
/* END struct nopspan_step_record */

/* ---- Batches: provider nopspan_batch, probe `batch` ----
 *
 * While this probe is attached, each thread writes its ended spans and its events as entries into its own buffer, and
 * calls the site once for many of them. The arguments:
 *
 *   arg0 address of the first record            arg3 duration of the longest root span among them, ns
 *   arg1 bytes                                  arg4 number of entries with status 1 or 3
 *   arg2 number of entries                      arg5 address of the thread's header, struct nopspan_thread
 *
 * A record holds no pointer: a text is at an offset from arg0. A hit with arg1 0 only announces a thread's header.
 *
 * The same bytes can be fetched from outside without a hit (process_vm_readv). The gate's page leads to the headers of
 * all threads. If `first`, `mark` and `buffer` of a header are the same before and after the copy, the copy is valid.
 */

/* The beginning of the section .probes: the gate, then a description of this copy of the library for tracers. */
/* BEGIN struct nopspan_gate_page */
struct nopspan_gate_page {
  unsigned long gate;
  unsigned long abi_version;
  unsigned long size;            /* the bytes of this struct that are used */
  unsigned long library_version; /* major << 32 | minor << 16 | patch */
  unsigned long threads;         /* pointer to the first struct nopspan_thread; 0: none yet */
  unsigned long process_mark;    /* pointer to an unsigned long; headers of this process have the same mark */
  unsigned long stats;           /* pointer to unsigned longs: the fields of nopspan::Stats, in the order of stats.h */
  unsigned long stats_count;     /* the number of these fields */
  unsigned long memory_bytes;    /* memory for the batches of all threads */
  unsigned long magic;           /* NOPSPAN_GATE_MAGIC. From here on: since ABI version 2 */
  unsigned long open_slabs;      /* pointer to struct nopspan_slab[] */
  unsigned int open_slabs_count; /* its elements. The first slab with spans 0, and all after it, are not used yet */
  unsigned int open_bytes;       /* distance from one span of a slab to the next */
  unsigned long labels;          /* pointer to struct nopspan_label[]; a label's number is its index */
  unsigned int labels_count;     /* its elements */
  unsigned int label_bytes;      /* distance from one label to the next */
  unsigned long raised_ns;       /* when the library first saw the gate raised, after it was down. 0: it has not seen it
                                  * raised. 1: it was raised when the library was loaded */
  unsigned short label_keys[4];  /* the labels that are the keys of nopspan_open::labels[3] to [5]; 0: not used yet */
  unsigned long warnings;        /* pointer to struct nopspan_warning[] */
  unsigned int warnings_count;   /* its elements */
  unsigned int warning_bytes;    /* distance from one warning to the next */
  unsigned long flags;           /* NOPSPAN_GATE_* */
};
/* END struct nopspan_gate_page */

/* This process calls no site, because it runs under Valgrind, which would end it at a breakpoint. */
#define NOPSPAN_GATE_NO_SITES 0x1UL

#define NOPSPAN_GATE_MAGIC 0x455441474e50534eUL /* "NSPNGATE" */

/* ---- Open spans ----
 *
 * The gate's page leads to the spans that are open in a process, so that they can be read from outside, or from a core
 * file. probes/README.md describes which spans these are. To read one: read `state` and `generation`, then copy the
 * struct, then read both again. The copy is valid if both are unchanged, `state` is NOPSPAN_OPEN, and `mark` is the
 * number that nopspan_gate_page::process_mark points to. (A child process has copies of the spans that its parent had
 * opened, with the parent's mark.)
 */

/* Memory for 64 spans. Span i is at spans + i * open_bytes. A slab stays mapped as long as the library is loaded. */
/* BEGIN struct nopspan_slab */
struct nopspan_slab {
  unsigned long spans; /* pointer to the first struct nopspan_open; 0: no slab yet */
  unsigned long free;  /* bit i is set: span i is not open */
};
/* END struct nopspan_slab */

#define NOPSPAN_OPEN 1 /* the `state` of a span that is open */

/* BEGIN struct nopspan_open */
struct nopspan_open {
  unsigned int state;
  unsigned int generation; /* changes with each span, and when the application replaces the trace id of a span */
  char trace_id[16];
  unsigned long span_id;
  unsigned long root_id;    /* the root span of the request in this process */
  unsigned long tracestate; /* not 0: the request has a W3C tracestate or baggage */
  unsigned short labels[6]; /* engine, model, tenant, and those of label_keys; 0: none */
  unsigned char trace_flags;
  unsigned char context_bits; /* reserved */
  unsigned short reserved_1;
  unsigned long parent_id; /* 0: none */
  unsigned long mark;
  unsigned long start_ns;
  unsigned long first_token_ns; /* ns after start_ns; valid if not 0, with or without HAS_FIRST_TOKEN */
  unsigned long output_tokens;  /* so far, as far as the program has reported it */
  unsigned int flags;           /* NOPSPAN_FLAG_* */
  unsigned int thread_id;       /* where it began, in the thread's own pid namespace */
  unsigned long reserved_2[1];
  unsigned int reserved_3;
  unsigned int name_size;
  char name[64];       /* ends with a NUL */
  char foreign_id[64]; /* with FOREIGN_ID: the id as the application supplied it; ends with a NUL */
};
/* END struct nopspan_open */

/* The text of a label. BPF programs get the address of `text`. */
/* BEGIN struct nopspan_label */
struct nopspan_label {
  unsigned long reserved;
  unsigned int size; /* of the text; 0: there is no such label yet */
  unsigned int number;
  char text[64]; /* ends with a NUL */
};
/* END struct nopspan_label */

/* A message of the library that the program has no log sink for. The library does not print it, because it arose where
 * a span begins or ends. Such messages that come when the table is full are only counted (nopspan::Stats::warnings). */
/* BEGIN struct nopspan_warning */
struct nopspan_warning {
  unsigned int size;  /* of the text; 0: there is no such warning yet. It is written last */
  unsigned int level; /* nopspan::LogLevel: 2 is a warning, 3 an error */
  char text[504];     /* one line, without a newline or a NUL at its end */
};
/* END struct nopspan_warning */

#define NOPSPAN_THREAD_MAGIC 0x314854414e50534eUL /* "NSPNATH1" */

/* The header of a thread's buffer. Only the thread writes it, and any process may read it. Headers are never freed: a
 * later thread takes over the header of a thread that has ended, with another `sequence_id`. */
/* BEGIN struct nopspan_thread */
struct nopspan_thread {
  unsigned long magic;
  unsigned int size;          /* offset at which `reserved` begins */
  unsigned int thread_id;     /* in the thread's own pid namespace */
  unsigned long next_thread;  /* pointer to the next struct nopspan_thread; 0: this is the last */
  unsigned long mark;         /* *process_mark when sequence_id was set; 0: not in use */
  unsigned long sequence_id;  /* random; identifies one thread, whose entries are numbered from 0 */
  unsigned long first;        /* sequence of the first entry in the buffer; changes whenever the buffer is emptied */
  unsigned long next;         /* sequence of the next entry; the buffer has next - first entries */
  unsigned long bytes;        /* of these entries */
  unsigned long buffer;       /* pointer; 0: none yet */
  unsigned long capacity;     /* of the buffer, bytes */
  unsigned long discarded;    /* entries of this thread that no tracer can get: no tracer was left, or no memory */
  unsigned long written_ns;   /* when the last entry was written (CLOCK_MONOTONIC) */
  unsigned int open_entries;  /* entries in the buffer whose root span is not in it or began elsewhere; also STEP and
                               * MEMBERS entries, and spans with links and no parent, which belong to other requests */
  unsigned int requests;      /* place + 1 of the last struct nopspan_request in the buffer; 0: none */
  unsigned long name_bits;    /* nopspan_text_bit() of each name in the buffer */
  unsigned long model_bits;   /* nopspan_text_bit() of each model in the buffer */
  unsigned long request_bits; /* 1 << (last byte of the trace id % 64) of each entry, and of the requests linked to; all
                               * bits if a step has members, because those have no trace ids */
  char reserved[32];
};
/* END struct nopspan_thread */

#if !defined(__SIZEOF_LONG__) || __SIZEOF_LONG__ == 8 /* elsewhere there are no records, and these do not compile */

/* The bit of a text in name_bits and model_bits. Its number is the highest six bits of the 64-bit FNV-1a hash. */
static inline unsigned long nopspan_text_bit(const char* text, unsigned long size) {
  unsigned long hash = 0xcbf29ce484222325UL;
  for (unsigned long i = 0; i < size; ++i) hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3UL;
  return 1UL << (hash >> 58);
}

/* The request id of a trace id: 22 characters of URL-safe Base64, without padding and without a NUL. */
static inline void nopspan_request_id(const unsigned char trace_id[16], char text[22]) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  for (unsigned long i = 0; i < 15; i += 3) {
    unsigned int bits = (unsigned int)trace_id[i] << 16 | (unsigned int)trace_id[i + 1] << 8 | trace_id[i + 2];
    *text++ = digits[bits >> 18];
    *text++ = digits[bits >> 12 & 63];
    *text++ = digits[bits >> 6 & 63];
    *text++ = digits[bits & 63];
  }
  *text++ = digits[trace_id[15] >> 2];
  *text = digits[(trace_id[15] & 3) << 4];
}

/* The trace id of a request id. Returns 1 if nopspan_request_id() could have written the text and the trace id is not
 * all zero. Otherwise it returns 0, and the bytes of `trace_id` are undefined. */
static inline int nopspan_trace_id(const char* text, unsigned long size, unsigned char trace_id[16]) {
  unsigned int bits = 0, held = 0, any = 0;
  if (size != 22) return 0;
  for (unsigned long i = 0; i < size; ++i) {
    char c = text[i];
    int digit = c >= 'A' && c <= 'Z'   ? c - 'A'
                : c >= 'a' && c <= 'z' ? c - 'a' + 26
                : c >= '0' && c <= '9' ? c - '0' + 52
                : c == '-'             ? 62
                : c == '_'             ? 63
                                       : -1;
    if (digit < 0) return 0;
    bits = bits << 6 | (unsigned int)digit;
    held += 6;
    if (held < 8) continue;
    held -= 8;
    *trace_id = (unsigned char)(bits >> held);
    any |= *trace_id++;
  }
  return any != 0 && (bits & 15) == 0;
}

/* The trace id of a request id of another form: the 128-bit FNV-1a hash, big-endian. If the hash is 0, it is 1. */
static inline void nopspan_hashed_trace_id(const char* text, unsigned long size, unsigned char trace_id[16]) {
  __extension__ typedef unsigned __int128 wide; /* NOLINT(modernize-use-using): C too */
  wide hash = (wide)0x6c62272e07bb0142UL << 64 | 0x62b821756295c58dUL;
  for (unsigned long i = 0; i < size; ++i) hash = (hash ^ (unsigned char)text[i]) * ((wide)1 << 88 | 0x13b);
  if (hash == 0) hash = 1;
  for (int i = 15; i >= 0; --i, hash >>= 8) trace_id[i] = (unsigned char)hash;
}

/* The randomness by which the request of a hashed trace id is sampled, 56 bits. It stands for OpenTelemetry's `rv`,
 * because the last 7 bytes of a hash, by which other requests are sampled, are nearly equal for similar ids. The halves
 * of the trace id are little-endian. */
static inline unsigned long nopspan_hashed_randomness(const unsigned char trace_id[16]) {
  unsigned long halves[2];
  __builtin_memcpy(halves, trace_id, sizeof(halves));
  unsigned long bits = halves[0] ^ halves[1];
  bits = (bits ^ bits >> 33) * 0xff51afd7ed558ccdUL;
  bits = (bits ^ bits >> 33) * 0xc4ceb9fe1a85ec53UL;
  return (bits ^ bits >> 33) >> 8;
}

#endif

/* A batch consists of records. The first three members of each are the same: its size in bytes, its kind, and a byte of
 * which the use depends on the kind. The next record begins at the next multiple of 8 bytes. A reader must skip kinds
 * that it does not know. Kinds below 0x80 are entries, which the thread numbers. The others hold what several entries
 * share. A `place` is the distance of a record from the first byte of the batch, in units of 8 bytes. */
#define NOPSPAN_ENTRY_SPAN 0        /* an ended span: like span_stop, and like the probes that NOPSPAN_COUNTS_* name */
#define NOPSPAN_ENTRY_EVENT 1       /* like `event`; its start is its time */
#define NOPSPAN_ENTRY_RETRY 2       /* like `retry`; value is delay_ns, number the attempt, error_type the reason */
#define NOPSPAN_ENTRY_GAUGE 3       /* like `gauge`; name is the gauge's, engine the instance's, number the maximum */
#define NOPSPAN_ENTRY_STEP 4        /* an ended engine.step: like span_stop and `engine_step`; has its first members */
#define NOPSPAN_ENTRY_MEMBERS 5     /* further members of the step that was written before; span_id is the step's */
#define NOPSPAN_ENTRY_LEFT_OUT 0x7f /* only in recordings: an entry that was filtered out; it has 8 bytes */
#define NOPSPAN_SHARED_REQUEST 0x80 /* struct nopspan_request */
#define NOPSPAN_SHARED_FORM 0x81    /* struct nopspan_form */
#define NOPSPAN_NOT_AN_ENTRY 0x80

/* A text in a batch. It is at 8 * offset bytes from the first byte of the batch and has no NUL at its end. If length is
 * 0, there is no text. */
/* BEGIN struct nopspan_text */
struct nopspan_text {
  unsigned short offset;
  unsigned short length;
};
/* END struct nopspan_text */

/* What the entries of one request in this process have in common. */
/* BEGIN struct nopspan_request */
struct nopspan_request {
  unsigned short size;
  unsigned char kind;
  unsigned char flags;     /* NOPSPAN_REQUEST_* */
  unsigned short previous; /* place + 1 of the request that was written before; 0: this is the first */
  unsigned short reserved;
  char trace_id[16]; /* all zero if there is no request */
  unsigned long root_id;
  unsigned long start_ns;         /* the times of its entries are relative to it */
  struct nopspan_text foreign_id; /* with FOREIGN_ID: the id as the application supplied it */
  struct nopspan_text tracestate;
};
/* END struct nopspan_request */

#define NOPSPAN_REQUEST_FOREIGN_ID 0x1U /* as NOPSPAN_FLAG_FOREIGN_ID */
#define NOPSPAN_REQUEST_OF_OTHERS                                                       \
  0x2U /* an entry of it belongs to other requests too: it has members, or links and no \
        * parent */

/* What entries of the same form have in common. Which parts follow the fixed part of an entry: */
/* BEGIN struct nopspan_form */
struct nopspan_form {
  unsigned short size;
  unsigned char kind;
  unsigned char entry_kind; /* of the entries: NOPSPAN_ENTRY_* */
  unsigned int flags;       /* NOPSPAN_FLAG_* */
  unsigned int parts;       /* NOPSPAN_PART_* and NOPSPAN_COUNTS_* */
  struct nopspan_text name;
  struct nopspan_text engine;
  struct nopspan_text model;
  struct nopspan_text tenant;
  unsigned int reserved;
};
/* END struct nopspan_form */

/* Parts, in this order. The first ones consist of unsigned longs. */
#define NOPSPAN_PART_TIMES 0x1U       /* start (CLOCK_MONOTONIC), duration ns; those of the fixed part are 0 */
#define NOPSPAN_PART_USAGE 0x2U       /* input, output, cached, reasoning tokens */
#define NOPSPAN_PART_FIRST_TOKEN 0x4U /* first_token_ns */
/* arrival (CLOCK_MONOTONIC), queue, prefill, decode ns; prefill, decode tokens; preemptions: */
#define NOPSPAN_PART_ENGINE 0x8U
#define NOPSPAN_PART_VALUES 0x10U /* value, number; of MEMBERS: 0, the number of the step's members before these */
#define NOPSPAN_PART_STEP 0x20U   /* struct nopspan_step */
/* One struct nopspan_text for each of these bits; all of them together are padded to a multiple of 8 bytes: */
#define NOPSPAN_PART_EXCEPTION_KIND 0x100U
#define NOPSPAN_PART_ERROR_TYPE 0x200U
#define NOPSPAN_PART_TEXT 0x400U        /* a span's tool name; for a retry or event, the name of its span */
#define NOPSPAN_PART_LINKS 0x800U       /* struct nopspan_link[]; of STEP and MEMBERS: struct nopspan_member[] */
#define NOPSPAN_PART_ATTRIBUTES 0x1000U /* as in struct nopspan_span */
/* If an entry has none of these texts, the rest of it, up to `size`, are its attributes. */
#define NOPSPAN_PART_TEXTS 0x1f00U
/* Bits that add no part: */
#define NOPSPAN_COUNTS_TOKENS 0x10000U /* the innermost span with these tokens: the probe `tokens` fires for it */
#define NOPSPAN_COUNTS_TOOL 0x20000U   /* the same for the probe `tool_call`; the text is the tool's name */

/* BEGIN struct nopspan_entry */
struct nopspan_entry {
  unsigned short size; /* of the whole entry with its parts and texts */
  unsigned char kind;
  unsigned char status;   /* NOPSPAN_STATUS_*, and NOPSPAN_ENTRY_ATTRIBUTES_DROPPED */
  unsigned short form;    /* the place of its struct nopspan_form */
  unsigned short request; /* the place of its struct nopspan_request */
  unsigned long span_id;
  unsigned long parent_id;
  int start_ns; /* from start_ns of the request */
  unsigned int duration_ns;
};
/* END struct nopspan_entry */

#define NOPSPAN_ENTRY_ATTRIBUTES_DROPPED 0x80U /* as NOPSPAN_FLAG_ATTRIBUTES_DROPPED, of this entry */

#endif /* NOPSPAN_PROBES_H */
