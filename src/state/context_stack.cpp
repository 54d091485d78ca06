// SPDX-License-Identifier: Apache-2.0
#include "state/context_stack.h"

#include "state/span_pool.h"

namespace nopspan::detail {

Frame* drop_ended() noexcept {
  Frame* top = locals.top;
  while (top != nullptr && top->span != nullptr && top->span->ended_elsewhere.load(std::memory_order_acquire)) {
    SpanState* ended = top->span;
    top = top->below;
    locals.top = top;
    release(ended);
  }
  return top;
}

const Frame* find_scope(std::uint64_t span_id) noexcept {
  if (span_id == 0) return nullptr;
  const Frame* frame = top_frame();
  while (frame != nullptr && (frame->span == nullptr || frame->context.span_id() != span_id)) frame = frame->below;
  return frame;
}

bool remove_inner_frame(Frame* frame) noexcept {
  for (Frame** at = &locals.top; *at != nullptr; at = &(*at)->below) {
    if (*at == frame) {
      *at = frame->below;
      return true;
    }
  }
  return false;
}

}  // namespace nopspan::detail
