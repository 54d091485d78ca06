// SPDX-License-Identifier: Apache-2.0
// What nopspan left out, cut or mended: nothing is lost without a count.
#ifndef NOPSPAN_STATS_H
#define NOPSPAN_STATS_H

#include <nopspan/config.h>

#include <cstdint>

namespace nopspan {

// Counts since the start of the process (of this copy of the library), all of them 0 in a healthy program.
struct Stats {
  std::uint64_t spans_dropped;       // no memory for a span or event: it was not emitted
  std::uint64_t reentrant;           // a span or event inside a signal handler that interrupted nopspan: not emitted
  std::uint64_t inherited;           // a span begun before fork() ended in the child: the parent emits it
  std::uint64_t abandoned;           // AsyncSpans destroyed without end(): emitted as cancelled
  std::uint64_t wrong_thread;        // Spans destroyed on another thread than the one that made them: emitted
  std::uint64_t names_invalid;       // names emitted in a cleaned form
  std::uint64_t names_overflow;      // names over the bound of Name::intern(): emitted as nopspan.overflow
  std::uint64_t names_unknown;       // names under a catalogue's prefix that the catalogue does not have: emitted
  std::uint64_t truncated;           // names, ids, labels and error types cut to 63 bytes
  std::uint64_t labels_overflow;     // labels over the bound: "other"; keys of labels over it: not inherited
  std::uint64_t invalid_ids;         // request ids and traceparents that could not be used: a new id was made
  std::uint64_t invalid_tracestate;  // tracestates, or members of them, that were left out
  std::uint64_t tracestate_evicted;  // tracestates over the bound, no longer passed on
  std::uint64_t invalid_utf8;        // strings with bytes or characters replaced by "?" for a probe
  std::uint64_t values_clamped;      // integers over 2^63-1; times and counts that cannot be: absent
  std::uint64_t fields_dropped;      // metadata and measurements left out: see Fields
  std::uint64_t attributes_dropped;  // attributes left out of a probe's record, over its limit in bytes
  std::uint64_t links_dropped;       // links over the limit
  std::uint64_t metadata_failures;   // callables for fields that threw
  std::uint64_t handler_failures;    // handlers that threw, and were detached
  std::uint64_t recursion_dropped;   // events emitted by handlers of handlers, over 16 deep: handlers did not see them
  std::uint64_t facts_untracked;   // spans that do not know what those inside them told: token usage and tool calls may
                                   // be told twice
  std::uint64_t trace_ids_differ;  // trace_ids of agent events that are not the request's: metadata
};

// Thread-safe; each count is exact, the set of them is not one instant's.
NOPSPAN_API Stats stats() noexcept;

// Whether content (Fields::content(), exception messages) goes to probes too. Off unless NOPSPAN_CAPTURE_CONTENT=1.
// Thread-safe.
NOPSPAN_API void capture_content(bool on) noexcept;

}  // namespace nopspan

#endif  // NOPSPAN_STATS_H
