/* SPDX-License-Identifier: Apache-2.0
 *
 * nopspan_mini.h: spans that cost nothing until somebody traces them, in one header to copy into a project. C99, C++11.
 *
 * One source file of a program or shared library defines NPM_IMPLEMENTATION before it includes this header. Then, where
 * work begins and ends:
 *
 *     npm_span request = npm_span_begin("http.request", npm_none());
 *     npm_span query = npm_span_begin("db.query", request);
 *     npm_span_set_int(query, "db.rows", 12);
 *     npm_span_end(query);
 *     npm_span_end(request);
 *
 * `nopspan trace`, `top`, `open`, `export` and nopspan's bpftrace scripts see them on a running process, by nopspan's
 * probe ABI, version 2. A span that nobody traces costs a load and a branch, a traced one some 100 ns. The memory is
 * static, and becomes real when it is used. Nothing is allocated, no thread is started, no lock is waited for.
 *
 * Platforms: Linux on x86-64 and aarch64, with gcc or clang. On others, and with NPM_DISABLE defined, all functions do
 * nothing. With NOPSPAN_DISABLE=1 in the environment, a process records nothing. With NOPSPAN_KEEP_OPEN=1 it always
 * records spans, so that `nopspan open` can read them. With NOPSPAN_CAPTURE_CONTENT=1, content leaves the process.
 *
 * All functions may be called on any thread, and in signal handlers that have a stack of 16 KiB and return. A span may
 * end on another thread than it began on, but only one thread at a time may set something on it or end it. An ended
 * span, and in a child process one of its parent, is ignored. No function fails. Spans and values that do not fit are
 * counted, and `nopspan ps` and ledgers show the counts. A signal handler that leaves by siglongjmp() must not have
 * interrupted one of these functions: what that used stays locked, and after some jumps all further spans are lost.
 *
 * Only nopspan itself has: a current span for each thread, handlers, links, baggage, OpenTelemetry's names. The
 * linker refuses this header and nopspan's static library in one program or shared library (of lld, not with link-time
 * optimization): link the shared library, or define NPM_DISABLE. A shared library with this header has spans of its
 * own: pass it `traceparent`, and no span or context.
 */
#if defined(__GNUC__)
#pragma GCC system_header /* a project's own warnings do not apply */
#endif
#ifndef NOPSPAN_MINI_H
#define NOPSPAN_MINI_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#define NPM_VERSION 0x000300 /* major, minor, patch */

#if !defined(NPM_DISABLE) && defined(__linux__) && !defined(__ANDROID__) && defined(__GNUC__) && defined(__LP64__) && \
    (defined(__x86_64__) || (defined(__aarch64__) && defined(__AARCH64EL__)))
