// SPDX-License-Identifier: Apache-2.0
/// @file
/// The C API: spans, events, gauges, steps of engines and contexts, for programs in C and for bindings of other
/// languages. It is C99, and also C++.
///
/// @code
/// nopspan_handle request = nopspan_request_begin_later("llm.chat");
/// nopspan_span_engine(request, "vllm");
/// nopspan_span_model(request, "llama-3");
/// nopspan_span_start(request);  // with the engine and the model
/// nopspan_handle query = nopspan_span_begin("db.query", request);  // a child
/// nopspan_span_set_int(query, "rows", 42);
/// nopspan_span_fail(query, "timeout");
/// nopspan_span_usage(request, 120, 34, 0, -1);
/// nopspan_span_end(request);
/// @endcode
///
/// A span or event is a handle: two words, passed by value. All of it is zero if the span is not recorded, because no
/// tracer or handler was attached when it began. Then every function does nothing. Each function calls one of span.h,
/// execute.h, engine.h or context.h, and reports the same. The comments there have the details.
///
/// - Functions whose names begin with nopspan_span_, nopspan_event_ and so on are inline. While nothing is attached,
///   begin() loads one word (the gate), and setters and ends test the handle: no call, no clock.
/// - Functions whose names begin with nopspan_call_ are in the library. The inline functions call them, and so does a
///   binding that cannot use inline functions. They test the gate and the handle themselves, and take the length of
///   each text.
/// - A text is copied before the function returns. Its length is in bytes. The length NOPSPAN_NUL means that the text
///   ends with a NUL. A null pointer means "no text".
/// - A misuse is harmless and counted (struct nopspan_stats). A null or empty name becomes "unnamed" (names_invalid). A
///   field without a key is dropped (fields_dropped). A length over PTRDIFF_MAX, which a negative number becomes, means
///   "no text" too. Such a number of items is 0 (calls_invalid). A call with a handle whose span has ended is ignored
///   (calls_invalid). So is a struct without its size. The only undefined handles are those that did not come from
///   nopspan.
/// - No function throws, aborts or blocks. None returns an error, because a program cannot do anything about it.
///
/// Functions are never removed, and their arguments do not change. Structs that a program fills in begin with their
/// size and grow at the end (docs/compatibility.md).
///
/// Thread safety: different threads may use different handles at the same time. A handle may move between threads: a
/// span may begin on one and end on another. If two threads end the same span, one of them ends it, and the other is
/// counted. A thread must not set fields while another one ends the span. All other functions may be called from any
/// thread at any time. A scope belongs to the thread that entered it. In signal handlers the conditions of span.h
/// apply.
#ifndef NOPSPAN_C_H
#define NOPSPAN_C_H

#include <nopspan/detail/platform.h>
#include <nopspan/probes.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
NOPSPAN_SHELL_HEADER

/// @cond INTERNAL
/* The shared library exports these functions, and the static one hides them, as in detail/config.h. */
#if NOPSPAN_SHELL
#define NOPSPAN_C_API static inline __attribute__((__unused__))
#define NOPSPAN_C_CALL NOPSPAN_C_API
#elif defined(NOPSPAN_STATIC)
#define NOPSPAN_C_API __attribute__((__visibility__("hidden")))
#else
#define NOPSPAN_C_API __attribute__((__visibility__("default")))
#endif
/* Follows the declaration of a function: that it does not throw, and what it does in a shell (detail/platform.h). */
#ifdef __cplusplus
#define NOPSPAN_C_SHELL(...) noexcept NOPSPAN_IN_SHELL(__VA_ARGS__)
#define NOPSPAN_C_SHELL_ZERO(type) NOPSPAN_C_SHELL(return type())
#elif NOPSPAN_SHELL
#define NOPSPAN_C_SHELL(...) NOPSPAN_IN_SHELL(__VA_ARGS__)
#define NOPSPAN_C_SHELL_ZERO(type) NOPSPAN_C_SHELL(return (type){0})
#else
#define NOPSPAN_C_SHELL(...) __attribute__((__nothrow__))
#define NOPSPAN_C_SHELL_ZERO(type) NOPSPAN_C_SHELL()
#endif
/* For functions that run only while a tracer or handler is attached: kept out of the caller's hot code. */
#ifndef NOPSPAN_C_CALL
#define NOPSPAN_C_CALL NOPSPAN_C_API __attribute__((__cold__, __noinline__))
#endif
#define NOPSPAN_C_INLINE static inline __attribute__((__always_inline__, __unused__))
/// @endcond

