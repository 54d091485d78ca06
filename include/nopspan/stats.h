// SPDX-License-Identifier: Apache-2.0
/// @file
/// Counters of everything nopspan dropped, truncated or repaired: nothing is lost without a count.
///
/// @code
/// const nopspan::Stats counts = nopspan::stats();
/// if (counts.spans_dropped != 0) fprintf(stderr, "%lu spans were not emitted\n", counts.spans_dropped);
/// @endcode
///
/// Thread safety: both functions may be called from any thread at any time. Each count is exact; they are read one
/// after another, so the set is not that of one instant.
#ifndef NOPSPAN_STATS_H
#define NOPSPAN_STATS_H

#include <nopspan/config.h>

#include <cstdint>

namespace nopspan {

/// Counts since the start of the process, of this copy of the library. All are 0 in a healthy program.
struct Stats {
  std::uint64_t spans_dropped;    ///< spans and events that were not emitted, because there was no memory
  std::uint64_t reentrant;        ///< spans and events that were not emitted, in a signal handler that interrupted
                                  ///< nopspan
  std::uint64_t inherited;        ///< spans that started before fork() and ended in the child; the parent emits them
  std::uint64_t abandoned;        ///< AsyncSpans destroyed before they ended: emitted as cancelled
  std::uint64_t wrong_thread;     ///< Spans destroyed on another thread than the one that created them: emitted
  std::uint64_t names_invalid;    ///< names emitted in a cleaned form; see Name
  std::uint64_t names_overflow;   ///< names over the limit of Name::intern(): emitted as nopspan.overflow
  std::uint64_t names_unknown;    ///< names under a catalogue's prefix that the catalogue does not have: emitted
  std::uint64_t truncated;        ///< names, ids, labels and error types truncated to 63 bytes
  std::uint64_t labels_overflow;  ///< label values over the limit (they become "other"), and label keys over the limit
                                  ///< (not inherited); see Fields::label()
  std::uint64_t invalid_ids;      ///< request ids and traceparents that could not be used: a new id was made
  std::uint64_t invalid_tracestate;  ///< tracestates, or members of them, that were dropped
  std::uint64_t tracestate_evicted;  ///< tracestates over the limit of the store, which are no longer forwarded
  std::uint64_t invalid_utf8;        ///< strings of which bytes or characters became "?" in a probe
  std::uint64_t values_clamped;      ///< integers over 2^63-1; impossible times and counts, which count as absent
  std::uint64_t fields_dropped;      ///< metadata and measurements over the limits of Fields
  std::uint64_t attributes_dropped;  ///< attributes that did not fit into a probe's record
  std::uint64_t links_dropped;       ///< links over the limit of Fields::link()
  std::uint64_t metadata_failures;   ///< exceptions thrown by callables that set fields
  std::uint64_t handler_failures;    ///< handlers that threw, and were detached
  std::uint64_t recursion_dropped;  ///< events that handlers of handlers emitted more than 16 deep: no handler saw them
  std::uint64_t facts_untracked;    ///< spans that cannot know what the spans inside them reported: their token usage
                                    ///< and tool calls may be reported twice
  std::uint64_t trace_ids_differ;   ///< trace_ids of agent events that differ from the request's: kept as metadata
};

/// Reads all counts.
NOPSPAN_API Stats stats() noexcept;

/// Sets whether content (Fields::content(), messages of exceptions) goes to probes. Handlers receive it always. It is
/// off unless the environment has NOPSPAN_CAPTURE_CONTENT=1.
NOPSPAN_API void capture_content(bool on) noexcept;

}  // namespace nopspan

#endif  // NOPSPAN_STATS_H