#define NPM_ACTIVE 1
#define NPM_HIDDEN __attribute__((__visibility__("hidden")))
#define NPM_UP(mask) __builtin_expect((__atomic_load_n(&npm1_gate[0], __ATOMIC_RELAXED) & (mask)) != 0, 0)
#define NPM_IS(span) __builtin_expect((span).state != NULL, 0)
#else
#define NPM_ACTIVE 0
#define NPM_HIDDEN
#define NPM_UP(mask) 0
#define NPM_IS(span) 0
#endif
#define NPM_API static inline
#define NPM_IF(span, call) (NPM_IS(span) ? call : (void)0)
#define NPM_SET(what, which, value) NPM_IF(span, npm1_set(span, NPM_SET_##what, which, value))
#define NPM_END(status, why) NPM_IF(span, npm1_end(span, status, why, NULL, NULL, 0))
#define NPM_PUT(type, values, count) NPM_IF(span, npm1_attribute(span, key, type, values, count))
#define NPM_BEGIN(up, what, name, parent, context)                               \
  if (NPM_UP(NPM_UP_##up)) return npm1_begin(NPM_##what, name, parent, context); \
  return npm1_no(1)
#define NPM_UP_BATCH UINT64_C(0xffff0000)
#define NPM_UP_POINTS UINT64_C(0xffff000000000000)
#define NPM_UP_SPAN UINT64_C(0xffffffffff)
#define NPM_UP_ENGINE (NPM_UP_SPAN | NPM_UP_POINTS)
#define NPM_UP_EVENT (NPM_UP_BATCH | NPM_UP_POINTS)
#ifdef __cplusplus
extern "C" {
#endif

/* A span, a value that may be copied and kept. npm_none() makes one that is no span. So is a zero-filled one. */
typedef struct npm_span {
  void* state; /* NULL: it is not recorded */
  uint32_t generation, began;
} npm_span;
/* A place in a trace. If it is zero-filled, there is no trace. What is before `span` is as in nopspan_open. */
typedef struct npm_context {
  unsigned char trace_id[16];
  uint64_t span_id, root_id, reserved; /* root_id 0: span_id is another process's */
  uint16_t labels[6];
  uint8_t trace_flags, bits, reserved_2[2]; /* bits 1: it has a trace id; 2: a span began here that was not recorded */
  npm_span span;
} npm_context;
/* The times (ns) and counts of a request in an engine. arrival_ns is CLOCK_MONOTONIC; 0: when its span began. */
typedef struct npm_times {
  uint64_t arrival_ns, queue_ns, prefill_ns, decode_ns, prefill_tokens, decode_tokens, preemptions;
} npm_times;
/* The facts of a step, one forward pass of an engine. 0 means unknown. If kind, batch_size or one of the four token
 * counts is 0, the sum of the members is used. npm_step_end() sets size, members, members_with_prefill and dropped. */
typedef struct npm_step {
  uint32_t size, kind;                                         /* kind 1: prefill, 2: decode, 3: both */
  uint64_t instance, number;                                   /* of the engine, if there are several; of the step */
  uint32_t members, members_with_prefill, dropped, batch_size; /* batch_size: requests that it served */
  uint64_t prefill_tokens, decode_tokens, drafted_tokens, accepted_tokens;
  uint64_t budget_tokens;               /* that the scheduler could have given it */
  uint64_t host_ns, device_ns, kv_used; /* kv_used: cells of the KV cache that are in use */
  uint64_t reserved[3];
} npm_step;
/* The work of a step for one request. npm_member_of() makes one. */
typedef struct npm_member {
  uint64_t request;
  uint32_t prefill_tokens, context_tokens; /* context_tokens: in the KV cache before the step */
  uint16_t decode_tokens, drafted_tokens, accepted_tokens, flags;
} npm_member;
enum { NPM_ENGINE, NPM_MODEL, NPM_TENANT };                                    /* labels */
enum { NPM_INTERNAL = 1, NPM_SERVER, NPM_CLIENT, NPM_PRODUCER, NPM_CONSUMER }; /* kinds, with OpenTelemetry's numbers */
/* The next ones are internal. These are what begins: flags of the probe ABI << 8, and the kind of the entry. */
enum { NPM_EVENT = 1, NPM_RETRY, NPM_GAUGE, NPM_SPAN = 0x140000, NPM_REQUEST = 0x240000, NPM_STEP = 0x1c0004 };
enum { NPM_OK, NPM_ERROR, NPM_CANCELLED };
enum { NPM_TEXT = 1, NPM_BOOL, NPM_INT, NPM_DOUBLE };
enum { NPM_SET_LABEL, NPM_SET_KIND, NPM_SET_TIME, NPM_SET_USAGE, NPM_SET_ENGINE, NPM_SET_FIRST_TOKEN, NPM_SET_RETRY };
/* The number in these names changes with what they share, because a program may have several copies of this header. */
extern NPM_HIDDEN uint64_t npm1_gate[];
typedef void npm_site(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
extern NPM_HIDDEN npm_site npm1_site_span_start, npm1_site_span_stop, npm1_site_event, npm1_site_gauge, npm1_site_batch;
extern NPM_HIDDEN npm_site npm1_site_tokens, npm1_site_first_token, npm1_site_engine_request, npm1_site_engine_step;
extern NPM_HIDDEN npm_site npm1_site_retry, npm1_site_tool_call;
NPM_HIDDEN void npm1_load(void), npm1_unload(void);
NPM_HIDDEN npm_span npm1_begin(int what, const char* name, npm_span parent, const npm_context* context);
NPM_HIDDEN void npm1_end(npm_span, int status, const char* why, const npm_step*, npm_member*, size_t members);
NPM_HIDDEN void npm1_attribute(npm_span, const char* key, int type, const void* values, size_t count);
NPM_HIDDEN void npm1_set(npm_span, int what, uint64_t which, const void* value);
NPM_HIDDEN void npm1_gauge(const char* engine, const char* name, int64_t value, int64_t maximum, uint32_t flags);
NPM_HIDDEN void npm1_retry(npm_span, int64_t attempt, int64_t delay_ms, const char* reason);
NPM_HIDDEN void npm1_context(npm_context*, npm_span);
NPM_HIDDEN int npm1_read_traceparent(npm_context*, const char*);
NPM_HIDDEN int npm1_write_traceparent(const npm_context*, char*);
NPM_HIDDEN size_t npm1_add_memory(void*, size_t);
NPM_HIDDEN void npm1_reseed(void);
NPM_API npm_span npm1_no(uint32_t began) {
  npm_span none = {NULL, 0, began};
  return none;
}

/* No span. A span with this parent begins a request. */
NPM_API npm_span npm_none(void) { return npm1_no(0); }
/* Whether a span that begins now is recorded. Test it before you compute attributes that cost much. */
NPM_API int npm_enabled(void) { return NPM_UP(NPM_UP_SPAN) != 0; }

/* Begins a span inside another one. The first 63 bytes of the name are kept. */
NPM_API npm_span npm_span_begin(const char* name, npm_span parent) { NPM_BEGIN(SPAN, SPAN, name, parent, NULL); }
/* The same for a parent in another process. */
NPM_API npm_span npm_span_begin_in(const char* name, const npm_context* parent) {
  NPM_BEGIN(SPAN, SPAN, name, npm_none(), parent);
}

/* Ends a span. One that is open when the program exits is reported as cancelled. */
NPM_API void npm_span_end(npm_span span) { NPM_END(NPM_OK, NULL); }
/* Ends a span that failed. `type` is the type of the error: "timeout", "503". A message becomes "_OTHER". */
NPM_API void npm_span_fail(npm_span span, const char* type) { NPM_END(NPM_ERROR, type); }
/* Ends a span that was cancelled. This does not count as an error. */
NPM_API void npm_span_cancel(npm_span span, const char* reason) { NPM_END(NPM_CANCELLED, reason); }

/* Attributes, with keys of at most 127 bytes. A later value replaces an earlier one. Everybody who may trace the
 * process reads them. Those whose keys mean content, such as "gen_ai.input.messages" or "exception.message", are
 * recorded only with NOPSPAN_CAPTURE_CONTENT=1. Do not put prompts or answers under other keys. "gen_ai.tool.name" is
 * also the tool of the span, unless its name begins with "mcp.". */
NPM_API void npm_span_set_text(npm_span span, const char* key, const char* value) { NPM_PUT(NPM_TEXT, &value, 1); }
NPM_API void npm_span_set_int(npm_span span, const char* key, int64_t value) { NPM_PUT(NPM_INT, &value, 1); }
NPM_API void npm_span_set_double(npm_span span, const char* key, double value) { NPM_PUT(NPM_DOUBLE, &value, 1); }
NPM_API void npm_span_set_bool(npm_span span, const char* key, int value) { NPM_PUT(NPM_BOOL, &value, 1); }
NPM_API void npm_span_set_texts(npm_span span, const char* key, const char* const* values, size_t count) {
  NPM_PUT(-NPM_TEXT, values, count);
}
NPM_API void npm_span_set_ints(npm_span span, const char* key, const int64_t* values, size_t count) {
  NPM_PUT(-NPM_INT, values, count);
}

/* NPM_ENGINE, NPM_MODEL or NPM_TENANT, which child spans inherit. A process keeps 255 different values. */
NPM_API void npm_span_set_label(npm_span span, int label, const char* value) { NPM_SET(LABEL, (uint64_t)label, value); }
/* NPM_INTERNAL, the default, to NPM_CONSUMER. */
NPM_API void npm_span_set_kind(npm_span span, int kind) { NPM_SET(KIND, (uint64_t)kind, NULL); }
/* When a span began and ended (CLOCK_MONOTONIC), if that is not when it is begun and ended here. */
NPM_API void npm_span_set_times(npm_span span, uint64_t start_ns, uint64_t end_ns) { NPM_SET(TIME, end_ns, &start_ns); }
/* Tokens that a model read and wrote; of these, those from a cache, and those of its reasoning. */
NPM_API void npm_span_set_usage(npm_span span, uint64_t input, uint64_t output, uint64_t cached, uint64_t reasoning) {
  const uint64_t usage[4] = {input, output, cached, reasoning};
  NPM_SET(USAGE, 0, usage);
}
/* The first token of the answer is there. Only the first call counts. */
NPM_API void npm_span_first_token(npm_span span) { NPM_SET(FIRST_TOKEN, 0, NULL); }

/* The context of a span, for spans elsewhere. */
NPM_API npm_context npm_span_context(npm_span span) {
  npm_context context = {{0}, 0, 0, 0, {0}, 0, (uint8_t)(span.began ? 2 : 0), {0}, {NULL, 0, 0}};
  NPM_IF(span, npm1_context(&context, span));
  return context;
}

/* Begins an event in a span, which may be npm_none(). npm_span_end() reports it, after its attributes are set. */
NPM_API npm_span npm_event_begin(const char* name, npm_span span) { NPM_BEGIN(EVENT, EVENT, name, span, NULL); }
/* Reports that an attempt in a span failed and will be repeated. Call it before the wait. `attempt` is the number of
 * the attempt that failed, from 1 on. `reason` may be NULL. */
NPM_API void npm_retry(npm_span span, int64_t attempt, int64_t delay_ms, const char* reason) {
  if (NPM_UP(NPM_UP_EVENT)) npm1_retry(span, attempt, delay_ms, reason);
}
/* A value that goes up and down, and its maximum, or 0. `engine` may be "". */
NPM_API void npm_gauge(const char* engine, const char* name, int64_t value, int64_t maximum) {
  if (NPM_UP(NPM_UP_EVENT)) npm1_gauge(engine, name, value, maximum, 0);
}
/* A total that only grows while the process runs. */
NPM_API void npm_counter(const char* engine, const char* name, int64_t total) {
  if (NPM_UP(NPM_UP_EVENT)) npm1_gauge(engine, name, total, 0, 0x8000);
}

/* Begins the span of a request in an engine, `engine.request`. `parent` may be NULL. Set its engine and model. */
NPM_API npm_span npm_request_begin(const npm_context* parent) {
  NPM_BEGIN(ENGINE, REQUEST, "engine.request", npm_none(), parent);
}
NPM_API void npm_request_set_times(npm_span span, const npm_times* times) { NPM_SET(ENGINE, 0, times); }
/* Begins a step, `engine.step`. Set its engine. */
NPM_API npm_span npm_step_begin(void) { NPM_BEGIN(ENGINE, STEP, "engine.step", npm_none(), NULL); }
/* Ends a step. `members` are what it did for so many requests, at most 65,536. Their order may change. */
NPM_API void npm_step_end(npm_span step, const npm_step* facts, npm_member* members, size_t count) {
  NPM_IF(step, npm1_end(step, NPM_OK, NULL, facts, members, count));
}
/* A member without tokens. `own_key`, the program's own number of the request, stands for a request that is not
 * recorded, because it began before a tracer attached. */
NPM_API npm_member npm_member_of(npm_span request, uint64_t own_key) {
  const uint64_t id = npm_span_context(request).span_id;
  const npm_member member = {id != 0 ? id : own_key, 0, 0, 0, 0, 0, id == 0};
  return member;
}

/* Reads the header `traceparent` of W3C Trace Context. If it is NULL or malformed, returns 0 and a zero-filled context.
 */
NPM_API int npm_context_from_traceparent(npm_context* context, const char* header) {
  *context = npm_span_context(npm_none());
  return NPM_ACTIVE && header != NULL ? npm1_read_traceparent(context, header) : 0;
}
/* Writes that header for a call to another process: 55 characters and a NUL. It names `span`, or if that is not
 * recorded, `otherwise`: as a rule the context that came in, so that a process that nobody traces passes it on. Returns
 * 0 if neither is in a trace. The header is "" then. */
NPM_API int npm_traceparent(npm_span span, const npm_context* otherwise, char header[56]) {
  const npm_context own = npm_span_context(span);
  header[0] = '\0';
  if (own.bits & 1) otherwise = &own;
  return NPM_ACTIVE && otherwise != NULL ? npm1_write_traceparent(otherwise, header) : 0;
}
/* Gives memory for more spans, which must stay until the process ends. Returns for how many: a multiple of 64. */
NPM_API size_t npm_add_memory(void* memory, size_t bytes) {
  return NPM_ACTIVE && memory != NULL ? npm1_add_memory(memset(memory, 0, bytes), bytes) : 0;
}
/* For a program that runs as copies of a snapshot or a checkpoint: a hook in each copy calls it before the first
 * request. The next ids then differ from those of other copies. Without it they differ too, unless a span began less
 * than 10 ms before the copy was made. */
NPM_API void npm_reseed(void) {
  if (NPM_ACTIVE) npm1_reseed();
}
#ifdef __cplusplus
}
#endif
#endif /* NOPSPAN_MINI_H */

/* ==== The implementation, in one file ==== */
/* clang-format off */
#if defined(NPM_IMPLEMENTATION) && NPM_ACTIVE && !defined(NPM_IMPLEMENTED)
#define NPM_IMPLEMENTED
/* Limits, which the file with NPM_IMPLEMENTATION may define otherwise. */
#ifndef NPM_SPANS
#define NPM_SPANS 1024 /* open at the same time; a multiple of 64. npm_add_memory() adds more */
#endif
#ifndef NPM_ATTRIBUTE_BYTES
#define NPM_ATTRIBUTE_BYTES 1024 /* of one span, with their keys; a multiple of 64, at most 8192 */
#endif
#ifndef NPM_THREADS
#define NPM_THREADS 64 /* that record at full speed at the same time; each has 32 KiB */
#endif
/* The gate's page and the sites. A site is `nop; ret`: a tracer patches the nop, and finds six arguments in registers.
 * They are in assembly, so that no optimiser can inline, clone or drop them. The linker keeps one of several copies of
 * their group of sections, and .ifndef one of two in a file, which link-time optimisation makes. lld maps a page twice,
 * so the gate has its own. A nop of more bytes would become a call, which overwrites the red zone of a function. The
 * static library of nopspan has the symbol NPM_ALONE too, for a thread-local variable: a tracer sees only one of two
 * gates in a file, so the linker must refuse a file with both. */
#if defined(__x86_64__)
#define NPM_EITHER(x86, arm) x86
#else
#define NPM_EITHER(x86, arm) arm
#endif
#define NPM_PAGE NPM_EITHER("4096", "65536")
#define NPM_LANDING NPM_EITHER(".4byte 0xfa1e0ff3", "hint 34") /* endbr64, bti c */
#define NPM_ARGUMENTS NPM_EITHER("8@%rdi 8@%rsi 8@%rdx 8@%rcx 8@%r8 8@%r9", "8@x0 8@x1 8@x2 8@x3 8@x4 8@x5")
#define NPM_SYMBOL(name, type) ".weak " name "\n.hidden " name "\n.type " name "," type "\n" name ":"
#define NPM_ALONE "nopspan_mini_and_the_static_library_cannot_be_in_one_file"
#define NPM_SITE(batch, probe, semaphore)                                                                              \
  ".section .text.npm1_sites,\"axG\",\"progbits\",npm1_sites,comdat\n.balign 16\n"                                     \
  NPM_SYMBOL("npm1_site_" #probe, "STT_FUNC") ".cfi_startproc\n" NPM_LANDING "\n99: nop\nret\n.cfi_endproc\n"          \
  ".size npm1_site_" #probe ", .-npm1_site_" #probe "\n.section .note.stapsdt,\"G\",\"note\",npm1_sites,comdat\n"      \
  ".balign 4\n.4byte 8, 98f-97f, 3\n.asciz \"stapsdt\"\n97: .8byte 99b, _.stapsdt.base, npm1_gate+" #semaphore "\n"   \
  ".asciz \"nopspan" batch "\", \"" #probe "\", \"" NPM_ARGUMENTS "\"\n98: .balign 4\n"
__asm__(
  ".ifndef npm1_gate\n"
  ".section .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n.ifndef _.stapsdt.base\n"
  NPM_SYMBOL("_.stapsdt.base", "STT_OBJECT") ".space 1\n.size _.stapsdt.base, 1\n.endif\n"
  ".section .probes,\"awG\",\"progbits\",npm1_sites,comdat\n.balign " NPM_PAGE "\n"
  NPM_SYMBOL(NPM_ALONE, "STT_OBJECT") NPM_SYMBOL("npm1_gate", "STT_OBJECT") ".8byte 0, 2\n.zero " NPM_PAGE "-16\n.size npm1_gate, " NPM_PAGE "\n"
  NPM_SITE("", span_start, 0) NPM_SITE("", span_stop, 0) NPM_SITE("", span_exception, 0) NPM_SITE("", event, 6)
  NPM_SITE("", first_token, 6) NPM_SITE("", tokens, 6) NPM_SITE("", retry, 6) NPM_SITE("", tool_call, 6)
  NPM_SITE("", engine_request, 6) NPM_SITE("", gauge, 6) NPM_SITE("", engine_step, 6) NPM_SITE("_batch", batch, 2)
  ".text\n.endif\n");
#define NPM_TYPE "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:.-"
#define NPM_WEAK __attribute__((__weak__))
#define NPM_GLOBAL NPM_HIDDEN NPM_WEAK __attribute__((__noinline__))
#define NPM_GET(at) __atomic_load_n(at, __ATOMIC_RELAXED)
#define NPM_TAKE(at) __atomic_load_n(at, __ATOMIC_ACQUIRE)
#define NPM_PUBLISH(at, value) __atomic_store_n(at, value, __ATOMIC_RELEASE)
#define NPM_SWAP(at, old, now) __atomic_compare_exchange_n(at, old, now, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)
/* Functions of the C library by other names, because its headers may hide them or declare them in another way. */
extern char* npm_getenv(const char* name) __asm__("getenv");
extern int npm_clock_gettime(int clock, int64_t time[2]) __asm__("clock_gettime");
extern long npm_syscall(long number, ...) __asm__("syscall");
extern unsigned long npm_getauxval(unsigned long type) __asm__("getauxval");
extern int* npm_errno(void) __asm__("__errno_location");
extern int npm_key_create(uint32_t* key, void (*destroy)(void*)) __asm__("pthread_key_create") NPM_WEAK;
extern int npm_key_delete(uint32_t key) __asm__("pthread_key_delete") NPM_WEAK;
extern int npm_setspecific(uint32_t key, const void* value) __asm__("pthread_setspecific") NPM_WEAK;
extern NPM_HIDDEN const uint64_t npm_program[8] __asm__("__ehdr_start") NPM_WEAK; /* may be missing */
/* ---- The structs of the probe ABI: nopspan/probes.h has the meaning of each field ---- */
typedef struct npm_page {
  uint64_t gate, abi_version, size, library_version, threads, process_mark, stats, stats_count, memory_bytes, magic;
  uint64_t open_slabs, open_size, labels, labels_size, raised_ns, label_keys, warnings, warnings_size, flags;
} npm_page;
typedef struct npm_label { uint64_t reserved; uint32_t size, number; char text[64]; } npm_label;
typedef struct npm_thread {
  uint64_t magic; uint32_t size, thread_id;
  uint64_t next_thread, mark, sequence_id, first, next, bytes, buffer, capacity, discarded, written_ns;
  uint32_t open_entries, requests; uint64_t name_bits, model_bits, request_bits, reserved[4];
} npm_thread;
typedef struct npm_record { /* nopspan_span, and what nopspan_engine or nopspan_step_record have behind it */
  uint32_t size, flags, status, link_count;
  uint64_t span_id, parent_id, root_id, start_ns, duration_ns, sequence_id, sequence; char request_id[24];
  uint64_t name, labels[3], kind, error_type, tracestate, attributes, attributes_bytes, links, usage[4];
  uint64_t first_token_ns, reserved[5], more[24];
} npm_record;
typedef struct npm_facts { npm_step step; uint64_t members, size; } npm_facts; /* what a record of a step has then */
enum { NPM_ORPHAN = 1, NPM_REMOTE = 2, NPM_DROPPED = 0x10, NPM_USAGE = 0x80, NPM_TOKEN = 0x100, NPM_GIVEN = 0x200 };
enum { NPM_IS_SPAN = 0x400, NPM_IS_STEP = 0x800, NPM_ENTRY_SPAN = 0, NPM_ENTRY_STEP = 4, NPM_ENTRY_MEMBERS = 5 };
enum { NPM_WITH_TIMES = 1, NPM_WITH_USAGE = 2, NPM_WITH_TOKEN = 4, NPM_WITH_ENGINE = 8, NPM_WITH_VALUES = 16 };
enum { NPM_WITH_STEP = 0x20, NPM_WITH_TYPE = 0x200, NPM_WITH_NAME = 0x400, NPM_WITH_MEMBERS = 0x800 };
enum { NPM_WITH_ATTRIBUTES = 0x1000, NPM_WITH_TEXTS = 0x1f00, NPM_COUNTS_TOKENS = 0x10000, NPM_COUNTS_TOOL = 0x20000 };
enum { NPM_USAGE_BELOW = 1, NPM_TOOL_BELOW = 2 }; /* a span inside has counted it: NPM_COUNTS_* is of the innermost one */
enum { NPM_LOST, NPM_NAMES = 5, NPM_TRUNCATED = 8, NPM_LABELS_OVER, NPM_IDS, NPM_UTF8 = 13, NPM_FIELDS = 15 };
enum { NPM_MEMBERS_LOST = 26, NPM_OVER_LIMIT = 28, NPM_COUNTS = 31 }; /* places in nopspan::Stats */
enum { NPM_SLABS = 256, NPM_LABELS = 256, NPM_KNOWN = 96, NPM_FREE = 0, NPM_OPEN, NPM_CHANGING };
typedef struct npm_state { /* a span; its first 256 bytes are nopspan_open, which others may read */
  uint32_t state, generation; uint64_t trace_id[2], span_id, root_id, tracestate; uint16_t labels[6];
  uint8_t trace_flags, context_bits, reserved[2]; uint64_t parent_id, mark, start_ns, first_token_ns, output_tokens;
  uint32_t flags, thread_id, reserved_2[3], name_size; char name[64], foreign_id[64];
  const void* owner; /* npm_slabs of the copy of this header that has the state */
  uint64_t random, end_ns, usage[4], times_size; npm_times times; /* times_size 320: there are times */
  npm_span parent; uint32_t place, status, attribute_bytes; uint8_t kind, below, busy, reserved_3;
  char error_type[64], tool[64]; unsigned char attributes[NPM_ATTRIBUTE_BYTES];
} npm_state;
typedef struct npm_slot { /* the buffer of a thread, and a table of what is in it that several entries share */
  npm_thread header; uint64_t sequence[10], awaited_root, longest_root_ns, flushed_ns;
  uint32_t locked, batch, errors, awaiting, elsewhere, announced; uint64_t* at; /* where the buffer is written next */
  struct { uint64_t hash; uint32_t batch, place; } known[NPM_KNOWN]; uint64_t buffer[4096];
} npm_slot;
typedef char npm_limits[NPM_SPANS >= 0 && NPM_SPANS % 64 == 0 && NPM_SPANS <= 16384 && NPM_ATTRIBUTE_BYTES % 64 == 0 &&
  NPM_ATTRIBUTE_BYTES >= 64 && NPM_ATTRIBUTE_BYTES <= 8192 && NPM_THREADS >= 1 ? 1 : -1]; /* an error: see above */
static npm_state npm_states[NPM_SPANS > 0 ? NPM_SPANS : 64] __attribute__((__aligned__(64)));
static npm_slot npm_slots[NPM_THREADS] __attribute__((__aligned__(64)));
static struct { uint64_t spans, free; } npm_slabs[NPM_SLABS]; /* struct nopspan_slab */
static npm_label npm_labels[NPM_LABELS];
static uint64_t npm_counts[NPM_COUNTS], npm_taken; /* npm_taken: how often a thread took a slot */
static uint32_t npm_refused; /* so many spans are lost before anybody looks for a free state again */
static uint32_t npm_states_number, npm_has_parent, npm_key, npm_has_key; /* npm_key: of pthread_key_create() */
static uint32_t npm_has_random; /* the processor has random numbers */
static unsigned char npm_own_page[2 * 65536]; /* a page in it is cleared by the kernel in a child process: */
/* The process's mark (0: not made yet, 1: being made), two keys, and when they changed. NULL: nothing is recorded. */
static uint64_t* npm_own;
#if defined(__GLIBC__)
__attribute__((__tls_model__("initial-exec"))) /* no call, and no memory in a signal handler */
#endif
static __thread struct { uint64_t mark; uint32_t thread_id, last, slot; } npm_self; /* last: of npm_states */
static npm_page* npm_the_page(void) { return (npm_page*)(void*)npm1_gate; }
static void npm_count(int which, size_t number) { __atomic_fetch_add(&npm_counts[which], number, __ATOMIC_RELAXED); }
static uint64_t npm_address(const void* at) { return (uint64_t)(uintptr_t)at; }
static uint64_t npm_between(uint64_t from, uint64_t to) { return to > from ? to - from : 0; }
static npm_state* npm_state_at(uint32_t i) { return (npm_state*)NPM_GET(&npm_slabs[i / 64].spans) + i % 64; }
static uint64_t npm_now(void) {
  int64_t time[2]; npm_clock_gettime(1, time); /* CLOCK_MONOTONIC */
  return (uint64_t)time[0] * 1000000000 + (uint64_t)time[1];
}
static uint64_t npm_mix(uint64_t z) {
  z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9); z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
  return z ^ z >> 31;
}
/* A random number of the processor, or 0 if it has none. Unlike what is in memory, it is not in a copy of the process. */
static uint64_t npm_processor_random(void) {
  uint64_t made = 0, is_made = 0;
  if (!npm_has_random) return 0;
#if defined(__x86_64__)
  __asm__ volatile("xorl %k1, %k1; rdrand %0; adcq $0, %1" : "=&r"(made), "=&r"(is_made) : : "cc");
#else
  __asm__ volatile("mrs %0, s3_3_c2_c4_0; cset %1, ne" : "=r"(made), "=r"(is_made) : : "cc"); /* RNDR */
#endif
  return is_made ? made : 0;
}
/* Changes the keys of ids, every 10 ms. Copies of the process, which were restored from a snapshot or a checkpoint, have
 * the same keys until then. */
__attribute__((__cold__, __noinline__)) static void npm_renew_keys(uint64_t now) {
  uint64_t last = NPM_GET(&npm_own[3]), random = npm_mix(npm_processor_random() ^ now);
  if (!NPM_SWAP(&npm_own[3], &last, now)) return; /* another thread does it */
  NPM_PUBLISH(&npm_own[1], NPM_GET(&npm_own[1]) ^ random);
  NPM_PUBLISH(&npm_own[2], npm_mix(NPM_GET(&npm_own[2]) + random));
}
/* Not 0. The time is a part of it and of the state, because copies of the process have the same state. It comes last, so
 * that the processor need not wait for its clock before. */
static uint64_t npm_random(uint64_t* state, uint64_t now) {
  const uint64_t odd = UINT64_C(0x9e3779b97f4a7c15); uint64_t made = 0;
  if (now - NPM_GET(&npm_own[3]) >= 10000000) npm_renew_keys(now);
  while (made == 0) made = (npm_mix((*state += odd) ^ NPM_GET(&npm_own[1])) + NPM_GET(&npm_own[2])) ^ now * odd;
  *state += now * odd;
  return made;
}
/* Makes the number of this process. Spans that are open are those of its parent, and are forgotten. */
__attribute__((__cold__, __noinline__)) static uint64_t npm_make_mark(void) {
  const int error = *npm_errno(); uint64_t none = 0, random[3], at; unsigned i;
  if (!NPM_SWAP(&npm_own[0], &none, 1)) return 0;
  for (i = 0; i < 3; ++i) random[i] = npm_mix(npm_now() ^ npm_address(&random[i]));
  npm_syscall(NPM_EITHER(318, 278), random, sizeof(random), 1); /* getrandom(), GRND_NONBLOCK */
  *npm_errno() = error; npm_own[1] = random[1], npm_own[2] = random[2];
  npm_refused = 0;
  for (i = 0; npm_has_parent && i < npm_states_number; ++i)
    if ((npm_slabs[i / 64].free >> i % 64 & 1) == 0) npm_state_at(i)->state = NPM_FREE;
  for (at = npm_has_parent ? npm_the_page()->threads : 0; at != 0; at = ((npm_slot*)at)->header.next_thread)
    ((npm_slot*)at)->header.mark = ((npm_slot*)at)->locked = 0;
  npm_has_parent = 1; /* the next one is made by a child process */
  return NPM_PUBLISH(&npm_own[0], random[0] | 2), random[0] | 2;
}
/* This process and thread. 0: nothing can be recorded. */
static uint64_t npm_enter_process(void) {
  uint64_t mark = npm_own != NULL ? NPM_TAKE(&npm_own[0]) : 1;
  if (__builtin_expect(mark < 2, 0)) mark = mark == 0 ? npm_make_mark() : 0;
  if (__builtin_expect(npm_self.mark != mark, 0) && mark != 0) {
    npm_self.thread_id = (uint32_t)npm_syscall(NPM_EITHER(186, 178)), npm_self.mark = mark; /* gettid() */
    if (npm_has_key) npm_setspecific(npm_key, npm_slabs);
  }
  return mark;
}
/* Copies a text as UTF-8 of at most `room` - 1 bytes. Bytes that are not UTF-8, and control characters unless
 * `controls`, become "?". A longer text ends with an ellipsis. Returns the length, without a NUL. */
static size_t npm_clean(char* out, const char* text, size_t room, int controls) {
  const unsigned char* in = (const unsigned char*)text;
  const size_t size = strlen(text), limit = size < room ? size : room - 4; size_t i = 0, k, at = 0, length, bad = 0;
  for (; i < limit; i += length) {
    uint32_t code = in[i];
    length = code < 0x80 ? 1 : code < 0xc2 ? 0 : code < 0xe0 ? 2 : code < 0xf0 ? 3 : code < 0xf5 ? 4 : 0;
    if (length > 1) code &= 0x7fu >> length;
    for (k = 1; k < length && (in[i + k] & 0xc0) == 0x80; ++k) code = code << 6 | (in[i + k] & 0x3fu);
    if (k < length || (length > 2 && code >> (5 * length - 4) == 0) || code > 0x10ffff || code >> 11 == 0x1b ||
        (!controls && (code < 0x20 || (code >= 0x7f && code < 0xa0)))) length = 0;
    if (i + length > limit) break;
    if (length != 0) memcpy(out + at, in + i, length), at += length;
    else out[at++] = '?', ++bad, length = 1;
  }
  if (size >= room) memcpy(out + at, "\xe2\x80\xa6", 3), at += 3, npm_count(NPM_TRUNCATED, 1);
  if (bad != 0) npm_count(NPM_UTF8, 1);
  return at;
}
/* The same for names, labels and types. The rest of the 64 bytes is zero. */
static uint32_t npm_clean_name(char out[64], const char* text) {
  uint32_t size = 0; memset(out, 0, 64);
  if (text == NULL) return 0;
  while (size < 63 && text[size] > 0x1f && text[size] < 0x7f) out[size] = text[size], ++size; /* as a rule all of it */
  return text[size] == '\0' ? size : (uint32_t)npm_clean(out, text, 64, 0);
}
/* The number of a label. 0: the text is empty, or the table is full. */
static uint16_t npm_label_of(const char* value) {
  char text[64]; const uint32_t size = npm_clean_name(text, value); uint32_t i;
  for (i = 1; size != 0 && i < NPM_LABELS; ++i) {
    npm_label* const label = &npm_labels[i]; uint32_t none = 0;
    if (NPM_GET(&label->number) == 0 && NPM_SWAP(&label->number, &none, i))
      memcpy(label->text, text, sizeof(text)), NPM_PUBLISH(&label->size, size);
    if (NPM_TAKE(&label->size) == size && memcmp(label->text, text, size) == 0) return (uint16_t)i;
  }
  return npm_count(NPM_LABELS_OVER, size != 0), 0;
}
/* The state of a span that is open. */
static npm_state* npm_state_of(npm_span span) {
  npm_state* const s = (npm_state*)span.state;
  if (s == NULL || npm_own == NULL || NPM_GET(&s->owner) != npm_slabs || NPM_GET(&s->mark) != NPM_GET(&npm_own[0]))
    return NULL; /* another thread may be reusing the state of a span that has ended */
  return NPM_GET(&s->generation) == span.generation && NPM_GET(&s->state) == NPM_OPEN ? s : NULL;
}
/* The same for a change. NULL too in a signal handler that interrupted another one. npm_give_back() ends it. */
static npm_state* npm_take(npm_span span) {
  npm_state* const s = npm_state_of(span);
  if (s == NULL || s->busy) return NULL;
  s->busy = 1; __atomic_signal_fence(__ATOMIC_SEQ_CST);
  return s;
}
static void npm_give_back(npm_state* s) { __atomic_signal_fence(__ATOMIC_SEQ_CST); s->busy = 0; }
/* ---- A thread's batch ---- */
static void npm_call(npm_site* site, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, const void* a5) {
  __asm__ volatile("" : : "r"(a0), "r"(a5) : "memory"); /* what a tracer reads is in memory */
  if (npm_the_page()->flags == 0) site(a0, a1, a2, a3, a4, npm_address(a5));
}
static void npm_empty(npm_slot* slot) {
  npm_thread* const header = &slot->header; NPM_PUBLISH(&header->bytes, 0); NPM_PUBLISH(&header->first, header->next);
  __atomic_thread_fence(__ATOMIC_RELEASE); /* a reader that sees the next entry sees `first` */
  header->open_entries = header->requests = slot->errors = slot->awaiting = slot->elsewhere = 0; ++slot->batch;
  header->name_bits = header->model_bits = header->request_bits = slot->awaited_root = slot->longest_root_ns = 0;
}
/* Reports the entries. If no tracer takes them any more, they are discarded. */
static void npm_flush(npm_slot* slot, uint64_t now) {
  npm_thread* const header = &slot->header; const uint64_t entries = header->next - header->first;
  slot->flushed_ns = now; slot->announced = (NPM_GET(&npm1_gate[0]) & NPM_UP_BATCH) != 0;
  if (entries == 0) return;
  if (!slot->announced) header->discarded += entries;
  else npm_call(npm1_site_batch, header->buffer, header->bytes, entries, slot->longest_root_ns, slot->errors, header);
  npm_empty(slot);
}
/* Gives the slot to this thread. */
__attribute__((__cold__, __noinline__)) static void npm_take_over(npm_slot* slot) {
  npm_thread* const header = &slot->header; npm_page* const page = npm_the_page(); const uint64_t mark = npm_self.mark;
  uint64_t random = npm_mix(__atomic_add_fetch(&npm_taken, 1, __ATOMIC_RELAXED));
  if (header->mark == mark) npm_flush(slot, 0);
  NPM_PUBLISH(&header->mark, 0);
  if (header->magic == 0) {
    uint64_t first = NPM_GET(&page->threads); header->magic = UINT64_C(0x314854414e50534e);
    header->size = offsetof(npm_thread, reserved);
    header->buffer = npm_address(slot->buffer), header->capacity = sizeof(slot->buffer);
    __atomic_fetch_add(&page->memory_bytes, sizeof(slot->buffer), __ATOMIC_RELAXED);
    do header->next_thread = first; while (!NPM_SWAP(&page->threads, &first, npm_address(header)));
  }
  __atomic_store_n(&header->thread_id, npm_self.thread_id, __ATOMIC_RELAXED);
  header->sequence_id = npm_random(&random, npm_now()); header->next = header->discarded = slot->announced = 0;
  npm_empty(slot); NPM_PUBLISH(&header->mark, mark);
}
/* A slot until npm_leave(): this thread's, a free one if a signal handler interrupted its use, or another thread's. */
static npm_slot* npm_enter(void) {
  for (uint32_t i = 0; i < 2 * NPM_THREADS; ++i) {
    npm_slot* const slot = &npm_slots[(npm_self.slot + i) % NPM_THREADS];
    if (i < NPM_THREADS && NPM_GET(&slot->header.mark) == npm_self.mark &&
        NPM_GET(&slot->header.thread_id) != npm_self.thread_id) continue;
    if (NPM_GET(&slot->locked) || __atomic_exchange_n(&slot->locked, 1, __ATOMIC_ACQUIRE)) continue;
    if (slot->header.mark != npm_self.mark || slot->header.thread_id != npm_self.thread_id) npm_take_over(slot);
    if (i != 0) npm_self.slot = (npm_self.slot + i) % NPM_THREADS;
    return slot;
  }
  return NULL;
}
static void npm_leave(npm_slot* slot) { NPM_PUBLISH(&slot->locked, 0); }
/* Called when a thread ends: reports what it has, and frees its slots. With NULL: for all threads. */
static void npm_end_thread(void* value) {
  const uint64_t mark = npm_own != NULL ? NPM_GET(&npm_own[0]) : 0; uint32_t i;
  for (i = 0; mark > 1 && i < NPM_THREADS; ++i) {
    npm_slot* const slot = &npm_slots[i];
    if (NPM_GET(&slot->header.mark) != mark) continue; /* in a child, that is a slot of its parent */
    if (value != NULL && NPM_GET(&slot->header.thread_id) != npm_self.thread_id) continue;
    if (__atomic_exchange_n(&slot->locked, 1, __ATOMIC_ACQUIRE)) continue;
    npm_flush(slot, 0); /* 0: what still ends is reported at once */
    NPM_PUBLISH(&slot->header.mark, 0);
    npm_leave(slot);
  }
}
/* Appends bytes, padded to a multiple of 8. Returns a text's place: nopspan_text. */
static uint64_t npm_put(npm_slot* slot, const void* bytes, size_t size) {
  const uint64_t* const at = slot->at;
  if (size % 8 != 0) slot->at[size / 8] = 0;
  memcpy(slot->at, bytes, size); slot->at += (size + 7) / 8;
  return (uint64_t)(at - slot->buffer) | (uint64_t)size << 16;
}
/* The place of words that were appended at `at`. If the batch has the same words from `i` to `end`, it is their place,
 * and the new ones are removed. Only the bits of `mask` of the first word are compared. */
static uint64_t npm_share(npm_slot* slot, uint32_t table, uint64_t* at, uint64_t mask, uint32_t i, uint32_t end) {
  const uint64_t first = at[i] & mask, place = (uint64_t)(at - slot->buffer); const uint64_t* other;
  uint64_t hash = first * UINT64_C(0x9e3779b97f4a7c15); uint32_t k;
  for (k = i + 1; k < end; ++k) hash ^= (at[k] + k) * UINT64_C(0x94d049bb133111eb);
  k = table + (uint32_t)((hash ^ hash >> 32) * UINT64_C(0x9e3779b97f4a7c15) >> 59);
  other = slot->buffer + slot->known[k].place;
  if (slot->known[k].batch == slot->batch && slot->known[k].hash == hash && (other[i] & mask) == first) {
    while (++i < end && other[i] == at[i]) {}
    if (i >= end) return slot->at = at, slot->known[k].place;
  }
  slot->known[k].hash = hash, slot->known[k].batch = slot->batch, slot->known[k].place = (uint32_t)place;
  return place;
}
/* Appends a text of a name or label, unless the batch has it. Sets the bit by which filters find it. */
static uint64_t npm_put_once(npm_slot* slot, const char text[64], uint32_t size, uint64_t* bits) {
  uint64_t* const at = slot->at; uint64_t place, hash = UINT64_C(0xcbf29ce484222325); uint32_t i;
  if (size == 0) return 0;
  for (i = 0; i < size; i += 8) memcpy(slot->at++, text + i, 8);
  place = npm_share(slot, 0, at, ~UINT64_C(0), 0, i / 8);
  if (slot->at != at && bits != NULL) {
    for (i = 0; i < size; ++i) hash = (hash ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    *bits |= UINT64_C(1) << (hash >> 58);
  }
  return place | size << 16;
}
/* The span of an event or a retry, if it is open. */
static const npm_state* npm_around(const npm_state* s) {
  return s->kind == NPM_EVENT || s->kind == NPM_RETRY ? npm_state_of(s->parent) : NULL;
}
/* Writes an entry, with a step's members from `at`, up to 512, and what entries share. Returns the next `at`. */
static uint32_t npm_write(npm_slot* slot, const npm_state* s, uint64_t times[3], const npm_facts* facts, uint32_t at) {
  npm_thread* const header = &slot->header; const npm_state* const around = npm_around(s);
  const uint32_t left = facts != NULL ? facts->step.members - at : 0, count = left < 512 ? left : 512;
  const uint64_t kind = at == 0 ? s->kind : NPM_ENTRY_MEMBERS, now = times[2]; uint32_t i, n = 0;
  const int is_root = kind == NPM_ENTRY_SPAN && s->span_id == s->root_id && (s->flags & (NPM_REMOTE | NPM_ORPHAN)) == 0;
  const size_t type = strlen(s->error_type), used = s->attribute_bytes;
  const size_t tool = kind == NPM_ENTRY_SPAN ? strlen(s->tool) : 0; uint64_t request_at, form_at, after, parts = 0;
  uint64_t *request, *form, *entry, *places, numbers[32], *end = numbers, texts[4] = {0, 0, 0, 0};
  if (!slot->announced) { /* a thread shows its header to a tracer before its first entry */
    npm_flush(slot, 0); slot->announced = 1; npm_call(npm1_site_batch, 0, 0, 0, 0, 0, header);
  }
  if (header->bytes + 1024 + used + count * sizeof(npm_member) > sizeof(slot->buffer) ||
      (kind == NPM_ENTRY_STEP && now - slot->flushed_ns >= 1000000)) npm_flush(slot, now);
  request = slot->buffer + header->bytes / 8; slot->at = request + 6;
  request[0] = 48 | 0x80 << 16 | (uint64_t)header->requests << 32; memcpy(request + 1, s->trace_id, 16);
  request[3] = s->root_id, request[4] = times[0], request[5] = 0;
  request_at = npm_share(slot, 32, request, ~UINT64_C(0), 1, 4);
  if (slot->at != request) header->requests = (uint32_t)request_at + 1;
  header->request_bits |= UINT64_C(1) << (s->trace_id[1] >> 56) % 64; request = slot->buffer + request_at;
  after = times[0] - request[4];
  if ((after + (UINT64_C(1) << 31)) >> 32 != 0 || times[1] >> 32 != 0)
    parts |= NPM_WITH_TIMES, memcpy(end, times, 16), end += 2;
  if (at == 0 && s->flags & NPM_USAGE)
    parts |= NPM_WITH_USAGE | (s->below & NPM_USAGE_BELOW ? 0 : NPM_COUNTS_TOKENS), memcpy(end, s->usage, 32), end += 4;
  if (at == 0 && s->flags & NPM_TOKEN) parts |= NPM_WITH_TOKEN, *end++ = s->first_token_ns;
  if (at == 0 && s->times_size != 0) parts |= NPM_WITH_ENGINE, memcpy(end, &s->times, 56), end += 7;
  if (kind == NPM_GAUGE || kind == NPM_RETRY) parts |= NPM_WITH_VALUES, memcpy(end, s->usage, 16), end += 2;
  if (kind == NPM_ENTRY_MEMBERS) parts |= NPM_WITH_VALUES, *end++ = 0, *end++ = at;
  if (kind == NPM_ENTRY_STEP) parts |= NPM_WITH_STEP, memcpy(end, &facts->step, 128), end += 16;
  parts |= (type != 0 ? NPM_WITH_TYPE : 0) | (count != 0 ? NPM_WITH_MEMBERS : 0) | (around != NULL ? NPM_WITH_NAME : 0);
  if (tool != 0) parts |= NPM_WITH_NAME | (s->below & NPM_TOOL_BELOW ? 0 : NPM_COUNTS_TOOL);
  if (parts & NPM_WITH_TEXTS && (type != 0 || used != 0)) parts |= NPM_WITH_ATTRIBUTES;
  form = slot->at; slot->at += 4;
  form[0] = 0x81 << 16 | kind << 24 | (uint64_t)s->flags << 32; form[1] = parts; form[2] = form[3] = 0;
  form[1] |= npm_put_once(slot, s->name, s->name_size, s->flags & NPM_IS_SPAN ? &header->name_bits : NULL) << 32;
  for (i = 0; i < 3; ++i)
    form[2 + i / 2] |= npm_put_once(slot, npm_labels[s->labels[i]].text, npm_labels[s->labels[i]].size,
                                    i == NPM_MODEL ? &header->model_bits : NULL) << i % 2 * 32;
  form[0] |= (uint64_t)(slot->at - form) * 8; form_at = npm_share(slot, 64, form, ~UINT64_C(0xffff), 0, 4);
  entry = slot->at; slot->at += 4; entry[1] = s->span_id, entry[2] = s->parent_id;
  entry[3] = parts & NPM_WITH_TIMES ? 0 : (uint32_t)after | times[1] << 32;
  npm_put(slot, numbers, (size_t)(end - numbers) * 8);
  places = slot->at; slot->at += (__builtin_popcountll(parts & NPM_WITH_TEXTS) + 1) / 2;
  if (type != 0) texts[n++] = npm_put(slot, s->error_type, type);
  if (around != NULL) texts[n++] = npm_put_once(slot, around->name, around->name_size, NULL);
  if (tool != 0) texts[n++] = npm_put(slot, s->tool, tool);
  if (count != 0) texts[n++] = npm_put(slot, (const npm_member*)facts->members + at, count * sizeof(npm_member));
  if (type != 0 || used != 0) texts[n] = npm_put(slot, s->attributes, used);
  for (i = 0; i <= n && n != 0; i += 2) places[i / 2] = texts[i] | texts[i + 1] << 32;
  entry[0] = (uint64_t)(slot->at - entry) * 8 - (n == 0 ? -used & 7 : 0); /* without texts, attributes end with it */
  entry[0] |= kind << 16 | (uint64_t)(s->status | (s->flags & NPM_DROPPED) << 3) << 24;
  entry[0] |= form_at << 32 | request_at << 48;
  if (count != 0) header->request_bits = ~UINT64_C(0), request[0] |= 2 << 24; /* it belongs to other requests too */
  if (kind >= NPM_ENTRY_STEP) ++slot->elsewhere;
  else if (s->root_id != 0) {
    if (s->root_id != slot->awaited_root) slot->elsewhere += slot->awaiting, slot->awaiting = 0;
    slot->awaited_root = s->root_id; slot->awaiting = is_root ? 0 : slot->awaiting + 1;
    if (is_root && times[1] > slot->longest_root_ns) slot->longest_root_ns = times[1];
  }
  header->open_entries = slot->elsewhere + slot->awaiting;
  if (s->status == NPM_ERROR && kind != NPM_ENTRY_MEMBERS) ++slot->errors;
  header->written_ns = now; NPM_PUBLISH(&header->bytes, (uint64_t)(slot->at - slot->buffer) * 8);
  NPM_PUBLISH(&header->next, header->next + 1);
  if (now - slot->flushed_ns >= (is_root ? 1000000u : 100000000u)) npm_flush(slot, now);
  return at + count;
}
/* Calls the site of a probe, with the record of a span, an event or a gauge. */
static void npm_fire(int probe, npm_site* site, const npm_state* s, uint64_t a2, uint64_t a4, const npm_facts* facts) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const npm_state* const around = npm_around(s); npm_slot* const slot = npm_enter(); npm_record r; uint64_t a0, a1;
  const unsigned char* const id = (const unsigned char*)s->trace_id; uint32_t i, bits = 0, held = 0, at = 0;
  if (slot == NULL) return;
  memset(&r, 0, sizeof(r)); r.size = offsetof(npm_record, reserved), r.flags = s->flags, r.status = s->status;
  r.span_id = s->span_id, r.parent_id = s->parent_id, r.root_id = s->root_id;
  r.start_ns = around != NULL ? around->start_ns : s->start_ns;
  r.duration_ns = npm_between(s->start_ns, s->end_ns), r.first_token_ns = s->first_token_ns;
  r.sequence_id = slot->header.sequence_id, r.sequence = slot->sequence[probe]++;
  for (i = 0; s->root_id != 0 && i < 17; ++i) /* a last zero byte fills up the last digit */
    for (bits = bits << 8 | (i < 16 ? id[i] : 0u), held += 8; held >= 6 && at < 22; held -= 6)
      r.request_id[at++] = digits[bits >> (held - 6) & 63];
  for (i = 0; i < 3; ++i) {
    r.labels[i] = npm_address(npm_labels[s->labels[i]].text);
    (void)*(const volatile char*)npm_labels[s->labels[i]].text; /* read, because a tracer cannot load a page */
  }
  r.name = npm_address(s->name), r.error_type = npm_address(s->error_type);
  r.kind = r.tracestate = npm_address(s->foreign_id); /* "" */
  r.attributes = npm_address(s->attributes), r.attributes_bytes = s->attribute_bytes;
  if (s->flags & NPM_USAGE) memcpy(r.usage, s->usage, sizeof(r.usage));
  memcpy(r.more, facts != NULL ? (const void*)facts : &s->times_size, facts != NULL ? sizeof(*facts) : 64);
  a0 = s->kind == NPM_GAUGE || facts != NULL ? r.labels[0] : npm_address(r.request_id); a1 = r.name;
  if (site == npm1_site_retry && around != NULL) a1 = npm_address(around->name);
  if (site == npm1_site_tool_call) a1 = npm_address(s->tool);
  npm_call(site, a0, a1, a2, r.labels[1], a4, &r); npm_leave(slot);
}
/* ---- Spans ---- */
/* Takes a free state. This is usually the state that this thread used last. If none is free, the next spans are lost
 * without a look at all states, until one is released. A release that comes in between may be missed, so there are
 * only some of them: each then costs 16 states, however many there are. */
static npm_state* npm_claim(void) {
  const uint32_t states = NPM_GET(&npm_states_number), refused = NPM_GET(&npm_refused);
  uint32_t i, at = npm_self.last;
  for (i = refused == 0 ? 0 : states; i < states; ++i, ++at) {
    npm_state* const s = npm_state_at(at = at < states ? at : 0); uint32_t free = NPM_FREE;
    if (NPM_GET(&s->state) != NPM_FREE || !NPM_SWAP(&s->state, &free, NPM_CHANGING)) continue;
    if (NPM_GET(&npm_slabs[at / 64].free) >> at % 64 & 1) /* it was never used */
      __atomic_fetch_and(&npm_slabs[at / 64].free, ~(UINT64_C(1) << at % 64), __ATOMIC_RELEASE);
    npm_self.last = at + 1; s->place = at;
    return s;
  }
  NPM_PUBLISH(&npm_refused, refused == 0 ? states / 16 : refused - 1);
  npm_count(NPM_LOST, 1); npm_count(NPM_OVER_LIMIT, 1);
  return NULL;
}
static void npm_release(npm_state* s) {
  npm_self.last = s->place; NPM_PUBLISH(&s->state, NPM_FREE);
  if (NPM_GET(&npm_refused) != 0) NPM_PUBLISH(&npm_refused, 0);
}
/* The context of a span that is open and belongs to a trace. An event outside of spans does not. */
NPM_GLOBAL void npm1_context(npm_context* context, npm_span span) {
  const npm_state* const s = npm_state_of(span);
  if (s == NULL || s->root_id == 0) return;
  memcpy(context, (const char*)s + offsetof(npm_state, trace_id), offsetof(npm_context, span));
  context->bits = 1, context->span = span;
}
NPM_GLOBAL npm_span npm1_begin(int what, const char* name, npm_span above, const npm_context* given) {
  const npm_span parent = given != NULL ? given->span : above; const npm_state* const of = npm_state_of(parent);
  const void* const from = of != NULL && of->root_id != 0 ? (const char*)of + offsetof(npm_state, trace_id)
                         : given != NULL && given->bits & 1 ? (const char*)given : NULL;
  const uint64_t mark = npm_enter_process(); npm_state* const s = mark != 0 ? npm_claim() : NULL;
  npm_span span = npm1_no(1); uint32_t i;
  if (s == NULL) return span;
  NPM_PUBLISH(&s->generation, s->generation + 1);
  if (from != NULL) memcpy((char*)s + offsetof(npm_state, trace_id), from, offsetof(npm_context, span));
  else memset((char*)s + offsetof(npm_state, trace_id), 0, offsetof(npm_context, span));
  s->parent_id = s->span_id, s->parent = parent;
  __atomic_store_n(&s->owner, (const void*)npm_slabs, __ATOMIC_RELAXED);
  __atomic_store_n(&s->mark, mark, __ATOMIC_RELAXED);
  s->flags = (uint32_t)what >> 8, s->kind = (uint8_t)what, s->thread_id = npm_self.thread_id, s->start_ns = npm_now();
  s->first_token_ns = s->output_tokens = s->end_ns = s->times_size = 0, s->error_type[0] = s->tool[0] = '\0';
  s->status = s->attribute_bytes = s->context_bits = s->below = s->busy = 0;
  if (npm_the_page()->raised_ns == 0) NPM_PUBLISH(&npm_the_page()->raised_ns, s->start_ns);
  s->name_size = npm_clean_name(s->name, name);
  if (s->name_size == 0) npm_count(NPM_NAMES, 1), memcpy(s->name, "unnamed", s->name_size = 7);
  if (s->random == 0) s->random = npm_mix(npm_address(s));
  if (from == NULL && (above.began || (given != NULL && given->bits & 2))) s->flags |= NPM_ORPHAN;
  if (from != NULL && s->root_id == 0) s->flags |= NPM_REMOTE;
  if (s->flags & NPM_IS_SPAN) {
    for (i = 0; i < 2 && from == NULL; ++i) s->trace_id[i] = npm_random(&s->random, s->start_ns), s->trace_flags = 1;
    s->span_id = npm_random(&s->random, s->start_ns);
    if (s->root_id == 0) s->root_id = s->span_id;
  } else { /* an event has the ids of its span */
    s->parent_id = of != NULL ? of->parent_id : 0;
    s->flags |= of != NULL ? of->flags & (NPM_ORPHAN | NPM_REMOTE) : 0;
  }
  s->flags |= (s->trace_flags & 1u) << 6 | (s->trace_flags & 2u) << 15; NPM_PUBLISH(&s->state, NPM_OPEN);
  if (NPM_UP(0xffff) && s->flags & NPM_IS_SPAN) npm_fire(0, npm1_site_span_start, s, s->start_ns, s->span_id, NULL);
  span.state = s, span.generation = s->generation;
  return span;
}
static int npm_begins(const char* text, const char* prefix) { return strncmp(text, prefix, strlen(prefix)) == 0; }
static int npm_is_of_llm(const char* name) {
  return npm_begins(name, "llm.") || npm_begins(name, "gen_ai.") || npm_begins(name, "mcp.");
}
/* Whether nopspan knows spans of this name: their attributes have the names of docs/genai.md. */
static int npm_is_of_catalogue(const char* name) {
  return npm_is_of_llm(name) || npm_begins(name, "agent.") || npm_begins(name, "engine.");
}
/* Completes the facts of a step, and moves the members that have prefill tokens to the front. */
static void npm_complete(npm_step* step, npm_member* members, uint32_t count) {
  uint64_t sums[4] = {0, 0, 0, 0}, *const facts = &step->prefill_tokens; uint32_t front = 0, i;
  for (i = 0; i < count; ++i) {
    const npm_member member = members[i];
    sums[0] += member.prefill_tokens, sums[1] += member.decode_tokens;
    sums[2] += member.drafted_tokens, sums[3] += member.accepted_tokens;
    if (member.prefill_tokens != 0) members[i] = members[front], members[front++] = member;
  }
  step->size = offsetof(npm_step, reserved), step->members = count, step->members_with_prefill = front;
  if (step->batch_size == 0) step->batch_size = count + step->dropped;
  for (i = 0; i < 4; ++i) facts[i] += facts[i] == 0 ? sums[i] : 0;
  if (step->kind == 0 && sums[0] + sums[1] != 0) step->kind = (front != 0 ? 1u : 0u) | (front != count ? 2u : 0u);
  if (step->kind == 0) step->kind = (facts[0] != 0 ? 1u : 0u) | (facts[1] != 0 ? 2u : 0u);
}
/* Reports the end of a span, or an event, that nobody changes any more. */
static void npm_report(npm_state* s, const npm_facts* facts) {
  const uint64_t gate = NPM_GET(&npm1_gate[0]), up = gate & NPM_UP_POINTS, now = npm_now();
  const uint64_t first_ns = s->flags & NPM_TOKEN ? s->start_ns + s->first_token_ns : 0;
  const uint8_t counted = (s->flags & NPM_USAGE ? NPM_USAGE_BELOW : 0) | (s->tool[0] != '\0' ? NPM_TOOL_BELOW : 0);
  npm_state* above = counted != 0 ? npm_state_of(s->parent) : NULL; npm_slot* slot;
  uint64_t times[3] = {now, 0, now}; uint32_t at = 0; /* start, duration, now */
  if (s->end_ns == 0) s->end_ns = now;
  if (s->flags & NPM_IS_SPAN) times[0] = s->start_ns, times[1] = npm_between(s->start_ns, s->end_ns);
  if ((gate & NPM_UP_SPAN) == 0) NPM_PUBLISH(&npm_the_page()->raised_ns, 0);
  for (; above != NULL && (NPM_GET(&above->below) & counted) != counted; above = npm_state_of(above->parent))
    __atomic_fetch_or(&above->below, counted, __ATOMIC_RELAXED);
  if (up && s->kind == NPM_GAUGE) npm_fire(7, npm1_site_gauge, s, s->usage[0], s->usage[1], NULL);
  if (up && s->kind == NPM_EVENT) npm_fire(2, npm1_site_event, s, now, s->span_id, NULL);
  if (up && s->kind == NPM_RETRY) npm_fire(8, npm1_site_retry, s, s->usage[0], s->usage[1], NULL);
  if (up && facts != NULL) npm_fire(3, npm1_site_engine_step, s, times[1], facts->step.members, facts);
  if (up && counted & ~s->below & NPM_USAGE_BELOW) npm_fire(4, npm1_site_tokens, s, s->usage[0], s->usage[1], NULL);
  if (up && counted & ~s->below & NPM_TOOL_BELOW) npm_fire(9, npm1_site_tool_call, s, times[1], s->status, NULL);
  if (up && s->times_size != 0)
    npm_fire(5, npm1_site_engine_request, s, times[1], npm_between(s->times.arrival_ns, first_ns), NULL);
  if (gate & 0xffff && s->flags & NPM_IS_SPAN) npm_fire(1, npm1_site_span_stop, s, times[1], s->status, NULL);
  if ((slot = npm_enter()) == NULL) { npm_count(NPM_LOST, 1); return; }
  if (gate & NPM_UP_BATCH)
    do at = npm_write(slot, s, times, facts, at), s->attribute_bytes = 0;
    while (facts != NULL && at < facts->step.members);
  else if (slot->announced) npm_flush(slot, 0);
  npm_leave(slot);
}
NPM_GLOBAL void npm1_end(npm_span span, int status, const char* why, const npm_step* step, npm_member* members,
                         size_t count) {
  const uint32_t most = members == NULL ? 0 : count < 65536 ? (uint32_t)count : 65536; npm_state* s; npm_facts facts;
  s = npm_state_of(span);
  if (s != NULL && status == NPM_CANCELLED && why != NULL)
    npm1_attribute(span, npm_is_of_catalogue(s->name) ? "nopspan.cancel.reason" : "cancel.reason", NPM_TEXT, &why, 1);
  s = npm_take(span);
  if (s == NULL) return;
  NPM_PUBLISH(&s->state, NPM_CHANGING);
  if (s->flags & NPM_IS_STEP) {
    memset(&facts, 0, sizeof(facts));
    if (step != NULL) facts.step = *step;
    facts.members = npm_address(members), facts.size = 400, facts.step.dropped = (uint32_t)(count - most);
    if (count > most) npm_count(NPM_MEMBERS_LOST, facts.step.dropped);
    npm_complete(&facts.step, members, most);
  }
  s->status = (uint32_t)status;
  if (status == NPM_ERROR && why != NULL && why[strspn(why, NPM_TYPE)] != '\0') why = "_OTHER", npm_count(NPM_NAMES, 1);
  if (why != NULL) npm_clean_name(s->error_type, why);
  npm_report(s, s->flags & NPM_IS_STEP ? &facts : NULL); npm_release(s);
}
/* ---- What is set on a span ---- */
/* Puts a tag and a varint before `at`. Protobuf is written from its end, where sizes, which come first, are known. */
static unsigned char* npm_front(unsigned char* at, unsigned char tag, uint64_t value) {
  unsigned char* out; uint64_t rest;
  for (rest = value; rest >= 0x80; rest >>= 7) --at;
  at -= 2; out = at; *out++ = tag;
  for (; value >= 0x80; value >>= 7) *out++ = (unsigned char)(value | 0x80);
  return *out = (unsigned char)value, at;
}
/* Puts a value before `at`, as OTLP's AnyValue. Returns NULL if there is no room for it after `begin`. */
static unsigned char* npm_value(const unsigned char* begin, unsigned char* at, int type, const void* values, size_t i) {
  const char* const text = type == NPM_TEXT ? ((const char* const*)values)[i] : NULL;
  const size_t size = text != NULL ? strlen(text) : 0;
  if (size + 32 > (size_t)(at - begin)) return NULL;
  if (type == NPM_BOOL) return npm_front(at, 0x10, ((const int*)values)[i] != 0);
  if (type == NPM_INT) return npm_front(at, 0x18, ((const uint64_t*)values)[i]);
  if (type == NPM_DOUBLE) return memcpy(at - 8, (const uint64_t*)values + i, 8), *(at - 9) = 0x21, at - 9;
  if (size != 0) npm_clean((char*)at - size, text, size + 1, 1); /* which does not change the size */
  return npm_front(at - size, 0x0a, size);
}
/* The keys that are content: docs/genai.md of nopspan marks them. Those without a dot are content only on spans and events
 * whose names begin as in nopspan's catalogues. */
static int npm_captures_content;
static const char* const npm_content[] = {
    "error.message", "exception.message", "exception.stacktrace", "gen_ai.completion", "gen_ai.evaluation.explanation",
    "gen_ai.event.content", "gen_ai.input.messages", "gen_ai.memory.query.text", "gen_ai.memory.records",
    "gen_ai.output.messages", "gen_ai.prompt", "gen_ai.retrieval.documents", "gen_ai.retrieval.query.text",
    "gen_ai.system_instructions", "gen_ai.tool.arguments", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result",
    "gen_ai.tool.definitions", "nopspan.chat_result", "nopspan.code", "nopspan.error", "nopspan.error.message", "nopspan.insight",
    "nopspan.intent", "nopspan.message", "nopspan.notification", "nopspan.reason", "nopspan.response", "nopspan.result",
    "nopspan.stacktrace", "nopspan.step_result", "nopspan.thought", "otel.status_description", NULL};
static const char* const npm_content_of_catalogues[] = {
    "arguments", "error", "input_messages", "output_messages", "response", "stacktrace", "system_instructions",
    "tool_definitions", NULL};
static const char* const npm_content_of_llm[] = {"chat_result", "content", "message", "reason", "step_result", NULL};
static const char* const npm_content_of_agent[] = {
    "code", "insight", "intent", "message", "notification", "reason", "result", "thought", NULL};
static const char* const npm_content_of_tools[] = {"result", NULL};
/* The events whose `reason` is a word of the program: "timeout", "shutdown". */
static const char* const npm_with_plain_reason[] = {
    "agent.coordinator.loop_stopped", "gen_ai.retry", "llm.adapter.retry", NULL};
/* The events whose `tool_calls` are the calls with their arguments, and not a number. */
static const char* const npm_with_tool_calls[] = {"gen_ai.assistant.message", "gen_ai.choice", NULL};
static int npm_is_one_of(const char* const* names, const char* key) {
  for (; *names != NULL; ++names) {
    if (strcmp(*names, key) == 0) return 1;
  }
  return 0;
}
static int npm_is_digit(char c) { return c >= '0' && c <= '9'; }
static int npm_is_content(const char* name, const char* key) {
  if (npm_begins(key, "gen_ai.prompt.") && npm_is_digit(key[14])) return 1; /* older names: "gen_ai.prompt.0.content" */
  if (npm_begins(key, "gen_ai.completion.") && npm_is_digit(key[18])) return 1;
  if (strchr(key, '.') != NULL) return npm_is_one_of(npm_content, key);
  if (strcmp(key, "reason") == 0 && npm_is_one_of(npm_with_plain_reason, name)) return 0;
  if (strcmp(key, "tool_calls") == 0) return npm_is_one_of(npm_with_tool_calls, name);
  if (npm_is_of_llm(name) && npm_is_one_of(npm_content_of_llm, key)) return 1;
  if (npm_begins(name, "agent.") && npm_is_one_of(npm_content_of_agent, key)) return 1;
  if ((npm_begins(name, "llm.tool") || npm_begins(name, "mcp.")) && npm_is_one_of(npm_content_of_tools, key)) return 1;
  return npm_is_of_catalogue(name) && npm_is_one_of(npm_content_of_catalogues, key);
}
/* The names that OpenTelemetry's conventions have for the model and the tokens set these, as the functions for them do. */
static void npm_note_fact(npm_state* s, const char* key, int type, const void* values) {
  static const char* const usage[] = {"gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens",
                                      "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.reasoning.output_tokens"};
  const int is_text = type == NPM_TEXT && *(const char* const*)values != NULL;
  uint32_t i;
  if ((s->flags & NPM_IS_SPAN) == 0 || !npm_begins(key, "gen_ai.")) return;
  if (is_text && strcmp(key, "gen_ai.request.model") == 0) {
    s->labels[NPM_MODEL] = npm_label_of(*(const char* const*)values);
  }
  for (i = 0; i < 4 && type == NPM_INT && *(const int64_t*)values >= 0; ++i) {
    if (strcmp(key, usage[i]) != 0) continue;
    if ((s->flags & NPM_USAGE) == 0) memset(s->usage, 0, sizeof(s->usage));
    s->usage[i] = *(const uint64_t*)values;
    s->flags |= NPM_USAGE;
  }
}
NPM_GLOBAL void npm1_attribute(npm_span span, const char* key, int type, const void* values, size_t count) {
  npm_state* const s = npm_take(span);
  const size_t length = key != NULL ? strlen(key) : 0, key_size = length < 128 ? length : 0;
  unsigned char made[NPM_ATTRIBUTE_BYTES + 192], *const end = made + sizeof(made), *at = end, *last, *place;
  size_t size = NPM_ATTRIBUTE_BYTES + 1, old = 0, head;
  if (s == NULL) return;
  if (!npm_captures_content && key_size != 0 && npm_is_content(s->name, key)) {
    npm_give_back(s);
    return;
  }
  if (key_size == 0 || (values == NULL && count != 0)) at = NULL;
  for (; at != NULL && count != 0; --count) {
    last = at; at = npm_value(made + 160, at, type < 0 ? -type : type, values, count - 1);
    if (at != NULL && type < 0) at = npm_front(at, 0x0a, (uint64_t)(last - at)); /* an element of a list */
  }
  if (type == NPM_TEXT && at != NULL && strcmp(key, "gen_ai.tool.name") == 0 && !npm_begins(s->name, "mcp."))
    npm_clean_name(s->tool, *(const char* const*)values);
  place = s->attributes; last = place + s->attribute_bytes;
  if (at != NULL) {
    if (type < 0) at = npm_front(at, 0x2a, (uint64_t)(end - at));
    at = npm_front(at, 0x12, (uint64_t)(end - at)) - key_size; npm_clean((char*)at, key, key_size + 1, 0);
    at = npm_front(at, 0x0a, key_size);
    for (; place < last; place += old) { /* one of the same key is replaced */
      head = place[1] < 0x80 ? 2 : 3; old = head + (place[1] & 0x7fu) + (head == 3 ? place[2] * 128u : 0);
      if (place[head + 1] == key_size && memcmp(place + head, at, 2 + key_size) == 0) break;
    }
    if (place >= last) old = 0;
    at = npm_front(at, s->flags & NPM_IS_SPAN ? 0x4a : 0x1a, (uint64_t)(end - at)); /* in OTLP's Span or Event */
    size = (size_t)(end - at);
  }
  if (s->attribute_bytes - old + size > NPM_ATTRIBUTE_BYTES) s->flags |= NPM_DROPPED, npm_count(NPM_FIELDS, 1);
  else {
    memmove(place + size, place + old, (size_t)(last - place) - old); memcpy(place, at, size);
    s->attribute_bytes += (uint32_t)(size - old);
  }
  if (key_size != 0 && values != NULL) npm_note_fact(s, key, type, values);
  npm_give_back(s);
}
NPM_GLOBAL void npm1_set(npm_span span, int what, uint64_t which, const void* value) {
  npm_state* const s = npm_take(span); uint64_t start = 0;
  if (s == NULL) return;
  if (what == NPM_SET_LABEL && which < 3) s->labels[which] = npm_label_of((const char*)value);
  if (what == NPM_SET_RETRY) memcpy(s->usage, value, 16);
  if ((s->flags & NPM_IS_SPAN) == 0) what = NPM_SET_LABEL; /* an event has nothing else */
  if (what == NPM_SET_KIND && which < 6) s->flags = (s->flags & ~0x7000u) | (uint32_t)which << 12;
  if (what == NPM_SET_TIME) memcpy(&start, value, 8), s->end_ns = which, s->flags |= NPM_GIVEN;
  if (start != 0) s->start_ns = start;
  if (what == NPM_SET_USAGE) memcpy(s->usage, value, sizeof(s->usage)), s->flags |= NPM_USAGE;
  if (what == NPM_SET_ENGINE && value != NULL) memcpy(&s->times, value, sizeof(s->times)), s->times_size = 320;
  if (s->times_size != 0 && s->times.arrival_ns == 0) s->times.arrival_ns = s->start_ns;
  if (what == NPM_SET_FIRST_TOKEN && (s->flags & NPM_TOKEN) == 0) {
    s->first_token_ns = npm_between(s->start_ns, npm_now()), s->flags |= NPM_TOKEN;
    if (NPM_UP(NPM_UP_POINTS)) npm_fire(6, npm1_site_first_token, s, s->first_token_ns, 1, NULL);
  }
  npm_give_back(s);
}
NPM_GLOBAL void npm1_retry(npm_span parent, int64_t attempt, int64_t delay_ms, const char* reason) {
  const npm_span span = npm1_begin(NPM_RETRY, "gen_ai.retry", parent, NULL);
  const int64_t most_ms = INT64_MAX / 1000000;
  const int64_t values[2] = {delay_ms < 0 ? 0 : delay_ms <= most_ms ? delay_ms * 1000000 : INT64_MAX,
                             attempt < 0 ? 0 : attempt};
  npm1_attribute(span, "retry.attempt", NPM_INT, &attempt, 1);
  npm1_attribute(span, "retry.delay_ms", NPM_INT, &delay_ms, 1);
  if (reason != NULL) npm1_attribute(span, "retry.reason", NPM_TEXT, &reason, 1);
  npm1_set(span, NPM_SET_RETRY, 0, values);
  npm1_end(span, NPM_OK, reason, NULL, NULL, 0);
}
NPM_GLOBAL void npm1_gauge(const char* engine, const char* name, int64_t value, int64_t maximum, uint32_t flags) {
  npm_state* const s = npm_state_of(npm1_begin(NPM_GAUGE, name, npm_none(), NULL));
  if (s == NULL) return;
  s->labels[NPM_ENGINE] = npm_label_of(engine), s->flags |= flags;
  s->usage[0] = (uint64_t)value, s->usage[1] = (uint64_t)maximum;
  npm_report(s, NULL); npm_release(s);
}
static const char npm_hex[] = "0123456789abcdef", npm_w3c[] = "00-00000000000000000000000000000000-0000000000000000-00";
NPM_GLOBAL int npm1_read_traceparent(npm_context* context, const char* header) {
  unsigned char bytes[27] = {0}; const char* digit; uint64_t halves[3]; size_t i, at = 0;
  header += strspn(header, " \t");
  for (i = 0; npm_w3c[i] != '\0'; ++i) {
    digit = header[i] != '\0' ? strchr(npm_hex, header[i]) : NULL;
    if (npm_w3c[i] == '-' ? header[i] != '-' : digit == NULL) break;
    if (npm_w3c[i] != '-') bytes[at / 2] = (unsigned char)(bytes[at / 2] << 4 | (digit - npm_hex)), ++at;
  }
  memcpy(halves, bytes + 1, 24);
  if (npm_w3c[i] == '\0' && header[i + strspn(header + i, " \t")] != '\0' && (bytes[0] == 0 || header[i] != '-')) i = 0;
  if (npm_w3c[i] != '\0' || bytes[0] == 0xff || (halves[0] | halves[1]) == 0 || halves[2] == 0)
    return npm_count(NPM_IDS, *header != '\0'), 0;
  memcpy(context->trace_id, halves, 16); context->span_id = __builtin_bswap64(halves[2]);
  context->trace_flags = bytes[0] == 0 ? bytes[25] : bytes[25] & 1;
  return context->bits = 1;
}
NPM_GLOBAL int npm1_write_traceparent(const npm_context* context, char* header) {
  const uint64_t span_id = __builtin_bswap64(context->span_id); unsigned char bytes[26] = {0}; uint32_t i, at = 0;
  if ((context->bits & 1) == 0) return 0;
  memcpy(bytes + 1, context->trace_id, 16); memcpy(bytes + 17, &span_id, 8); bytes[25] = context->trace_flags;
  for (i = 0; npm_w3c[i] != '\0'; ++i, at += npm_w3c[i - 1] != '-')
    header[i] = npm_w3c[i] == '-' ? '-' : npm_hex[at % 2 == 0 ? bytes[at / 2] >> 4 : bytes[at / 2] & 15];
  return header[i] = '\0', 1;
}
/* ---- The process ---- */
NPM_GLOBAL size_t npm1_add_memory(void* memory, size_t bytes) {
  uint64_t at = (npm_address(memory) + 63) & ~UINT64_C(63); uint32_t i, added = 0;
  for (i = 0; i < NPM_SLABS && at + 64 * sizeof(npm_state) <= npm_address(memory) + bytes; ++i) {
    uint64_t none = 0; if (!NPM_SWAP(&npm_slabs[i].spans, &none, at)) continue;
    NPM_PUBLISH(&npm_slabs[i].free, ~UINT64_C(0)); at += 64 * sizeof(npm_state), added += 64;
  }
  __atomic_fetch_add(&npm_states_number, added, __ATOMIC_RELEASE);
  NPM_PUBLISH(&npm_refused, 0);
  return added;
}
NPM_GLOBAL void npm1_reseed(void) {
  const int error = *npm_errno(); uint64_t random[2] = {0, 0};
  if (npm_enter_process() == 0) return;
  npm_syscall(NPM_EITHER(318, 278), random, sizeof(random), 1); /* getrandom(), GRND_NONBLOCK */
  *npm_errno() = error; NPM_PUBLISH(&npm_own[1], NPM_GET(&npm_own[1]) ^ random[0]);
  NPM_PUBLISH(&npm_own[2], NPM_GET(&npm_own[2]) ^ random[1]);
  npm_end_thread(NULL); /* all threads get another sequence_id */
}
static int npm_has(const char* variable, const char* part) {
  return npm_getenv(variable) != NULL && strstr(npm_getenv(variable), part) != NULL;
}
/* Whether the processor has random numbers: RDRAND, RNDR. */
static uint32_t npm_find_random(void) {
#if defined(__x86_64__)
  uint32_t a = 1, b, c = 0, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return c >> 30 & 1;
#else
  return npm_getauxval(26) >> 16 & 1; /* AT_HWCAP2, HWCAP2_RNG */
#endif
}
/* These two are called for each copy of this header in a program. All calls are of the one whose functions are used. */
NPM_GLOBAL __attribute__((__constructor__(101))) void npm1_load(void) {
  npm_page* const page = npm_the_page(); const uint64_t size = npm_getauxval(6); /* AT_PAGESZ */
  unsigned char* const own = npm_own_page + (size - npm_address(npm_own_page) % size);
  if (page->magic != 0) return;
  npm1_add_memory(npm_states, NPM_SPANS * sizeof(npm_state));
  npm_has_random = npm_find_random();
  page->library_version = (uint64_t)NPM_VERSION >> 16 << 32 | (NPM_VERSION >> 8 & 255) << 16 | (NPM_VERSION & 255);
  page->stats = npm_address(npm_counts), page->stats_count = NPM_COUNTS;
  page->open_slabs = npm_address(npm_slabs), page->open_size = NPM_SLABS | (uint64_t)sizeof(npm_state) << 32;
  page->labels = npm_address(npm_labels), page->labels_size = NPM_LABELS | (uint64_t)sizeof(npm_label) << 32;
  page->process_mark = npm_address(own); page->raised_ns = page->gate != 0;
  page->flags = (uint64_t)npm_has("LD_PRELOAD", "/vgpreload_"); /* Valgrind, which a tracer's breakpoint would end */
  page->magic = UINT64_C(0x455441474e50534e); page->size = sizeof(*page);
  npm_captures_content = npm_getenv("NOPSPAN_CAPTURE_CONTENT") != NULL;
  if (npm_captures_content) npm_captures_content = strcmp(npm_getenv("NOPSPAN_CAPTURE_CONTENT"), "1") == 0;
  if (npm_has("NOPSPAN_DISABLE", "1")) return;
  if (npm_syscall(NPM_EITHER(28, 233), own, size, 18) != 0) return; /* madvise(), MADV_WIPEONFORK: since Linux 4.14 */
  if (npm_key_create != NULL && npm_key_delete != NULL && npm_setspecific != NULL)
    npm_has_key = npm_key_create(&npm_key, npm_end_thread) == 0;
  npm_own = (uint64_t*)(void*)own; npm_enter_process(); /* here: a sandbox may forbid these system calls later */
  if (!npm_has("NOPSPAN_KEEP_OPEN", "1")) return;
  page->raised_ns = 1; __atomic_fetch_or(&npm1_gate[0], UINT64_C(1) << 33, __ATOMIC_RELAXED);
}
/* At exit() and dlclose(). Only for the program itself it is known to be the former, so its open spans end here. */
NPM_GLOBAL __attribute__((__destructor__(101))) void npm1_unload(void) {
  const int is_program = npm_address(npm_program) + npm_program[4] == npm_getauxval(3); /* AT_PHDR */
  const uint64_t mark = npm_own != NULL && NPM_GET(&npm_own[0]) > 1 ? npm_enter_process() : 0; uint32_t i;
  for (i = 0; mark != 0 && is_program && i < npm_states_number; ++i) {
    npm_state* const s = npm_state_at(i); uint32_t open = NPM_OPEN;
    if (npm_slabs[i / 64].free >> i % 64 & 1) continue; /* it was never used */
    if (s->mark != mark || s->kind != NPM_ENTRY_SPAN || !NPM_SWAP(&s->state, &open, NPM_CHANGING)) continue;
    if (s->attribute_bytes != 0) s->flags |= NPM_DROPPED; /* another thread may be changing them */
    s->attribute_bytes = 0; memcpy(s->error_type, "exit", 5); s->status = NPM_CANCELLED; npm_report(s, NULL);
  }
  npm_end_thread(NULL);
  if (npm_has_key) npm_key_delete(npm_key), npm_has_key = 0;
}
#endif /* NPM_IMPLEMENTATION */