// NOLINTBEGIN(modernize-use-using,modernize-use-nullptr,modernize-redundant-void-arg): it is C too
#ifdef __cplusplus
extern "C" {
#endif

/// @cond INTERNAL
/* The address of the gate, and the bits that concern spans and events: detail/gate.h. */
#if !NOPSPAN_SHELL && !defined(NOPSPAN_HAVE_GATE_PTR)
#define NOPSPAN_HAVE_GATE_PTR
extern NOPSPAN_C_API const uint64_t* const nopspan_gate_ptr;
#endif
#define NOPSPAN_C_SPANS 0xffff00ffffffffffU
#define NOPSPAN_C_EVENTS 0xffffff00ffff0000U
struct nopspan_state;
/// @endcond

/// As the length of a text: the text ends with a NUL.
#define NOPSPAN_NUL ((size_t)-1)

/// A span or event that has begun, or nothing (nopspan_none()). Programs do not use its members.
typedef struct nopspan_handle {
  struct nopspan_state* state;  ///< the library's; null: nothing
  uint64_t check;               ///< by which the library knows that the span has not ended
} nopspan_handle;

/// A place in a trace: the request, the span and the labels that child spans inherit. It is a plain value that may be
/// copied and kept. All zero is the empty context, in which a span starts a new request. See nopspan::Context.
typedef struct nopspan_context {
  uint64_t opaque[16];  ///< the library's
} nopspan_context;

/// A context that is current on a thread; see nopspan_scope_enter().
typedef struct nopspan_scope {
  void* frame;          ///< the library's
  uint64_t generation;  ///< the library's
} nopspan_scope;

/// The role of a span in a call. The numbers are those of OTLP.
enum nopspan_kind {
  NOPSPAN_KIND_UNSPECIFIED = 0,  ///< what the catalogue has for this name; internal for all other names
  NOPSPAN_KIND_INTERNAL = 1,     ///< work inside this process
  NOPSPAN_KIND_SERVER = 2,       ///< handles a request from another process
  NOPSPAN_KIND_CLIENT = 3,       ///< calls another process, and waits
  NOPSPAN_KIND_PRODUCER = 4,     ///< sends a message
  NOPSPAN_KIND_CONSUMER = 5      ///< handles a message
};

/// How a span or event begins: flags of nopspan_span_options and of the functions nopspan_call_….
enum nopspan_begin {
  /// The name is one of few that do not change, such as a literal, and its last byte is followed by a NUL. Other names
  /// are kept in a table of 4096, so that tracers do not get ever more of them. The inline functions find this out.
  NOPSPAN_NAME_LITERAL = 1,
  /// The start is not reported yet: nopspan_span_start() reports it, with the fields that were set before.
  NOPSPAN_START_LATER = 2
};

/// The use of a value.
enum nopspan_use {
  NOPSPAN_METADATA = 0,     ///< metadata
  NOPSPAN_CONTENT = 1,      ///< metadata that probes receive only with nopspan_capture_content()
  NOPSPAN_MEASUREMENT = 2,  ///< a number to be summed and averaged
  NOPSPAN_COUNTER = 3,      ///< an integer of the event engine.stats that only grows
  NOPSPAN_LABEL = 4         ///< a text that child spans inherit
};

/// Where probes receive content. The numbers are those of nopspan::ContentMode.
enum nopspan_content {
  NOPSPAN_CONTENT_NONE = 0,             ///< nowhere
  NOPSPAN_CONTENT_SPANS = 1,            ///< in the attributes of spans
  NOPSPAN_CONTENT_EVENTS = 2,           ///< in the attributes of events
  NOPSPAN_CONTENT_SPANS_AND_EVENTS = 3  ///< in both
};

/// Options for the begin of a span. Zero means the default for each member. Set `size` to the size of the struct.
struct nopspan_span_options {
  size_t size;                     ///< sizeof(struct nopspan_span_options)
  nopspan_handle parent;           ///< the parent, if `context` is null
  const nopspan_context* context;  ///< the parent; null: `parent`
  uint64_t start_ns;               ///< when the work started (CLOCK_MONOTONIC); 0: now
  uint32_t kind;                   ///< enum nopspan_kind
  uint32_t flags;                  ///< enum nopspan_begin
};

/// The facts of an engine's step; see nopspan::engine::StepFields. 0 means that a fact is not known. Then the counts
/// are the sums of the members. A negative number is impossible, and is counted (values_clamped).
struct nopspan_step_facts {
  size_t size;              ///< sizeof(struct nopspan_step_facts)
  uint64_t instance;        ///< the number of the engine, if the process has several
  uint64_t number;          ///< of the step, counted by its engine
  int64_t batch_size;       ///< how many requests the step served
  int64_t prefill_tokens;   ///< tokens of prompts that it processed
  int64_t decode_tokens;    ///< tokens that it generated
  int64_t drafted_tokens;   ///< tokens that drafts proposed, and the step verified
  int64_t accepted_tokens;  ///< how many of these it accepted
  int64_t budget_tokens;    ///< tokens that the scheduler could have given to the step
  int64_t host_ns;          ///< how long it took on the host
  int64_t device_ns;        ///< how long it took on the device
  int64_t kv_used;          ///< cells of the KV cache that it attended to, or that were in use
  uint32_t kind;            ///< NOPSPAN_STEP_PREFILL, _DECODE or _MIXED of probes.h
  uint32_t reserved;        ///< 0
};

/// Counts of everything that nopspan dropped, truncated or repaired, and of misuse; stats.h describes each.
struct nopspan_stats {
  uint64_t spans_dropped;       ///< see nopspan::Stats
  uint64_t reentrant;           ///< see nopspan::Stats
  uint64_t inherited;           ///< see nopspan::Stats
  uint64_t abandoned;           ///< see nopspan::Stats
  uint64_t wrong_thread;        ///< see nopspan::Stats
  uint64_t names_invalid;       ///< see nopspan::Stats
  uint64_t names_overflow;      ///< see nopspan::Stats
  uint64_t names_unknown;       ///< see nopspan::Stats
  uint64_t truncated;           ///< see nopspan::Stats
  uint64_t labels_overflow;     ///< see nopspan::Stats
  uint64_t invalid_ids;         ///< see nopspan::Stats
  uint64_t invalid_tracestate;  ///< see nopspan::Stats
  uint64_t tracestate_evicted;  ///< see nopspan::Stats
  uint64_t invalid_utf8;        ///< see nopspan::Stats
  uint64_t values_clamped;      ///< see nopspan::Stats
  uint64_t fields_dropped;      ///< see nopspan::Stats
  uint64_t attributes_dropped;  ///< see nopspan::Stats
  uint64_t links_dropped;       ///< see nopspan::Stats
  uint64_t metadata_failures;   ///< see nopspan::Stats
  uint64_t handler_failures;    ///< see nopspan::Stats
  uint64_t recursion_dropped;   ///< see nopspan::Stats
  uint64_t facts_untracked;     ///< see nopspan::Stats
  uint64_t trace_ids_differ;    ///< see nopspan::Stats
  uint64_t thread_allocations;  ///< see nopspan::Stats
  uint64_t scopes_left;         ///< see nopspan::Stats
  uint64_t baggage_dropped;     ///< see nopspan::Stats
  uint64_t members_dropped;     ///< see nopspan::Stats
  uint64_t contexts_dropped;    ///< see nopspan::Stats
  uint64_t spans_over_limit;    ///< see nopspan::Stats
  uint64_t warnings;            ///< see nopspan::Stats
  uint64_t calls_invalid;       ///< see nopspan::Stats
};

/* ---- The calls into the library ---- */

/// @{
/// Begins a span as nopspan_span_begin(), nopspan_span_begin_in() and nopspan_span_begin_with() do. `flags` are those
/// of enum nopspan_begin.
NOPSPAN_C_CALL nopspan_handle nopspan_call_span_begin(const char* name, size_t name_size, nopspan_handle parent,
                                                      unsigned flags) NOPSPAN_C_SHELL_ZERO(nopspan_handle);
NOPSPAN_C_CALL nopspan_handle nopspan_call_span_begin_in(const char* name, size_t name_size,
                                                         const nopspan_context* parent, unsigned flags)
    NOPSPAN_C_SHELL_ZERO(nopspan_handle);
NOPSPAN_C_CALL nopspan_handle nopspan_call_span_begin_with(const char* name, size_t name_size,
                                                           const struct nopspan_span_options* options, unsigned flags)
    NOPSPAN_C_SHELL_ZERO(nopspan_handle);
/// @}
/// @{
/// Begins an event as nopspan_event_begin(), nopspan_event_begin_in() and nopspan_gauge_begin() do.
NOPSPAN_C_CALL nopspan_handle nopspan_call_event_begin(const char* name, size_t name_size, nopspan_handle span,
                                                       unsigned flags) NOPSPAN_C_SHELL_ZERO(nopspan_handle);
NOPSPAN_C_CALL nopspan_handle nopspan_call_event_begin_in(const char* name, size_t name_size,
                                                          const nopspan_context* context, unsigned flags)
    NOPSPAN_C_SHELL_ZERO(nopspan_handle);
NOPSPAN_C_CALL nopspan_handle nopspan_call_gauge_begin(void) NOPSPAN_C_SHELL_ZERO(nopspan_handle);
/// @}
/// Reports the start of a span that began with NOPSPAN_START_LATER.
NOPSPAN_C_CALL void nopspan_call_start(nopspan_handle span) NOPSPAN_C_SHELL();
/// @{
/// Sets a field of a span or event. `use` is an enum nopspan_use: metadata and content are possible for all values,
/// measurements for numbers, counters for integers, labels for texts.
NOPSPAN_C_CALL void nopspan_call_set_null(nopspan_handle span, const char* key, size_t key_size, unsigned use)
    NOPSPAN_C_SHELL();
NOPSPAN_C_CALL void nopspan_call_set_bool(nopspan_handle span, const char* key, size_t key_size, bool value,
                                          unsigned use) NOPSPAN_C_SHELL();
NOPSPAN_C_CALL void nopspan_call_set_int(nopspan_handle span, const char* key, size_t key_size, int64_t value,
                                         unsigned use) NOPSPAN_C_SHELL();
NOPSPAN_C_CALL void nopspan_call_set_uint(nopspan_handle span, const char* key, size_t key_size, uint64_t value,
                                          unsigned use) NOPSPAN_C_SHELL();
NOPSPAN_C_CALL void nopspan_call_set_double(nopspan_handle span, const char* key, size_t key_size, double value,
                                            unsigned use) NOPSPAN_C_SHELL();
NOPSPAN_C_CALL void nopspan_call_set_text(nopspan_handle span, const char* key, size_t key_size, const char* text,
                                          size_t text_size, unsigned use) NOPSPAN_C_SHELL();
/// @}
/// @{
/// Sets a field to a list. The texts end with a NUL. A null text is a null.
NOPSPAN_C_CALL void nopspan_call_set_ints(nopspan_handle span, const char* key, size_t key_size, const int64_t* values,
                                          size_t count, unsigned use) NOPSPAN_C_SHELL();
NOPSPAN_C_CALL void nopspan_call_set_doubles(nopspan_handle span, const char* key, size_t key_size,
                                             const double* values, size_t count, unsigned use) NOPSPAN_C_SHELL();
NOPSPAN_C_CALL void nopspan_call_set_texts(nopspan_handle span, const char* key, size_t key_size,
                                           const char* const* texts, size_t count, unsigned use) NOPSPAN_C_SHELL();
/// @}
/// @{
/// The calls of the inline functions whose names end in the same way.
NOPSPAN_C_CALL void nopspan_call_usage(nopspan_handle span, int64_t input, int64_t output, int64_t cached,
                                       int64_t reasoning) NOPSPAN_C_SHELL();
NOPSPAN_C_CALL void nopspan_call_first_token(nopspan_handle span, uint64_t tokens_so_far) NOPSPAN_C_SHELL();
NOPSPAN_C_CALL void nopspan_call_link(nopspan_handle span, const nopspan_context* context) NOPSPAN_C_SHELL();
NOPSPAN_C_CALL void nopspan_call_step(nopspan_handle step, const struct nopspan_step_facts* facts,
                                      const struct nopspan_member* members, size_t count) NOPSPAN_C_SHELL();
NOPSPAN_C_CALL void nopspan_call_end_at(nopspan_handle span, uint64_t end_ns) NOPSPAN_C_SHELL();
NOPSPAN_C_CALL void nopspan_call_end(nopspan_handle span) NOPSPAN_C_SHELL();
NOPSPAN_C_CALL void nopspan_call_fail(nopspan_handle span, const char* type, size_t type_size, const char* message,
                                      size_t message_size) NOPSPAN_C_SHELL();
NOPSPAN_C_CALL void nopspan_call_cancel(nopspan_handle span, const char* reason, size_t reason_size) NOPSPAN_C_SHELL();
NOPSPAN_C_CALL void nopspan_call_exception(nopspan_handle span, const char* type, size_t type_size, const char* message,
                                           size_t message_size, const char* const* frames, size_t count)
    NOPSPAN_C_SHELL();
NOPSPAN_C_CALL void nopspan_call_complete(nopspan_handle span, int64_t duration_ns) NOPSPAN_C_SHELL();
NOPSPAN_C_CALL void nopspan_call_gauge_end(nopspan_handle gauge, const char* name, size_t name_size, int64_t value,
                                           bool is_counter) NOPSPAN_C_SHELL();
NOPSPAN_C_CALL void nopspan_call_gauge(const char* engine, size_t engine_size, const char* name, size_t name_size,
                                       int64_t value, int64_t maximum) NOPSPAN_C_SHELL();
NOPSPAN_C_CALL void nopspan_call_counter(const char* engine, size_t engine_size, const char* name, size_t name_size,
                                         int64_t total) NOPSPAN_C_SHELL();
NOPSPAN_C_CALL void nopspan_call_retry(nopspan_handle span, int64_t attempt, int64_t delay_ms, const char* reason,
                                       size_t reason_size) NOPSPAN_C_SHELL();
/// @}

/// @cond INTERNAL
/* The length of a text that the compiler knows; otherwise NOPSPAN_NUL. clang knows it only of a variable. */
NOPSPAN_C_INLINE size_t nopspan_c_size(const char* text) {
  const size_t size = text != NULL ? __builtin_strlen(text) : NOPSPAN_NUL;
  return __builtin_constant_p(size) ? size : NOPSPAN_NUL;
}
NOPSPAN_C_INLINE unsigned nopspan_c_origin(const char* name) {
  return nopspan_c_size(name) != NOPSPAN_NUL ? (unsigned)NOPSPAN_NAME_LITERAL : 0U;
}
NOPSPAN_C_INLINE bool nopspan_c_gate(uint64_t mask) {
#if NOPSPAN_SHELL
  return (void)mask, false;
#else
  return __builtin_expect((__atomic_load_n(nopspan_gate_ptr, __ATOMIC_RELAXED) & mask) != 0, 0);
#endif
}
/// @endcond

/* ---- Spans ---- */

/// No span. As a parent it stands for a span that was not recorded: the child is inside the thread's current context.
/// If there is none, the child is an orphan, and does not count as a request. nopspan_request_begin() begins a request.
NOPSPAN_C_INLINE nopspan_handle nopspan_none(void) {
  const nopspan_handle none = {NULL, 0};
  return none;
}
/// Whether the span or event is recorded. It stays true after the end. Use it to skip expensive computations.
NOPSPAN_C_INLINE bool nopspan_is_recorded(nopspan_handle span) { return __builtin_expect(span.state != NULL, 0); }
/// Whether a tracer or handler is attached, or open spans are kept.
NOPSPAN_C_INLINE bool nopspan_enabled(void) { return nopspan_c_gate(NOPSPAN_C_SPANS | NOPSPAN_C_EVENTS); }

/// Begins a span that starts a new request.
NOPSPAN_C_INLINE nopspan_handle nopspan_request_begin(const char* name) {
  static const nopspan_context nothing = {{0}};
  if (!nopspan_c_gate(NOPSPAN_C_SPANS)) return nopspan_none();
  return nopspan_call_span_begin_in(name, nopspan_c_size(name), &nothing, nopspan_c_origin(name));
}
/// The same, but nopspan_span_start() reports the start, with the fields that are set by then (NOPSPAN_START_LATER).
NOPSPAN_C_INLINE nopspan_handle nopspan_request_begin_later(const char* name) {
  static const nopspan_context nothing = {{0}};
  if (!nopspan_c_gate(NOPSPAN_C_SPANS)) return nopspan_none();
  return nopspan_call_span_begin_in(name, nopspan_c_size(name), &nothing, nopspan_c_origin(name) | NOPSPAN_START_LATER);
}
/// Begins a child span of another one. It may end on any thread. Every span that begins must end, or it stays open
/// until the process ends.
///
/// @param name a literal, or another text that ends with a NUL. The name of a catalogue's span ("llm.chat",
///             "engine.request") makes it that span, with the keys of docs/genai.md.
/// @param parent may be nopspan_none(). A parent that has ended is counted, and is treated as that.
NOPSPAN_C_INLINE nopspan_handle nopspan_span_begin(const char* name, nopspan_handle parent) {
  if (!nopspan_c_gate(NOPSPAN_C_SPANS)) return nopspan_none();
  return nopspan_call_span_begin(name, nopspan_c_size(name), parent, nopspan_c_origin(name));
}
/// The same for a span in a context. A null pointer is the thread's current context, and the empty context starts a new
/// request.
NOPSPAN_C_INLINE nopspan_handle nopspan_span_begin_in(const char* name, const nopspan_context* parent) {
  if (!nopspan_c_gate(NOPSPAN_C_SPANS)) return nopspan_none();
  return nopspan_call_span_begin_in(name, nopspan_c_size(name), parent, nopspan_c_origin(name));
}
/// The same with options; null: none.
NOPSPAN_C_INLINE nopspan_handle nopspan_span_begin_with(const char* name, const struct nopspan_span_options* options) {
  if (!nopspan_c_gate(NOPSPAN_C_SPANS)) return nopspan_none();
  return nopspan_call_span_begin_with(name, nopspan_c_size(name), options, nopspan_c_origin(name));
}
/// The same for a name of `size` bytes that is made at run time.
NOPSPAN_C_INLINE nopspan_handle nopspan_span_begin_text(const char* name, size_t size, nopspan_handle parent) {
  if (!nopspan_c_gate(NOPSPAN_C_SPANS)) return nopspan_none();
  return nopspan_call_span_begin(name, size, parent, 0);
}
/// Reports the start of a span that began with NOPSPAN_START_LATER. The event of the start, which only handlers
/// receive, has the fields that are set by then. A key request_id is then the id of the request that the span begins.
NOPSPAN_C_INLINE void nopspan_span_start(nopspan_handle span) {
  if (nopspan_is_recorded(span)) nopspan_call_start(span);
}

/// @{
/// Sets metadata. Setting a key again replaces its value. A uint64_t over INT64_MAX becomes that, and is counted.
/// FieldSetters in fields.h has the limits.
NOPSPAN_C_INLINE void nopspan_span_set_int(nopspan_handle span, const char* key, int64_t value) {
  if (nopspan_is_recorded(span)) nopspan_call_set_int(span, key, nopspan_c_size(key), value, NOPSPAN_METADATA);
}
NOPSPAN_C_INLINE void nopspan_span_set_uint(nopspan_handle span, const char* key, uint64_t value) {
  if (nopspan_is_recorded(span)) nopspan_call_set_uint(span, key, nopspan_c_size(key), value, NOPSPAN_METADATA);
}
NOPSPAN_C_INLINE void nopspan_span_set_double(nopspan_handle span, const char* key, double value) {
  if (nopspan_is_recorded(span)) nopspan_call_set_double(span, key, nopspan_c_size(key), value, NOPSPAN_METADATA);
}
NOPSPAN_C_INLINE void nopspan_span_set_bool(nopspan_handle span, const char* key, bool value) {
  if (nopspan_is_recorded(span)) nopspan_call_set_bool(span, key, nopspan_c_size(key), value, NOPSPAN_METADATA);
}
NOPSPAN_C_INLINE void nopspan_span_set_null(nopspan_handle span, const char* key) {
  if (nopspan_is_recorded(span)) nopspan_call_set_null(span, key, nopspan_c_size(key), NOPSPAN_METADATA);
}
/// @}
/// Sets metadata: a text that ends with a NUL, or null.
NOPSPAN_C_INLINE void nopspan_span_set_text(nopspan_handle span, const char* key, const char* text) {
  if (!nopspan_is_recorded(span)) return;
  nopspan_call_set_text(span, key, nopspan_c_size(key), text, nopspan_c_size(text), NOPSPAN_METADATA);
}
/// Sets metadata: a text of `size` bytes.
NOPSPAN_C_INLINE void nopspan_span_set_text_n(nopspan_handle span, const char* key, const char* text, size_t size) {
  if (!nopspan_is_recorded(span)) return;
  nopspan_call_set_text(span, key, nopspan_c_size(key), text, size, NOPSPAN_METADATA);
}
/// Sets metadata that is content: a prompt, a response, arguments of a tool. See FieldSetters::content().
NOPSPAN_C_INLINE void nopspan_span_set_content(nopspan_handle span, const char* key, const char* text, size_t size) {
  if (!nopspan_is_recorded(span)) return;
  nopspan_call_set_text(span, key, nopspan_c_size(key), text, size, NOPSPAN_CONTENT);
}
/// @{
/// Sets metadata: a list.
NOPSPAN_C_INLINE void nopspan_span_set_ints(nopspan_handle span, const char* key, const int64_t* values, size_t count) {
  if (nopspan_is_recorded(span)) nopspan_call_set_ints(span, key, NOPSPAN_NUL, values, count, NOPSPAN_METADATA);
}
NOPSPAN_C_INLINE void nopspan_span_set_doubles(nopspan_handle span, const char* key, const double* values,
                                               size_t count) {
  if (nopspan_is_recorded(span)) nopspan_call_set_doubles(span, key, NOPSPAN_NUL, values, count, NOPSPAN_METADATA);
}
NOPSPAN_C_INLINE void nopspan_span_set_texts(nopspan_handle span, const char* key, const char* const* texts,
                                             size_t count) {
  if (nopspan_is_recorded(span)) nopspan_call_set_texts(span, key, NOPSPAN_NUL, texts, count, NOPSPAN_METADATA);
}
/// @}
/// @{
/// Sets a measurement: a number to be summed and averaged. See FieldSetters::measure().
NOPSPAN_C_INLINE void nopspan_span_measure_int(nopspan_handle span, const char* key, int64_t number) {
  if (nopspan_is_recorded(span)) nopspan_call_set_int(span, key, nopspan_c_size(key), number, NOPSPAN_MEASUREMENT);
}
NOPSPAN_C_INLINE void nopspan_span_measure_double(nopspan_handle span, const char* key, double number) {
  if (nopspan_is_recorded(span)) nopspan_call_set_double(span, key, nopspan_c_size(key), number, NOPSPAN_MEASUREMENT);
}
/// @}
/// Sets a counter of the event engine.stats; see engine::StatsFields::counter(). Its gauges are measurements.
NOPSPAN_C_INLINE void nopspan_span_count_int(nopspan_handle event, const char* key, int64_t total) {
  if (nopspan_is_recorded(event)) nopspan_call_set_int(event, key, nopspan_c_size(key), total, NOPSPAN_COUNTER);
}
/// Sets a label, which child spans inherit; see FieldSetters::label().
NOPSPAN_C_INLINE void nopspan_span_set_label(nopspan_handle span, const char* key, const char* text) {
  if (!nopspan_is_recorded(span)) return;
  nopspan_call_set_text(span, key, nopspan_c_size(key), text, nopspan_c_size(text), NOPSPAN_LABEL);
}
/// @{
/// Sets one of the labels that nopspan knows: the program that runs the model, the model, the customer.
NOPSPAN_C_INLINE void nopspan_span_engine(nopspan_handle span, const char* name) {
  nopspan_span_set_text(span, "engine", name);
}
NOPSPAN_C_INLINE void nopspan_span_model(nopspan_handle span, const char* name) {
  nopspan_span_set_text(span, "model", name);
}
NOPSPAN_C_INLINE void nopspan_span_tenant(nopspan_handle span, const char* name) {
  nopspan_span_set_text(span, "tenant", name);
}
/// @}
/// Sets the id of the request, before the start is reported (NOPSPAN_START_LATER). Otherwise it is metadata only; see
/// FieldSetters::request_id(). A context with the id (nopspan_context_with_request_id()) works always.
NOPSPAN_C_INLINE void nopspan_span_request_id(nopspan_handle span, const char* id) {
  nopspan_span_set_text(span, "request_id", id);
}
/// Sets the name of the tool that an llm.tool or agent.tool span calls.
NOPSPAN_C_INLINE void nopspan_span_tool_name(nopspan_handle span, const char* name) {
  nopspan_span_set_text(span, "tool_name", name);
}
/// Sets the tokens of a model call. A negative count is unknown. See FieldSetters::input_tokens().
NOPSPAN_C_INLINE void nopspan_span_usage(nopspan_handle span, int64_t input, int64_t output, int64_t cached,
                                         int64_t reasoning) {
  if (nopspan_is_recorded(span)) nopspan_call_usage(span, input, output, cached, reasoning);
}
/// Reports that the first token of a stream arrived now. Only the first call on a span counts.
NOPSPAN_C_INLINE void nopspan_span_first_token(nopspan_handle span) {
  if (nopspan_is_recorded(span)) nopspan_call_first_token(span, 1);
}
/// Links the span to another one; see FieldSetters::link().
NOPSPAN_C_INLINE void nopspan_span_link(nopspan_handle span, const nopspan_context* context) {
  if (nopspan_is_recorded(span)) nopspan_call_link(span, context);
}

/// Sets the time at which the span ended (CLOCK_MONOTONIC). A time before the start counts as the start.
NOPSPAN_C_INLINE void nopspan_span_end_at(nopspan_handle span, uint64_t end_ns) {
  if (nopspan_is_recorded(span)) nopspan_call_end_at(span, end_ns);
}
/// Ends the span: status 0 (ok). Emits an event.
NOPSPAN_C_INLINE void nopspan_span_end(nopspan_handle span) {
  if (nopspan_is_recorded(span)) nopspan_call_end(span);
}
/// Ends the span as failed: status 1 (error). `type` is a word such as "timeout"; see Span::fail().
NOPSPAN_C_INLINE void nopspan_span_fail(nopspan_handle span, const char* type) {
  if (nopspan_is_recorded(span)) nopspan_call_fail(span, type, nopspan_c_size(type), NULL, 0);
}
/// The same with a message, which is content.
NOPSPAN_C_INLINE void nopspan_span_fail_with(nopspan_handle span, const char* type, const char* message) {
  if (!nopspan_is_recorded(span)) return;
  nopspan_call_fail(span, type, nopspan_c_size(type), message, nopspan_c_size(message));
}
/// Ends the span as cancelled: status 2, which error rates do not count. `reason` may be null.
NOPSPAN_C_INLINE void nopspan_span_cancel(nopspan_handle span, const char* reason) {
  if (nopspan_is_recorded(span)) nopspan_call_cancel(span, reason, nopspan_c_size(reason));
}
/// Ends the span with an exception of the program's language: status 3. Handlers receive NAME.exception. `type` is the
/// name of its class. As in Span::fail(), other text becomes "_OTHER". `message`, and `frames` (where it was raised,
/// innermost first, `count` texts), are content and may be null.
NOPSPAN_C_INLINE void nopspan_span_exception(nopspan_handle span, const char* type, const char* message,
                                             const char* const* frames, size_t count) {
  if (!nopspan_is_recorded(span)) return;
  nopspan_call_exception(span, type, nopspan_c_size(type), message, nopspan_c_size(message), frames, count);
}
/// Ends a span that began with a start_ns, after so much time: 0 for a negative duration. If it began with
/// NOPSPAN_START_LATER too, its start and its end have the same fields; see nopspan::complete().
NOPSPAN_C_INLINE void nopspan_span_complete(nopspan_handle span, int64_t duration_ns) {
  if (nopspan_is_recorded(span)) nopspan_call_complete(span, duration_ns);
}

/* ---- Steps of an engine: engine.h ---- */

/// Begins a step. Requests are its members, and usually not its parent: `parent` is nopspan_none().
NOPSPAN_C_INLINE nopspan_handle nopspan_step_begin(nopspan_handle parent) {
  return nopspan_span_begin("engine.step", parent);
}
/// Sets the facts of a step, which may be null, and adds members. It copies both. See engine::StepFields::members().
NOPSPAN_C_INLINE void nopspan_span_step(nopspan_handle step, const struct nopspan_step_facts* facts,
                                        const struct nopspan_member* members, size_t count) {
  if (nopspan_is_recorded(step)) nopspan_call_step(step, facts, members, count);
}
/// A member without tokens. `request` is the handle of the span engine.request. If that is not recorded, `own_key`
/// names the request: any number that the process gives to this request alone. See engine::Member::of().
NOPSPAN_C_API struct nopspan_member nopspan_member_of(nopspan_handle request, uint64_t own_key)
    NOPSPAN_C_SHELL(struct nopspan_member member = {own_key, 0, 0, 0, 0, 0, NOPSPAN_MEMBER_OWN_KEY}; return member);
/// The same for a context in the request. If its span is another process's, the member names the trace.
NOPSPAN_C_API struct nopspan_member nopspan_member_in(const nopspan_context* request, uint64_t own_key)
    NOPSPAN_C_SHELL(struct nopspan_member member = {own_key, 0, 0, 0, 0, 0, NOPSPAN_MEMBER_OWN_KEY}; return member);

/* ---- Events, gauges, counters ---- */

/// Begins an event that belongs to a span: nopspan_none() is the thread's current span. The setters of spans set its
/// fields, and nopspan_span_end() emits it. Events of the catalogues are known by their names: "llm.adapter.retry",
/// "gen_ai.retry", "gen_ai.stream.first_token", "engine.preempted", "engine.stats", "agent.operator.wait".
NOPSPAN_C_INLINE nopspan_handle nopspan_event_begin(const char* name, nopspan_handle span) {
  if (!nopspan_c_gate(NOPSPAN_C_EVENTS)) return nopspan_none();
  return nopspan_call_event_begin(name, nopspan_c_size(name), span, nopspan_c_origin(name));
}
/// The same for the span in a context; null: the thread's current one.
NOPSPAN_C_INLINE nopspan_handle nopspan_event_begin_in(const char* name, const nopspan_context* context) {
  if (!nopspan_c_gate(NOPSPAN_C_EVENTS)) return nopspan_none();
  return nopspan_call_event_begin_in(name, nopspan_c_size(name), context, nopspan_c_origin(name));
}
/// Emits an event without fields.
NOPSPAN_C_INLINE void nopspan_event(const char* name, nopspan_handle span) {
  nopspan_span_end(nopspan_event_begin(name, span));
}

/// Reports the value of a gauge; see nopspan::gauge(). `engine` may be null. `maximum` is the greatest value that it
/// can have, or 0 if it is not known.
NOPSPAN_C_INLINE void nopspan_gauge(const char* engine, const char* name, int64_t value, int64_t maximum) {
  if (nopspan_c_gate(NOPSPAN_C_EVENTS)) {
    nopspan_call_gauge(engine, nopspan_c_size(engine), name, nopspan_c_size(name), value, maximum);
  }
}
/// Reports the total of a counter; see nopspan::counter().
NOPSPAN_C_INLINE void nopspan_counter(const char* engine, const char* name, int64_t total) {
  if (nopspan_c_gate(NOPSPAN_C_EVENTS)) {
    nopspan_call_counter(engine, nopspan_c_size(engine), name, nopspan_c_size(name), total);
  }
}
/// Begins a gauge or counter with labels: set `engine`, `model`, `maximum` and any label as metadata, then call
/// nopspan_gauge_end() or nopspan_counter_end().
NOPSPAN_C_INLINE nopspan_handle nopspan_gauge_begin(void) {
  return nopspan_c_gate(NOPSPAN_C_EVENTS) ? nopspan_call_gauge_begin() : nopspan_none();
}
/// @{
/// Reports what nopspan_gauge_begin() began.
NOPSPAN_C_INLINE void nopspan_gauge_end(nopspan_handle gauge, const char* name, int64_t value) {
  if (nopspan_is_recorded(gauge)) nopspan_call_gauge_end(gauge, name, nopspan_c_size(name), value, false);
}
NOPSPAN_C_INLINE void nopspan_counter_end(nopspan_handle counter, const char* name, int64_t total) {
  if (nopspan_is_recorded(counter)) nopspan_call_gauge_end(counter, name, nopspan_c_size(name), total, true);
}
/// @}
/// Reports that an attempt failed and will be repeated; see llm::retry(). Call it before the wait. `attempt` is the
/// number of the attempt that failed, from 1 on. `reason` may be null.
NOPSPAN_C_INLINE void nopspan_retry(nopspan_handle span, int64_t attempt, int64_t delay_ms, const char* reason) {
  if (nopspan_c_gate(NOPSPAN_C_EVENTS)) {
    nopspan_call_retry(span, attempt, delay_ms, reason, nopspan_c_size(reason));
  }
}

/* ---- Contexts: context.h and propagation.h ---- */

#define NOPSPAN_ROOM_ID 64           ///< bytes for a request id or a label, with its NUL
#define NOPSPAN_ROOM_TRACE_ID 33     ///< bytes for a trace id, with its NUL
#define NOPSPAN_ROOM_TRACEPARENT 56  ///< bytes for the header traceparent, with its NUL
#define NOPSPAN_ROOM_TRACESTATE 513  ///< bytes for the header tracestate, with its NUL
#define NOPSPAN_ROOM_BAGGAGE 8193    ///< bytes for the header baggage, with its NUL

/// The calling thread's context: that of its innermost scope; empty outside of all scopes.
NOPSPAN_C_API nopspan_context nopspan_context_current(void) NOPSPAN_C_SHELL_ZERO(nopspan_context);
/// A context for a new request.
NOPSPAN_C_API nopspan_context nopspan_context_make(void) NOPSPAN_C_SHELL_ZERO(nopspan_context);
/// A context for a request whose id comes from elsewhere; see Context::with_request_id().
NOPSPAN_C_API nopspan_context nopspan_context_with_request_id(const char* id, size_t size)
    NOPSPAN_C_SHELL_ZERO(nopspan_context);
/// The context in a header `traceparent`. Empty if it is null, empty or malformed (counted: invalid_ids).
NOPSPAN_C_API nopspan_context nopspan_context_from(const char* traceparent) NOPSPAN_C_SHELL_ZERO(nopspan_context);
/// The context in three headers; see extract(). Each ends with a NUL, or is null.
NOPSPAN_C_API nopspan_context nopspan_context_from_headers(const char* traceparent, const char* tracestate,
                                                           const char* baggage) NOPSPAN_C_SHELL_ZERO(nopspan_context);
/// Finds a header by its key in lower case. Returns its value, or null. It may set `*size` to the length; otherwise the
/// value ends with a NUL.
typedef const char* (*nopspan_get_header)(void* carrier, const char* key, size_t* size);
/// The context in the headers that `get` finds in `carrier`.
NOPSPAN_C_API nopspan_context nopspan_context_extract(nopspan_get_header get, void* carrier)
    NOPSPAN_C_SHELL_ZERO(nopspan_context);
/// The context that the parent process wrote into the environment; see extract_environment().
NOPSPAN_C_API nopspan_context nopspan_context_from_environment(void) NOPSPAN_C_SHELL_ZERO(nopspan_context);
/// The span's place in its trace. If the span is not recorded, the result is an unknown context, whose spans are
/// orphans.
NOPSPAN_C_API nopspan_context nopspan_span_context(nopspan_handle span) NOPSPAN_C_SHELL_ZERO(nopspan_context);
/// The same. If the span is not recorded, the result is `other`. Forward this context to other processes, so that a
/// process that records nothing does not break the trace.
NOPSPAN_C_API nopspan_context nopspan_span_context_or(nopspan_handle span, const nopspan_context* other)
    NOPSPAN_C_SHELL_ZERO(nopspan_context);
/// The context with another value of a label; see Context::with_label(). A null or empty value removes the label.
NOPSPAN_C_API nopspan_context nopspan_context_with_label(const nopspan_context* context, const char* key,
                                                         const char* value) NOPSPAN_C_SHELL_ZERO(nopspan_context);
/// Whether the context names no request. A null pointer is the empty context, here and below.
NOPSPAN_C_API bool nopspan_context_is_empty(const nopspan_context* context) NOPSPAN_C_SHELL(return true);
/// The innermost span; 0 if no span has started yet.
NOPSPAN_C_API uint64_t nopspan_context_span_id(const nopspan_context* context) NOPSPAN_C_SHELL(return 0);
/// @{
/// Writes a text that ends with a NUL to `out`, which has `room` bytes. Returns its length. If the room is not enough,
/// `out` gets an empty text, and the result is the length that was needed.
NOPSPAN_C_API size_t nopspan_context_request_id(const nopspan_context* context, char* out, size_t room)
    NOPSPAN_C_SHELL(return room > 0 ? (size_t)(out[0] = 0) : 0);
NOPSPAN_C_API size_t nopspan_context_trace_id(const nopspan_context* context, char* out, size_t room)
    NOPSPAN_C_SHELL(return room > 0 ? (size_t)(out[0] = 0) : 0);
NOPSPAN_C_API size_t nopspan_context_label(const nopspan_context* context, const char* key, char* out, size_t room)
    NOPSPAN_C_SHELL(return room > 0 ? (size_t)(out[0] = 0) : 0);
NOPSPAN_C_API size_t nopspan_context_traceparent(const nopspan_context* context, char* out, size_t room)
    NOPSPAN_C_SHELL(return room > 0 ? (size_t)(out[0] = 0) : 0);
NOPSPAN_C_API size_t nopspan_context_tracestate(const nopspan_context* context, char* out, size_t room)
    NOPSPAN_C_SHELL(return room > 0 ? (size_t)(out[0] = 0) : 0);
NOPSPAN_C_API size_t nopspan_context_baggage(const nopspan_context* context, char* out, size_t room)
    NOPSPAN_C_SHELL(return room > 0 ? (size_t)(out[0] = 0) : 0);
/// @}
/// Gets a header. The key ends with a NUL, and the value need not.
typedef void (*nopspan_set_header)(void* carrier, const char* key, const char* value, size_t size);
/// Calls `set` for each header of the context that is not empty.
NOPSPAN_C_API void nopspan_context_inject(const nopspan_context* context, nopspan_set_header set, void* carrier)
    NOPSPAN_C_SHELL();
/// Declares the key of a label that may come from other processes; see declare_label().
NOPSPAN_C_API bool nopspan_declare_label(const char* key) NOPSPAN_C_SHELL(return false);

/// Makes a context, which is copied, the calling thread's current one until nopspan_scope_leave(). It costs some
/// nanoseconds, also while nothing is attached. A null pointer is the empty context. See ContextScope.
NOPSPAN_C_API nopspan_scope nopspan_scope_enter(const nopspan_context* context) NOPSPAN_C_SHELL_ZERO(nopspan_scope);
/// Restores the context that was current before. Leave scopes on the thread that entered them, innermost first. Scopes
/// that are left in another order or on another thread are counted (scopes_left, wrong_thread). To leave one twice does
/// nothing.
NOPSPAN_C_API void nopspan_scope_leave(nopspan_scope scope) NOPSPAN_C_SHELL();

/* ---- The process: stats.h ---- */

/// Reads all counts. `size` is sizeof(struct nopspan_stats): what a later version added is left out, and what an older
/// one does not have is 0.
NOPSPAN_C_API void nopspan_stats_read(struct nopspan_stats* stats, size_t size)
    NOPSPAN_C_SHELL(if (stats != NULL) __builtin_memset(stats, 0, size));
/// For programs that enter a sandbox: makes what `threads` threads need. After that, no memory is mapped unless `grow`.
/// Returns false if there was not so much memory. See prepare().
NOPSPAN_C_API bool nopspan_prepare(size_t threads, bool grow) NOPSPAN_C_SHELL(return true);
/// For a process that has become a copy, of a snapshot or of a checkpoint: makes its next ids differ from those of the
/// other copies. See reseed().
NOPSPAN_C_API void nopspan_reseed(void) NOPSPAN_C_SHELL();
/// Sets whether spans are recorded even while nothing is attached; see keep_open_spans().
NOPSPAN_C_API void nopspan_keep_open_spans(bool on) NOPSPAN_C_SHELL();
/// Sets whether probes receive content; see capture_content().
NOPSPAN_C_API void nopspan_capture_content(enum nopspan_content mode) NOPSPAN_C_SHELL();
/// Ends all open spans as cancelled; see end_open_spans(). The library calls this at exit(). `reason` may be null.
NOPSPAN_C_API void nopspan_end_open_spans(const char* reason) NOPSPAN_C_SHELL();
/// The time now, CLOCK_MONOTONIC in ns.
NOPSPAN_C_API uint64_t nopspan_now_ns(void) NOPSPAN_C_SHELL(return 0);

#ifdef __cplusplus
}
#endif
// NOLINTEND(modernize-use-using,modernize-use-nullptr,modernize-redundant-void-arg)

#endif  // NOPSPAN_C_H
