// SPDX-License-Identifier: Apache-2.0
#include "emit/once_probes.h"

#include "emit/probe.h"
#include "gate/gate.h"
#include "state/given_contexts.h"

#include <atomic>
#include <cstdint>

namespace nopspan::detail {
namespace {

constexpr std::uint64_t kUsage = GivenContexts::kUsage, kTool = GivenContexts::kTool;

// Marks the ancestors of this span with the facts. An ancestor is found by its id, first among the scopes of this
// thread (`frame` and below), then among the spans whose context was copied (given_contexts.h). The walk ends at a
// parent that is neither, because it is a scope of another thread. Its child on that thread marks it, and its
// ancestors, when that child ends. The walk also ends at an ancestor that has the facts already, because its own
// ancestors were marked with it.
void mark_ancestors(const SpanState& span, const Frame* frame, std::uint64_t facts) noexcept {
  std::uint64_t wanted = local_parent(span);
  while (wanted != 0) {
    const Frame* found = frame;
    while (found != nullptr && (found->span == nullptr || found->context->span_id != wanted)) found = found->below;
    if (found == nullptr) {
      if (!given_contexts.mark(wanted, facts, wanted)) return;
      continue;
    }
    SpanState& scope = *found->span;
    bool is_new = false;
    if ((facts & kUsage) != 0) is_new |= !scope.usage_below.exchange(true, std::memory_order_relaxed);
    if ((facts & kTool) != 0) is_new |= !scope.tool_below.exchange(true, std::memory_order_relaxed);
    if (!is_new) return;
    wanted = local_parent(scope);
    frame = found->below;
  }
}

}  // namespace

OnceProbes fire_once_probes(ThreadState* thread, SpanState& span, const Frame* enclosing) noexcept {
  std::uint64_t below = 0;
  if (span.context_given) {
    span.context_given = false;
    below = given_contexts.end(span.context.span_id);
  }
  if (span.usage_below.load(std::memory_order_relaxed)) below |= kUsage;
  if (span.tool_below.load(std::memory_order_relaxed)) below |= kTool;
  const bool has_usage = (span.flags & NOPSPAN_FLAG_HAS_USAGE) != 0;
  const std::uint64_t facts = below | (has_usage ? kUsage : 0) | (span.has_tool ? kTool : 0);
  if (facts != 0) mark_ancestors(span, enclosing, facts);
  const OnceProbes fired{has_usage && (below & kUsage) == 0, span.has_tool && (below & kTool) == 0};
  if (!point_probes_up()) return fired;
  if (fired.tokens) fire_tokens(thread, span);
  if (fired.tool_call) fire_tool_call(thread, span);
  if (span.has_engine_times) fire_engine_request(thread, span);
  return fired;
}

}  // namespace nopspan::detail
