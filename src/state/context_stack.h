// SPDX-License-Identifier: Apache-2.0
// The calling thread's context stack: the contexts of its open spans, and contexts that the application made current.
// Each has a Frame. The frames are linked from the innermost (locals.top) to the outermost, and each is inside the
// object that it belongs to, so that nothing is allocated.
#pragma once

#include "state/span_state.h"
#include "thread/thread_state.h"

#include <nopspan/context.h>

#include <cstdint>

namespace nopspan::detail {

// Removes from the top of the stack the spans that another thread has ended, and releases them. Returns the new top.
Frame* drop_ended() noexcept;
bool remove_inner_frame(Frame* frame) noexcept;

inline Frame* top_frame() noexcept {
  Frame* top = locals.top;
  if (top == nullptr || top->span == nullptr) return top;
  return __builtin_expect(top->span->ended_elsewhere.load(std::memory_order_acquire), 0) ? drop_ended() : top;
}
inline void push_frame(Frame* frame) noexcept {
  frame->below = top_frame();
  locals.top = frame;
}
// False if the frame is not on this thread's stack.
inline bool remove_frame(Frame* frame) noexcept {
  if (__builtin_expect(locals.top != frame, 0)) return remove_inner_frame(frame);
  locals.top = frame->below;
  return true;
}
// The frame of the span with this id. Null if it is not on this thread's stack.
const Frame* find_scope(std::uint64_t span_id) noexcept;
// The name of the span that an event is in, if that span is a scope of this thread; otherwise the event's own name.
// Valid until the application runs, because it may end the span.
inline const Interned& enclosing_name(const SpanState& event) noexcept {
  const Frame* frame = find_scope(event.frame.context.span_id());
  return frame != nullptr ? frame->span->name : event.name;
}

}  // namespace nopspan::detail
