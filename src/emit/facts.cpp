// SPDX-License-Identifier: Apache-2.0
#include "emit/facts.h"

#include "base/counters.h"
#include "emit/batch.h"
#include "emit/probe.h"
#include "gate/gate.h"

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace nopspan::detail {
namespace {

// What a span inside has told.
constexpr std::uint64_t kUsage = 1, kTool = 2, kFacts = kUsage | kTool;

// The parent that may have told the same fact again; 0 where the request began.
std::uint64_t parent_of(const SpanState& span) noexcept {
  return (span.flags & NOPSPAN_FLAG_REMOTE_PARENT) != 0 ? 0 : span.parent_id;
}

// Spans whose context was given away. An entry is a span's id, whose last three bits give way to what is known of it,
// in one of the places that follow from the id; it is looked for there alone, so that leaving one empty disturbs
// nobody. One that has ended stays until its place is needed: what began inside it may end later, and asks for its
// parent.
class SharedSpans {
 public:
  bool add(std::uint64_t id, std::uint64_t parent_id) noexcept {
    for (const std::uint64_t is_free : {std::uint64_t{0}, kEnded}) {
      for (std::size_t i = 0; i < kPlaces; ++i) {
        Entry& entry = at(id, i);
        std::uint64_t word = entry.word.load(std::memory_order_relaxed);
        if ((is_free == 0 ? word != 0 : (word & kEnded) == 0) ||
            !entry.word.compare_exchange_strong(word, kTaken, std::memory_order_acquire, std::memory_order_relaxed)) {
          continue;
        }
        entry.parent_id.store(parent_id, std::memory_order_relaxed);
        entry.word.store(id & ~kBits, std::memory_order_release);
        return true;
      }
    }
    return false;
  }

  // Adds facts to a span and says its parent. False: no such span.
  bool mark(std::uint64_t id, std::uint64_t facts, std::uint64_t& parent_id) noexcept {
    for (std::size_t i = 0; i < kPlaces; ++i) {
      Entry& entry = at(id, i);
      std::uint64_t word = entry.word.load(std::memory_order_acquire);
      while ((word & ~kBits) == (id & ~kBits)) {
        const std::uint64_t parent = entry.parent_id.load(std::memory_order_relaxed);
        if (entry.word.compare_exchange_weak(word, word | facts, std::memory_order_acq_rel,
                                             std::memory_order_acquire)) {
          parent_id = parent;
          return true;
        }
      }
    }
    return false;
  }

  // The span has ended; what was told inside it.
  std::uint64_t end(std::uint64_t id) noexcept {
    for (std::size_t i = 0; i < kPlaces; ++i) {
      Entry& entry = at(id, i);
      if ((entry.word.load(std::memory_order_relaxed) & ~kBits) != (id & ~kBits)) continue;
      return entry.word.fetch_or(kEnded, std::memory_order_acq_rel) & kFacts;
    }
    return 0;
  }

 private:
  static constexpr std::size_t kEntries = 8192;
  static constexpr std::size_t kPlaces = 32;
  static constexpr std::uint64_t kEnded = 4;
  static constexpr std::uint64_t kBits = kFacts | kEnded;
  static constexpr std::uint64_t kTaken = kFacts;  // no span's: an id without its last bits is not 0

  struct Entry {
    std::atomic<std::uint64_t> word{0};
    std::atomic<std::uint64_t> parent_id{0};
  };
  Entry& at(std::uint64_t id, std::size_t i) noexcept { return entries_[((id >> 3U) + i) & (kEntries - 1)]; }

  Entry entries_[kEntries];
};
SharedSpans shared_spans;

// Marks the spans around this one with the facts, up to where the request began: by their ids, scopes of this thread or
// shared ones. Where a parent is neither, it is a scope of another thread whose child on that thread goes on from here.
void mark_ancestors(const SpanState& span, const Frame* frame, std::uint64_t facts) noexcept {
  std::uint64_t wanted = parent_of(span);
  while (wanted != 0) {
    const Frame* found = frame;
    while (found != nullptr && (found->span == nullptr || found->context.span_id() != wanted)) found = found->below;
    if (found == nullptr) {
      if (!shared_spans.mark(wanted, facts, wanted)) return;
      continue;
    }
    SpanState& scope = *found->span;
    if ((facts & kUsage) != 0) scope.usage_below.store(true, std::memory_order_relaxed);
    if ((facts & kTool) != 0) scope.tool_below.store(true, std::memory_order_relaxed);
    wanted = parent_of(scope);
    frame = found->below;
  }
}

}  // namespace

void note_shared(SpanState& span) noexcept {
  if (span.is_shared || !(point_probes_up() || batch_up())) return;
  span.is_shared = shared_spans.add(span.frame.context.span_id(), parent_of(span));
  if (!span.is_shared) count(counters.facts_untracked);
}

void forget_shared(SpanState& span) noexcept {
  span.is_shared = false;
  shared_spans.end(span.frame.context.span_id());
}

Facts fire_facts(ThreadState* thread, SpanState& span, const Frame* enclosing) noexcept {
  std::uint64_t told = 0;
  if (span.is_shared) {
    span.is_shared = false;
    told = shared_spans.end(span.frame.context.span_id());
  }
  if (span.usage_below.load(std::memory_order_relaxed)) told |= kUsage;
  if (span.tool_below.load(std::memory_order_relaxed)) told |= kTool;
  const bool has_usage = (span.flags & NOPSPAN_FLAG_HAS_USAGE) != 0;
  const std::uint64_t facts = told | (has_usage ? kUsage : 0) | (span.has_tool ? kTool : 0);
  if (facts != 0) mark_ancestors(span, enclosing, facts);
  const Facts tells{has_usage && (told & kUsage) == 0, span.has_tool && (told & kTool) == 0};
  if (!point_probes_up()) return tells;
  if (tells.tells_tokens) fire_tokens(thread, span);
  if (tells.tells_tool) fire_tool_call(thread, span);
  if (span.has_engine_times) fire_engine_request(thread, span);
  return tells;
}

}  // namespace nopspan::detail
