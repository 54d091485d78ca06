// SPDX-License-Identifier: Apache-2.0
#include "emit/facts.h"

#include "emit/probe.h"
#include "gate/gate.h"
#include "state/given_contexts.h"

#include <atomic>
#include <cstdint>

namespace nopspan::detail {
namespace {

constexpr std::uint64_t kUsage = GivenContexts::kUsage, kTool = GivenContexts::kTool;

// Marks the spans around this one with the facts, up to where the request began: by their ids, scopes of this thread or
// those whose context was given away. Where a parent is neither, it is a scope of another thread whose child on that
// thread goes on from here.
void mark_ancestors(const SpanState& span, const Frame* frame, std::uint64_t facts) noexcept {
  std::uint64_t wanted = local_parent(span);
  while (wanted != 0) {
    const Frame* found = frame;
    while (found != nullptr && (found->span == nullptr || found->context.span_id() != wanted)) found = found->below;
    if (found == nullptr) {
      if (!given_contexts.mark(wanted, facts, wanted)) return;
      continue;
    }
    SpanState& scope = *found->span;
    if ((facts & kUsage) != 0) scope.usage_below.store(true, std::memory_order_relaxed);
    if ((facts & kTool) != 0) scope.tool_below.store(true, std::memory_order_relaxed);
    wanted = local_parent(scope);
    frame = found->below;
  }
}

}  // namespace

Facts fire_facts(ThreadState* thread, SpanState& span, const Frame* enclosing) noexcept {
  std::uint64_t told = 0;
  if (span.context_given) {
    span.context_given = false;
    told = given_contexts.end(span.frame.context.span_id());
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
