// SPDX-License-Identifier: Apache-2.0
// The messages by which a reader knows processes. Most are batches: messages of kernel programs (collector_events.h)
// with their bytes. All times are of the tracer's CLOCK_MONOTONIC.
#pragma once

#include "base/clocks.h"
#include "model/entry.h"
#include "model/ledger.h"

#include <collector_events.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

// An attach to a file begins or ends. Several at once are one.
struct AttachChange {
  std::uint64_t time_ns = 0;
  bool begins = false;
  bool has_attached = false;  // at its end: to something
};

// A process for the first time, or again because something has changed.
struct Described {
  std::uint32_t pid = 0;
  ProcessPointer process;
  bool has_begun = false;  // perhaps before the attach, and no Begun says where
};

// The tracer has attached to a file of a process. What its threads had emitted before that is not counted.
struct Begun {
  struct Thread {
    std::uint64_t sequence_id = 0, next = 0, discarded = 0;  // of its header
  };
  std::uint32_t pid = 0;
  std::uint64_t time_ns = 0;  // before it, entries of the process may not have been received
  std::uint64_t running_threads = 0;
  bool are_all_known = false;
  std::vector<Thread> threads;
  std::uint64_t gate_address = 0;  // 0: the file has no gate
  Counts dropped;                  // by the copy of the library before that
};

// What a thread held at a time, of which no batch has come.
struct Held {
  enum class What : std::uint32_t {
    fetched = 1,
    not_fetched = 2,  // there was no time
    discarded = 3,    // only how many entries it has discarded, because it had no buffer. No probe hit reports them
  };
  What what = What::fetched;
  std::uint32_t pid = 0;
  nopspan_thread header{};
  std::uint64_t address = 0;  // of the header
  std::uint64_t time_ns = 0;
  std::string_view bytes;  // if they were fetched
};

// What a copy of the library has dropped so far.
struct LibraryDropped {
  std::uint32_t pid = 0;
  std::uint64_t gate_address = 0;
  Counts dropped;
  std::uint64_t time_ns = 0;
};

// Entries that kernel programs could not forward, by NOPSPAN_REASON_*.
using Losses = std::array<std::uint64_t, NOPSPAN_REASONS>;
struct ProcessLosses {
  std::uint32_t tgid = 0, pid = 0;  // in the initial namespace, and in the tracer's
  Losses losses{};
};
struct ThreadLosses {
  nopspan_thread_key key{};
  nopspan_thread_losses losses{};
};
// All of them so far.
struct AllLosses {
  std::vector<ProcessLosses> processes;
  std::vector<ThreadLosses> threads;
  Losses others{};  // of processes for which the kernel programs had no room
  std::uint64_t time_ns = 0;
};

// A process is gone, and no more messages of it follow.
struct Closed {
  std::uint32_t pid = 0;
  bool lost_held = false;  // nobody may have read what its threads held
  bool is_reused = false;  // another process may have its pid now
};

// Threads that the tracer does not know any more, to bound its memory. If they go on, it does not know where they were.
struct ForgottenThreads {
  std::uint32_t pid = 0;
  std::vector<std::uint64_t> sequence_ids;
};

// What happened at a time.
enum class Mark : std::uint32_t {
  attaching = 1,  // a Begun may follow, because of an attach that is running
  settled,        // none follows. Those before were passed on, and so was the end of processes that ended meanwhile
  live,           // everything that was found at the start is attached
  time,           // messages that have waited long enough are released
  tick,           // the same, and the command gets a tick
  round,          // a round has ended: what was emitted before the last round was passed on
  // The end. From the detach on, a gap in a thread's sequence may consist of entries that another tracer received, or
  // that were emitted after the end. Entries after a gap are no longer accepted.
  detach_begins,
  detached,
  ended,          // messages from this time on are ignored
  counting_only,  // entries are only counted, as missed, because there is no time left to deliver them
  last,
  last_lost_held,  // the same, and nobody may have read what the threads of ended processes held
};

// What a reader must know before the first message.
struct TracerStart {
  Process unknown;            // what is known of a process that was not described: host and boot
  ClockSample clock;          // the first sample
  bool same_numbers = false;  // the kernel programs see the same pids as the tracer
};

// What is no part of an entry or of a count. The last one is valid.
struct TracerState {
  std::uint64_t processes = 0;        // with probes, that the tracer found at the start
  std::uint64_t reader_restarts = 0;  // how often the process that reads other processes ended unexpectedly
  bool is_cut = false;                // at the end, some threads were not read
  std::string remark;                 // in one line; "" if there is none
  Ledger unattached;                  // what could not be attached to; nothing else is in it

  friend bool operator==(const TracerState& a, const TracerState& b) {
    return a.processes == b.processes && a.reader_restarts == b.reader_restarts && a.is_cut == b.is_cut &&
           a.remark == b.remark && a.unattached.unattached == b.unattached.unattached &&
           a.unattached.unattached_others == b.unattached.unattached_others;
  }
};

// The tracer ends. Nothing follows.
struct TracerEnd {
  int status = 0;       // an exit status; 0: all went well
  std::string message;  // why not, for the user; "" if there is nothing to say
};

// The open spans of a copy of the library, as they were in its process's memory.
struct PackedOpenSpans {
  std::uint32_t pid = 0, user = 0;
  std::string library;     // its path
  int error = 0;           // an errno value: why nothing could be read
  std::string_view bytes;  // for unpack_open_spans() (host/open_spans.h)
};

// The open spans of all processes were read.
struct OpenSpansRead {
  std::uint64_t time_unix_ns = 0, time_ns = 0;
  std::vector<Unattached> skipped;  // what was not read; pid 0: not of one process
};

// Receives the messages, in the order in which they were made. It may ignore some.
class MessageSink {
 public:
  virtual ~MessageSink() = default;
  virtual void on_start(const TracerStart& /*start*/) {}  // the first one
  virtual void on_batch(const nopspan_message& /*message*/, std::string_view /*bytes*/) {}
  virtual void on_clock(const ClockSample& /*sample*/) {}
  virtual void on_attach(const AttachChange& /*change*/) {}
  virtual void on_process(const Described& /*described*/) {}
  virtual void on_begun(const Begun& /*begun*/) {}
  virtual void on_held(const Held& /*held*/) {}
  virtual void on_dropped(const LibraryDropped& /*dropped*/) {}
  virtual void on_losses(const AllLosses& /*losses*/) {}
  virtual void on_gone(std::uint32_t /*pid*/) {}  // the process has ended
  virtual void on_closed(const Closed& /*closed*/) {}
  virtual void on_forgotten(const ForgottenThreads& /*forgotten*/) {}
  virtual void on_mark(Mark /*mark*/, std::uint64_t /*time_ns*/) {}
  virtual void on_state(const TracerState& /*state*/) {}
  virtual void on_open(const PackedOpenSpans& /*open*/) {}  // of a process that was described; what it held came before
  virtual void on_open_read(const OpenSpansRead& /*read*/) {}
  virtual void on_text(std::string_view /*text*/) {}  // for the user: lines as they are printed to stderr
  virtual void on_end(const TracerEnd& /*end*/) {}    // the last one
};

}  // namespace nopspan::collector
