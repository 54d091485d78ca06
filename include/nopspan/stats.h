// SPDX-License-Identifier: Apache-2.0
/// @file
/// Counters of everything that nopspan dropped, truncated or repaired, and switches for the whole process. Nothing is
/// lost without a count.
///
/// @code
/// const nopspan::Stats counts = nopspan::stats();
/// if (counts.spans_dropped != 0) fprintf(stderr, "%lu spans were not emitted\n", counts.spans_dropped);
/// @endcode
///
/// Thread safety: all functions may be called from any thread at any time. Each count is exact. The counts are read
/// one after another, so together they do not describe one instant.
#ifndef NOPSPAN_STATS_H
#define NOPSPAN_STATS_H

#include <nopspan/detail/config.h>

#include <cstddef>
#include <cstdint>
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE {

/// Counts of this copy of the library since the process started. In a child process they begin with 0. All stay 0 while
/// the program passes only valid input, uses spans as their headers describe, stays within the limits, and has memory.
/// There are four exceptions, which a correct program may see too: reentrant, inherited, recursion_dropped and
/// thread_allocations.
struct Stats {
  std::uint64_t spans_dropped;   ///< spans and events that were not emitted, because there was no memory, or for the
                                 ///< reasons of spans_over_limit
  std::uint64_t reentrant;       ///< spans and events of signal handlers that interrupted nopspan, and of fork handlers
                                 ///< that run between those of nopspan: not emitted
  std::uint64_t inherited;       ///< spans that started before fork() and ended in the child; the parent emits them
  std::uint64_t abandoned;       ///< AsyncSpans destroyed before they ended, and not by an exception: emitted as
                                 ///< cancelled
  std::uint64_t wrong_thread;    ///< Spans, ContextScopes and contexts of coroutines that ended on another thread
                                 ///< than they began on; the spans are emitted
  std::uint64_t names_invalid;   ///< names that were repaired before they were emitted (see Name), and error types
                                 ///< that became "_OTHER" (see Span::fail())
  std::uint64_t names_overflow;  ///< names made at run time, over the limit of Name: emitted as nopspan.overflow
  std::uint64_t names_unknown;   ///< names under the prefix llm. or agent. that its catalogue does not have: emitted.
                                 ///< They are counted if the span is recorded, because a disabled span reads no name
  std::uint64_t truncated;       ///< names, ids, labels and error types over 63 bytes, which were truncated
  std::uint64_t labels_overflow;     ///< label values over the limit (they become "other"), and label keys over the
                                     ///< limit (not inherited); see Fields::label()
  std::uint64_t invalid_ids;         ///< null or empty request ids, for which a new id was made, and malformed
                                     ///< traceparents, which give an empty context
  std::uint64_t invalid_tracestate;  ///< tracestates, or members of them, that were dropped
  std::uint64_t tracestate_evicted;  ///< tracestates and baggage over the limit of the store, which are no longer
                                     ///< forwarded
  std::uint64_t invalid_utf8;        ///< strings in which "?" replaces control characters, or bytes that are not UTF-8
  std::uint64_t values_clamped;      ///< integers over 2^63-1, stored as 2^63-1; values that probes do not get:
                                     ///< negative token counts, negative engine times, negative gauges of
                                     ///< engine::stats(), impossible times (engine.h, StreamMeter), and token counts
                                     ///< and HTTP statuses of catalogues' spans that are not integers; engines,
                                     ///< models and tenants that are neither text nor integers; token counts
                                     ///< over 2^53, which the rates of engine.request treat as 2^53
  std::uint64_t fields_dropped;      ///< fields over the limits of Fields, without a key, with a key that nopspan
                                     ///< reserves, or without memory; StreamMeters without memory; metadata of
                                     ///< agent::tool_span() that is not a map; members of a map `usage` that
                                     ///< docs/genai.md does not list
  std::uint64_t attributes_dropped;  ///< attributes that did not fit into a probe's record
  std::uint64_t links_dropped;       ///< links over the limit of Fields::link(), and those of a step to spans that are
                                     ///< not recorded
  std::uint64_t metadata_failures;   ///< exceptions thrown by callables that set fields or count tokens, and by
                                     ///< conversions of values and names, such as the to_string() of an enum
  std::uint64_t handler_failures;    ///< handlers that threw, and were detached
  std::uint64_t recursion_dropped;   ///< handlers that were not called for an event, because they were running on the
                                     ///< thread already, and events that no handler received, because handlers nested
                                     ///< more than 16 deep
  std::uint64_t facts_untracked;     ///< spans for which nopspan cannot know what the spans inside them reported: their
                                     ///< token usage and tool calls may be reported twice
  std::uint64_t trace_ids_differ;    ///< ids in metadata that differ from the request's: kept as metadata; see
                                     ///< Fields::request_id() and trace_id() in agent.h
  std::uint64_t thread_allocations;  ///< threads for whose end glibc had to allocate memory, because the process had
                                     ///< used more than 31 pthread keys when the library was loaded; see span.h
  std::uint64_t scopes_left;         ///< Spans, ContextScopes and contexts of coroutines that were open when a scope
                                     ///< around them, or their thread, ended: no longer current; the spans are
                                     ///< emitted when they end
  std::uint64_t baggage_dropped;     ///< members of the header `baggage` that were dropped: malformed, a second one
                                     ///< with the key of a label, or over the limits (propagation.h)
  std::uint64_t members_dropped;   ///< members of engine steps that were dropped, because there was no memory, or over
                                   ///< the limit; see engine::StepFields::members()
  std::uint64_t contexts_dropped;  ///< ContextScopes, and contexts of coroutines, that did not become current, for the
                                   ///< reasons of spans_dropped and reentrant
  std::uint64_t spans_over_limit;  ///< those of spans_dropped for which a limit was reached: 1,048,576 open spans in a
                                   ///< process (including the memory that threads keep for their next spans), 65,536
                                   ///< threads that use spans or contexts, no pthread key was left, or the thread had
                                   ///< run its last destructors
  std::uint64_t warnings;          ///< messages that were not logged, because no log sink is set: see set_log_sink().
                                   ///< `nopspan ps` and `nopspan doctor` show the first 16
  std::uint64_t calls_invalid;  ///< calls of the C API (c.h) with a handle whose span or event has ended, or to which
                                ///< the call does not apply, and with a struct without its size: ignored
};

/// Reads all counts.
NOPSPAN_API Stats stats() noexcept NOPSPAN_IN_SHELL(return {});

/// Where probes receive content. The values are those of OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT.
enum class ContentMode : unsigned char {
  none = 0,             ///< NO_CONTENT: nowhere
  spans = 1,            ///< SPAN_ONLY: in the attributes of spans
  events = 2,           ///< EVENT_ONLY: in the attributes of events
  spans_and_events = 3  ///< SPAN_AND_EVENT: in both
};

/// Sets whether probes receive content (Fields::content(), messages of exceptions). Handlers always receive it. At the
/// start of the process this is off, unless the environment says otherwise:
///
/// - If NOPSPAN_CAPTURE_CONTENT is set, content is captured everywhere if it is "1", and nowhere for any other value.
/// - Otherwise OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT has the name of one of ContentMode's values, in upper
///   or lower case, or "true" (both) or "false" (nowhere). For any other value, content is captured nowhere, and a
///   warning is logged.
NOPSPAN_API void capture_content(ContentMode mode) noexcept NOPSPAN_IN_SHELL();
/// The same: in the attributes of spans and of events, or nowhere.
NOPSPAN_API void capture_content(bool on) noexcept NOPSPAN_IN_SHELL();

/// Sets whether exceptions that end spans, and exceptions of handlers, are reported with a stack trace: the metadata
/// `stacktrace`, a list of at most 32 texts, innermost first, as "function(int)+0x12", or as "object+0x1234" where the
/// object does not export the function. If the application has set a `stacktrace` on the span after its start, that one
/// is reported. It is content (see capture_content()).
///
/// For the closure form span(), and for Spans inside it, the list begins where the exception was thrown. Otherwise, and
/// in code that is compiled with -fno-rtti, it begins where it was caught. An exception then costs some microseconds
/// more. At the start of the process this is off, unless the environment has NOPSPAN_STACKTRACE=1.
NOPSPAN_API void capture_stacktraces(bool on) noexcept NOPSPAN_IN_SHELL();

/// Sets whether spans are recorded even while no tracer or handler is attached. They can then be read from outside
/// while they are open (probes/README.md), for example if a request hangs.
///
/// - Spans that started before this call are included only if they were recorded.
/// - A span then costs more than a disabled one (docs/overhead.md). Metadata callables run, because labels are
///   included. Nothing is emitted.
/// - At the start of the process this is off, unless the environment has NOPSPAN_KEEP_OPEN=1. With NOPSPAN_DISABLE=1 it
///   stays off.
NOPSPAN_API void keep_open_spans(bool on) noexcept NOPSPAN_IN_SHELL();

/// Whether the library may map more memory than prepare() has mapped.
enum class Growth : unsigned char {
  allowed,  ///< the filter allows mmap, madvise and munmap
  none      ///< no system call for memory from now on: what has no memory is dropped, and counted (stats())
};

/// For programs that enter a sandbox: call it before the seccomp filter is installed. While a tracer or handler is
/// attached, or open spans are kept, spans need memory and random bytes, for which the library makes system calls. If
/// the filter kills the process for one of these, an attach ends the program. docs/developers.md lists the calls.
///
/// Makes what the first spans of a process and of this thread need: the key of the generator of ids, the state of this
/// thread, and memory for `threads` threads at a time. That is enough for threads that have up to 64 spans open, up to
/// 32 scopes, and a few spans with more than 768 bytes of fields. It is address space of 400 KiB for each thread, which
/// becomes memory when it is used. More memory than that is mapped when it is needed, unless `growth` is none.
///
/// After this, spans of this thread make no system call while that memory is enough. (If the clock of the host cannot
/// be read without a system call, each span calls clock_gettime. If a nopspan::recording::Writer is open, spans call
/// futex.) The first span of any other thread calls gettid. Call it again in a child process after fork().
///
/// A process that may not read the processor's time-stamp counter cannot have spans, because reading any clock ends it
/// by SIGSEGV: after PR_SET_TSC, and in seccomp's strict mode. Start it with NOPSPAN_DISABLE=1.
///
/// It must not be called in a signal handler.
///
/// @return false if there was not so much memory. With NOPSPAN_DISABLE=1 it does nothing and returns true.
NOPSPAN_API bool prepare(std::size_t threads = 1, Growth growth = Growth::allowed) noexcept
    NOPSPAN_IN_SHELL(return true);

/// For programs that run as copies: of a snapshot of a virtual machine, or of a checkpoint of the process (CRIU). Call
/// it in the hook that runs in each copy before it serves requests. The generators of ids get a new seed, from
/// getrandom(2). All ids that the library makes after it differ from those of the other copies. An open
/// nopspan::recording::Writer begins another recording, as another instance of the service. In a process that is not a
/// copy, it loses what threads wrote shortly before the call.
///
/// Without this call, the ids of copies differ too, with an exception that docs/operating.md describes ("Copies of a
/// process"). Spans that were open when the copy was made keep their ids in all copies.
NOPSPAN_API void reseed() noexcept NOPSPAN_IN_SHELL();

}  // namespace NOPSPAN_NAMESPACE

#endif  // NOPSPAN_STATS_H
