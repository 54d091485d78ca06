// SPDX-License-Identifier: Apache-2.0
// What an engine's steps (steps.h) did for each of their members. A member names its request by a span, usually
// engine.request, which ends after many of its steps. Until its trace is delivered, the steps of each request are added
// up here. Spans inside a step, such as those of a GPU, are added up beside it.
#pragma once

#include "base/key_index.h"
#include "model/entry.h"
#include "model/steps.h"
#include "trace/trace.h"

#include <nopspan/probes.h>

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace nopspan::collector {

// What became of each link of the linked spans, or of each member of the steps. It is always true that
// all = joined + late + unknown + filtered + over_limit + held.
struct JoinCounts {
  std::uint64_t all = 0;
  std::uint64_t joined = 0;      // to traces that were delivered with the linked span or step
  std::uint64_t late = 0;        // to requests that had already been delivered
  std::uint64_t unknown = 0;     // to traces of which no entry arrived; of requests whose span did not arrive
  std::uint64_t filtered = 0;    // links to traces that the filter removes
  std::uint64_t over_limit = 0;  // no memory, or too many sums
  std::uint64_t held = 0;        // to open traces; of requests whose span may still arrive
};

struct StepCounts {
  std::uint64_t all = 0;      // steps
  JoinCounts members;         // that arrived with their step
  JoinCounts inside;          // of spans inside a step: each has the members of its step
  std::uint64_t dropped = 0;  // members for which the programs had no memory
  std::uint64_t missing = 0;  // members that a step has and that did not arrive
  std::uint64_t stray = 0;    // members that arrived without their step
  // Requests that are known from steps only. Those that the engine named by keys of its own, as a rule because they
  // began before the attach; those whose span did not arrive, as a rule because it did not end; and those that were
  // named by trace ids of which no span arrived.
  std::uint64_t by_own_key = 0, not_ended = 0, by_trace_id = 0;
};

class TraceSteps {
 public:
  // `texts` must outlive this object. `most_bytes` is a limit of the memory, and `linked_kept` as in TraceLimits.
  TraceSteps(InternedTexts& texts, std::size_t most_bytes, std::size_t linked_kept, std::uint64_t seed)
      : texts_(texts),
        most_bytes_(most_bytes),
        linked_kept_(linked_kept),
        by_span_(0, KeyHash{seed}),
        roots_(seed),
        by_key_(0, KeyHash{seed}) {
    texts_.intern("engine.step");  // before other processes can use all the room
  }

  // Adds a step. Returns false if it is known already. `marks` are those of a trace's entries.
  bool add_step(const Entry& entry, std::uint32_t marks, std::uint64_t now_ns);
  // Adds further members of a step.
  void add_part(const Entry& entry);
  // Whether the entry is inside a step without a parent. It then has the step's trace id. If it is of another process,
  // it must also be below the step or a known span inside it, because a process may know the trace ids of others.
  [[nodiscard]] bool is_inside(const Entry& entry);
  // Adds an entry for which is_inside() is true.
  void add_inside(const Entry& entry, std::uint32_t marks);
  // If a step has named the request of this span, later traces can name it too.
  void note_request(const Entry& entry);
  // Moves what the steps did for the request of this span to the span's trace. Returns the marks of these steps.
  std::uint32_t claim(const PackedEntry& span, Trace& trace);
  // The same for steps that named the trace, because its request has no span in the engine's process.
  std::uint32_t claim(Trace& trace);
  [[nodiscard]] bool has_requests() const { return !owners_.empty(); }
  // Call it after each entry, but not between is_inside() and add_inside(), because it may forget the step.
  void forget_beyond_limit();
  // Forgets the steps that arrived before this time. What is inside them is then no longer recognized.
  void forget_before(std::uint64_t time_ns);
  // After the last entry: no request is claimed any more.
  void finish();

  [[nodiscard]] const StepCounts& counts() const { return counts_; }
  [[nodiscard]] std::size_t bytes() const { return step_bytes_ + request_bytes_; }

 private:
  struct Key {
    std::uint64_t process = 0, id = 0;  // number_of(), or 0 for a trace; and a span's id or a key
    NamedBy by = NamedBy::span;
    friend bool operator==(const Key& a, const Key& b) = default;
  };
  struct KeyHash {
    std::uint64_t seed;
    std::size_t operator()(const Key& key) const {
      return hash_of(key.process ^ static_cast<unsigned>(key.by), key.id, seed);
    }
  };
  // The step, or a span inside it.
  struct Row {
    std::uint32_t name, marks;
    LinkedSpan span;
    ProcessPointer process;
    bool is_step;
  };
  struct Step {
    Key key;
    TraceId id;
    std::uint64_t arrived_ns = 0;
    std::uint64_t announced = 0, next = 0,
                  received = 0;  // members: those of the step, the end of the last part, and here
    std::string members;
    nopspan_member most{};  // the member with the most prefill tokens
    std::vector<Row> rows;  // the step itself is the first if `is_shown`
    bool is_shown = true;
    std::size_t bytes = 0;
  };
  using Steps = std::list<Step>;
  struct Request {
    Key key;
    std::uint64_t owner = 0;  // number_of() the process that named it first
    bool is_delivered = false;
    std::uint32_t marks = 0;
    std::string id, tenant;  // if its span has arrived
    std::vector<std::pair<std::unique_ptr<LinkedSpans>, ProcessPointer>> sums;
    std::size_t bytes = 0;
  };
  using Requests = std::list<Request>;
  struct Owner {
    Requests requests;  // the one with a step most recently is the last
    std::size_t bytes = 0;
  };

  void take_members(Step& step, std::string_view members);
  void join(Step& step, const Row& row, std::string_view members);
  std::uint64_t* join(const Step& step, Request& request, const Row& row, const nopspan_member& member);
  static void note_longest(const Step& step, const Row& row, const nopspan_member& member, LongestStep& longest);
  bool add_row(Step& step, const Entry& entry, std::uint32_t marks, bool is_step);
  void count_bytes(Step& step);
  void forget(Steps::iterator step);
  std::uint32_t claim(Request& request, Trace& trace);
  Request& request_of(const Key& key, std::uint64_t process);
  void make_room();
  void forget_oldest(std::uint64_t process);
  void end(const Request& request);
  void count(Request& request, std::size_t bytes);

  InternedTexts& texts_;
  std::size_t most_bytes_, linked_kept_;
  Steps steps_;  // in the order of their arrival
  std::unordered_map<Key, Steps::iterator, KeyHash> by_span_;
  TraceIdTable<Steps::iterator> roots_;  // steps without a parent
  std::unordered_map<std::uint64_t, Owner> owners_;
  std::set<std::pair<std::size_t, std::uint64_t>> most_;  // bytes of requests, process
  std::unordered_map<Key, Requests::iterator, KeyHash> by_key_;
  std::size_t step_bytes_ = 0, request_bytes_ = 0;
  StepCounts counts_;
};

}  // namespace nopspan::collector
