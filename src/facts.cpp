// SPDX-License-Identifier: Apache-2.0
#include "facts.h"

#include "probe.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace nopspan::detail {
namespace {

// Ids of spans inside which a fact was told, where they are no scopes of the thread that told it: AsyncSpans, and
// scopes of other threads. Bounded: over so many at a time, some may tell a fact again.
class Marks {
 public:
  void set(std::uint64_t span_id) noexcept {
    any_.store(true, std::memory_order_relaxed);
    slot(span_id).store(span_id, std::memory_order_release);
  }
  // Whether the span is marked; it is not afterwards.
  bool take(std::uint64_t span_id) noexcept {
    if (!any_.load(std::memory_order_relaxed)) return false;
    if (slot(span_id).load(std::memory_order_acquire) != span_id) return false;
    return slot(span_id).compare_exchange_strong(span_id, 0, std::memory_order_relaxed);
  }

 private:
  static constexpr std::size_t kSlots = 4096;
  std::atomic<std::uint64_t>& slot(std::uint64_t span_id) noexcept { return slots_[span_id & (kSlots - 1)]; }

  std::atomic<bool> any_{false};
  std::atomic<std::uint64_t> slots_[kSlots] = {};
};
Marks usage_marks;
Marks tool_marks;

bool begins_here(const SpanState& span) noexcept {
  return span.parent_id == 0 || (span.flags & NOPSPAN_FLAG_REMOTE_PARENT) != 0;
}

bool same_trace(const SpanState& one, const SpanState& other) noexcept {
  return std::memcmp(ContextAccess::trace_id(one.frame.context), ContextAccess::trace_id(other.frame.context),
                     kTraceIdBytes) == 0;
}

// Marks the spans around this one, up to where the request began: the scopes of this thread that are of its request,
// and between and beyond them the parents that are none.
void mark_ancestors(const SpanState& span, const Frame* frame, bool usage, bool tool) noexcept {
  const auto mark_parent = [&](const SpanState& child) {
    if (usage) usage_marks.set(child.parent_id);
    if (tool) tool_marks.set(child.parent_id);
  };
  if (begins_here(span)) return;
  const SpanState* child = &span;
  for (; frame != nullptr; frame = frame->below) {
    SpanState* scope = frame->span;
    if (scope == nullptr || !same_trace(*scope, span)) continue;
    if (child->parent_id != scope->frame.context.span_id()) mark_parent(*child);
    if (usage) scope->usage_below.store(true, std::memory_order_relaxed);
    if (tool) scope->tool_below.store(true, std::memory_order_relaxed);
    if (begins_here(*scope)) return;  // scopes around it are of another hop, or of a sibling
    child = scope;
  }
  mark_parent(*child);
}

}  // namespace

void fire_facts(ThreadState* thread, SpanState& span, const Frame* enclosing) noexcept {
  const std::uint64_t id = span.frame.context.span_id();
  const bool has_usage = (span.flags & NOPSPAN_FLAG_HAS_USAGE) != 0;
  const bool usage_told = usage_marks.take(id) || span.usage_below.load(std::memory_order_relaxed);
  const bool tool_told = tool_marks.take(id) || span.tool_below.load(std::memory_order_relaxed);
  const bool usage = has_usage || usage_told;
  const bool tool = span.has_tool || tool_told;
  if (usage || tool) mark_ancestors(span, enclosing, usage, tool);
  if (!point_probes_up()) return;
  if (has_usage && !usage_told) fire_tokens(thread, span);
  if (span.has_tool && !tool_told) fire_tool_call(thread, span);
  if (span.has_engine_times) fire_engine_request(thread, span);
}

}  // namespace nopspan::detail
