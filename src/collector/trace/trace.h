// SPDX-License-Identifier: Apache-2.0
// The entries of one trace: its spans, point events and retries, in the order of their arrival, copied into compact
// memory.
#pragma once

#include "base/key_index.h"
#include "base/log_linear.h"
#include "base/random.h"
#include "base/saturating.h"
#include "model/entry.h"

#include <nopspan/probes.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nopspan::collector {

// An entry's layout in a trace's memory: this struct, then its optional parts. Texts are numbers of InternedTexts; if
// the highest bit is set, numbers of the trace's own texts.
struct PackedEntry : EntryHead {
  std::uint8_t parts;
  std::uint32_t size;  // bytes including the parts; a multiple of 8
  std::uint32_t process;
  std::uint32_t name, engine, model, tenant, exception_kind, error_type, text, tracestate;
  std::uint32_t attributes_bytes, links_bytes;

  [[nodiscard]] bool is_span() const { return kind == Kind::span; }
  [[nodiscard]] bool failed() const { return is_span() && (status == kError || status == kException); }
  [[nodiscard]] bool has(std::uint32_t flag) const { return (flags & flag) != 0; }
  [[nodiscard]] std::uint64_t end_unix_ns() const { return saturating_sum(start_unix_ns, duration_ns); }
};
static_assert(sizeof(PackedEntry) == 104);  // traces are limited by their bytes

// Linked spans: spans of work that was done for several requests. They are an engine's steps (steps.h), which have
// members, or other spans with links (steps.h). They belong to no request of their own. Each trace that they link
// to adds them up, by their name and by the span that they link to.
struct LinkedSpan {
  TraceId trace_id;
  std::uint64_t span_id = 0, start_unix_ns = 0, duration_ns = 0;
  std::uint32_t requests = 0;  // number of requests that it links to
  std::uint8_t status = kOk;
  std::uint64_t number = 0, instance = 0;  // of a step and its engine
  std::uint64_t prefill_tokens = 0;        // of a step, for all its members

  [[nodiscard]] bool failed() const { return status == kError || status == kException; }
  [[nodiscard]] std::uint64_t end_unix_ns() const { return saturating_sum(start_unix_ns, duration_ns); }
};

// The tokens that steps computed for one of their members.
struct MemberTokens {
  std::uint64_t prefill = 0, decode = 0, drafted = 0, accepted = 0;

  void add(const nopspan_member& member) {
    prefill += member.prefill_tokens;
    decode += member.decode_tokens;
    drafted += member.drafted_tokens;
    accepted += member.accepted_tokens;
  }
  [[nodiscard]] bool empty() const { return (prefill | decode | drafted | accepted) == 0; }
};

// The longest step of a request, and the member of it with the most prefill tokens. Members with prefill tokens come
// first, so parts are not waited for.
struct LongestStep {
  LinkedSpan step;
  std::uint64_t own_prefill_tokens = 0, most_prefill_tokens = 0;
  std::uint64_t most_id = 0;  // the span that names that member; 0: the engine's own key names it
  std::string most_request;   // its request, and its tenant if there is one, as far as they are known
  std::string most_tenant;
};

struct LinkedSpans {
  std::uint64_t linked_id = 0;          // the span of the trace that they link to
  std::uint32_t name = 0, process = 0;  // as in PackedEntry
  std::uint64_t failed = 0;
  std::uint64_t start_unix_ns = UINT64_MAX, end_unix_ns = 0;
  LogLinear times;
  // Of steps and of spans inside them, which have members instead of links:
  bool is_of_steps = false;   // they are the steps themselves
  std::uint64_t members = 0;  // how many times this request was a member
  std::uint64_t last_id = 0;  // of the span that was added last
  MemberTokens tokens;
  LongestStep longest;
  std::vector<LinkedSpan> each;  // the first few, if they are kept one by one

  // Returns about how many bytes of memory were added.
  std::size_t add(const LinkedSpan& entry, std::size_t most_kept);
};

class Trace {
 public:
  // `texts` must outlive the trace.
  Trace(const TraceId& id, InternedTexts& texts) : id_(id), texts_(&texts) {}
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  // Removes everything. The memory for the first entries is used again.
  void reset(const TraceId& id);
  // A step is kept without its members.
  void add(const Entry& entry);
  // Adds a linked span to the sum for its name and for `linked_id`, this trace's span that it links to. `requests` is
  // the number of requests that it links to. The first `most_kept` spans of a sum are also kept one by one. Returns
  // false if the trace has too many sums.
  bool add_linked(std::uint64_t linked_id, const Entry& entry, std::uint32_t requests, std::size_t most_kept);
  // Adds a sum whose name is a number of the texts. Returns false as add_linked().
  bool adopt(std::unique_ptr<LinkedSpans> linked, const ProcessPointer& process);
  [[nodiscard]] const std::vector<std::unique_ptr<LinkedSpans>>& linked() const { return linked_; }
  // The sum for such a span, or null. If there is one, adding the span needs hardly any memory.
  [[nodiscard]] LinkedSpans* find_linked(std::uint64_t linked_id, const Entry& entry) const;

