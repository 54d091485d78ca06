// SPDX-License-Identifier: Apache-2.0
// What nopspan convert writes: requests, and what is in none of them.
#pragma once

#include "base/random.h"
#include "model/entry.h"
#include "model/ledger.h"
#include "model/steps.h"
#include "stream/clock_map.h"
#include "trace/trace_assembler.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>

namespace nopspan::collector {

class Picture {
 public:
  Picture() = default;
  virtual ~Picture() = default;
  Picture(const Picture&) = delete;
  Picture& operator=(const Picture&) = delete;

  virtual void add(const AssembledTrace& trace) = 0;
  // An entry that is in no trace, and a step that is in one (TraceAssembler::Pass).
  virtual void add(const Entry& entry) = 0;
  // Writes what is left, and what is known of losses.
  virtual void finish(const Ledger& ledger, const std::string& remark, const std::optional<ClockState>& clock) = 0;

  // What the file has.
  struct Counts {
    std::uint64_t requests = 0, spans = 0, points = 0, steps = 0, values = 0;  // steps are no spans
    Counts& operator+=(const Counts& other) {
      requests += other.requests;
      spans += other.spans;
      points += other.points;
      steps += other.steps;
      values += other.values;
      return *this;
    }
  };
  [[nodiscard]] const Counts& counts() const { return counts_; }

 protected:
  Counts counts_;
};

enum class Flows : std::uint8_t { none, some, all };

// Also for ids that a program chose so that they are found slowly.
struct IdHash {
  std::uint64_t seed;  // random

  std::size_t operator()(std::uint64_t id) const { return hash_of(id, 0, seed); }
  std::size_t operator()(const TraceId& id) const { return hash_of(id, seed); }
  std::size_t operator()(const std::pair<std::uint64_t, std::uint64_t>& id) const {
    return hash_of(id.first, id.second, seed);
  }
};
template <class Id, class Value>
using MapOfIds = std::unordered_map<Id, Value, IdHash>;

// A span, or the process of one, wherever it ran.
class SpanKeys {
 public:
  using Key = std::pair<std::uint64_t, std::uint64_t>;  // number of the process, span id
  std::uint64_t process(const ProcessPointer& process);
  Key of(const Entry& entry, std::uint64_t span_id) { return {process(*entry.process), span_id}; }

 private:
  std::map<std::tuple<std::string, std::string, ProcessKey>, std::uint64_t> processes_;
  ProcessPointer last_;
  std::uint64_t last_number_ = 0;
};

// The steps at which the flow of a request stops: the first with its prompt, the one that ended its longest gap, and
// the last. They are found before anything is written.
class StepFlows {
 public:
  using Key = SpanKeys::Key;
  // Knows at most so many requests. The others have no flow. `shows_all`: those that are seen are shown. `keys` must
  // outlive this object.
  StepFlows(Flows flows, std::size_t most, SpanKeys& keys, bool shows_all = false)
      : flows_(flows), most_(most), keys_(keys), shows_all_(shows_all), requests_(0, IdHash{random_seed()}) {}

  // So many bytes a request takes, about.
  static constexpr std::size_t kBytesOfRequest = 128;
  // A step, or further members of one. In the order of their arrival.
  void see(const Entry& entry);
  // The request of this span, as its steps name it; nothing if none does.
  [[nodiscard]] std::optional<Key> find(const Entry& entry);
  // The request is shown.
  void show(const Key& request);
  // The number of a request that is shown, from 0 on; nothing if it is not shown.
  [[nodiscard]] std::optional<std::uint32_t> number_of(const Key& request) const;
  [[nodiscard]] std::optional<std::uint32_t> number_of(const Entry& step, const nopspan_member& member);
  [[nodiscard]] std::uint64_t process_of(const Entry& step) { return keys_.process(*step.process); }
  // Whether there were more requests than it knows.
  [[nodiscard]] bool is_full() const { return is_full_; }
  // Makes room for others.
  void forget() {
    requests_.clear();
    is_full_ = false;
  }
  // The flow that begins at this span; 0 if there is none.
  [[nodiscard]] std::uint64_t flow_from(const Entry& entry);
  // Calls each(id of the flow) for the flows that stop at the step, or further members of one.
  template <class Each>
  void for_each_at(const Entry& step, const Each& each) {
    for_each_member(step.members, [&](const nopspan_member& member) {
      const Key request = keys_.of(step, member.request);
      if (stops_at(member, request, step.span_id)) each(flow_of(request));
    });
  }

 private:
  struct Request {
    std::uint64_t first = 0, longest = 0, last = 0;    // ids of steps
    std::uint64_t first_ns = UINT64_MAX, last_ns = 0;  // when these began
    std::uint64_t end_ns = 0, longest_ns = 0;          // of the latest end, and of the longest gap
    std::uint32_t number = 0;
    bool is_shown = false;
  };
  [[nodiscard]] bool stops_at(const nopspan_member& member, const Key& request, std::uint64_t step_id) const;
  // Not 0.
  static constexpr std::uint64_t kOfFlows = 0x51ed270b7f64c5a3U;
  static std::uint64_t flow_of(const Key& request) { return hash_of(request.first, request.second, kOfFlows) | 1U; }

  const Flows flows_;
  const std::size_t most_;
  SpanKeys& keys_;
  const bool shows_all_;
  MapOfIds<Key, Request> requests_;
  std::uint32_t next_ = 0;  // the number of the next request
  bool is_full_ = false;
};

}  // namespace nopspan::collector