  [[nodiscard]] const TraceId& id() const { return id_; }
  // The id that users see.
  [[nodiscard]] std::string request_id() const;
  [[nodiscard]] std::size_t size() const { return size_; }    // number of entries
  [[nodiscard]] std::size_t bytes() const { return bytes_; }  // memory in use, estimated
  void entries(std::vector<const PackedEntry*>& to) const;
  // The entry as it arrived, without its sequence and sequence_id. Valid until the next add(), and at most as long as
  // the trace.
  [[nodiscard]] Entry view(const PackedEntry& packed) const;
  [[nodiscard]] std::string_view text(std::uint32_t number) const;
  [[nodiscard]] const std::vector<ProcessPointer>& processes() const { return processes_; }

 private:
  struct Chunk {
    std::unique_ptr<std::uint64_t[]> words;
    std::size_t used, capacity;  // in words
  };

  std::uint64_t* allocate(std::size_t words);
  std::uint32_t keep(std::string_view text);
  std::uint32_t process_number(const ProcessPointer& process);

  TraceId id_;
  InternedTexts* texts_;
  std::string foreign_id_;
  std::vector<Chunk> chunks_;
  std::unique_ptr<std::uint64_t[]> spare_;  // of the size of the first chunk, or null
  std::vector<std::string> own_texts_;
  std::vector<ProcessPointer> processes_;
  std::vector<std::unique_ptr<LinkedSpans>> linked_;
  std::size_t size_ = 0;
  std::size_t bytes_ = sizeof(Trace);
};

// A hash table of trace ids. A map with a node per id takes an allocation and several cache misses for each request.

inline std::uint64_t hash_of(const TraceId& id, std::uint64_t seed) {
  std::uint64_t halves[2];
  std::memcpy(halves, id.bytes, sizeof(halves));
  return hash_of(halves[0], halves[1], seed);
}

// Open addressing with linear probing. At most two thirds of the slots are used. It does not shrink.
template <class Value>
class TraceIdTable {
 public:
  // `seed` is random.
  explicit TraceIdTable(std::uint64_t seed) : seed_(seed), slots_(64) {}

  // Null if the id is not known. Valid until the next insert() or erase().
  Value* find(const TraceId& id) {
    Slot& slot = slots_[place_of(id)];
    return slot.id.empty() ? nullptr : &slot.value;
  }
  // Adds the id, which must not be empty, unless it is known. Valid as the result of find().
  Value& insert(const TraceId& id) {
    std::size_t place = place_of(id);
    if (slots_[place].id.empty()) {
      if (3 * ++size_ > 2 * slots_.size()) {
        grow();
        place = place_of(id);
      }
      slots_[place].id = id;
    }
    return slots_[place].value;
  }
  void erase(const TraceId& id) {
    std::size_t gap = place_of(id);
    if (slots_[gap].id.empty()) return;
    --size_;
    // Moves the ids behind it that a search would no longer reach.
    for (std::size_t next = after(gap); !slots_[next].id.empty(); next = after(next)) {
      const std::size_t from_home = (next - home_of(slots_[next].id)) & mask(), from_gap = (next - gap) & mask();
      if (from_home < from_gap) continue;
      slots_[gap] = slots_[next];
      gap = next;
    }
    slots_[gap] = {};
  }

 private:
  struct Slot {
    TraceId id;  // empty if the slot is free
    Value value{};
  };

  [[nodiscard]] std::size_t mask() const { return slots_.size() - 1; }
  [[nodiscard]] std::size_t after(std::size_t place) const { return (place + 1) & mask(); }
  [[nodiscard]] std::size_t home_of(const TraceId& id) const { return hash_of(id, seed_) & mask(); }
  // The slot of the id, or the free slot where it belongs.
  [[nodiscard]] std::size_t place_of(const TraceId& id) const {
    std::size_t place = home_of(id);
    while (!slots_[place].id.empty() && slots_[place].id != id) place = after(place);
    return place;
  }
  void grow() {
    const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(2 * slots_.size()));
    for (const Slot& slot : old) {
      if (!slot.id.empty()) slots_[place_of(slot.id)] = slot;
    }
  }

  std::uint64_t seed_;
  std::vector<Slot> slots_;  // a power of two
  std::size_t size_ = 0;
};

}  // namespace nopspan::collector
