// SPDX-License-Identifier: Apache-2.0
// The calling thread's context stack: the contexts of its open spans, and contexts that the application made current.
// Each has a Frame. The frames are linked from the innermost (locals.top) to the outermost. The frame of a span is in
// its state, and the others are in memory of the thread. So a pointer in the stack never dangles, whatever the
// application does with its objects.
//
// How an object ends elsewhere: only the thread itself changes its stack. Another thread that ends a Span or a
// ContextScope sets Frame::kEnded. The thread takes the frame off when it is on top, or when the thread needs memory
// for more. If a scope ends while others are above it, those are taken off too and counted (scopes_left). The word of a
// frame decides who releases the state of a span: its owner if it finds kEnded, and the thread that ends the span if it
// does not find kOnStack.
//
// Fibers: a suspended stack is in no thread's list. Its frames keep kOnStack and their owner, so a thread that ends one
// of them meanwhile only marks it, and the thread that resumes the stack takes it off. That thread becomes the owner.
#pragma once

#include "state/span_state.h"
#include "thread/thread_state.h"

#include <cstdint>

namespace nopspan::detail {

// True if a coroutine that is not being destroyed by another thread has run to its end, or if it has been destroyed. A
// coroutine cannot say that its body has ended, so this looks at its memory.
bool is_over(Frame& frame) noexcept;

// Whether a frame of this thread's stack has ended, though it is still on the stack.
inline bool has_ended(Frame& frame) noexcept {
  const std::uint64_t word = frame.word.load(std::memory_order_acquire);
  if (__builtin_expect((word & (Frame::kEnded | Frame::kOfCoroutine)) == 0, 1)) return false;
  return (word & Frame::kEnded) != 0 || is_over(frame);
}

// Both return the innermost frame that has not ended. drop_ended() removes what another thread has ended from the top
// of the stack, and must be called inside a LibraryGuard. find_top() does the same, but only looks if it is called in a
// signal handler that interrupted the library, which may be about to use these frames.
Frame* drop_ended() noexcept;
Frame* find_top() noexcept;
// Called before a thread claims more memory for spans or contexts, inside a LibraryGuard: releases what other threads
// have ended below the top of the stack.
void drop_ended_below(ThreadState* thread) noexcept;

// The innermost frame. guarded_top() is for code inside a LibraryGuard.
inline Frame* top_frame() noexcept {
  Frame* const top = locals.top;
  return top != nullptr && __builtin_expect(has_ended(*top), 0) ? find_top() : top;
}
inline Frame* guarded_top() noexcept {
  Frame* const top = locals.top;
  return top != nullptr && __builtin_expect(has_ended(*top), 0) ? drop_ended() : top;
}
// Puts the frame of a span that begins on top.
inline void push_span(ThreadState* thread, SpanState& span, Frame* top) noexcept {
  span.frame.below = top;
  span.frame.owner.store(thread, std::memory_order_relaxed);
  span.frame.word.store(Frame::kOnStack, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  locals.top = &span.frame;
}
// Takes the frame off this thread's stack, with all that is above it. False if it is not on this stack.
bool leave_frame(Frame* frame) noexcept;
// Takes the top frame off a suspended stack. Returns its span if that has not ended.
SpanState* drop_suspended(Frame*& top) noexcept;
// Takes all frames off the stack of a thread that ends, and gives its memory for frames back.
void leave_all(ThreadState* thread) noexcept;
// The frame of the span with this id. Null if it is not on this thread's stack.
const Frame* find_scope(std::uint64_t span_id) noexcept;
// The name of the span that an event is in, if that span is a scope of this thread or was given to the event; otherwise
// the event's own name. Valid until the application runs, because it may end the span.
inline const Interned& enclosing_name(const SpanState& event) noexcept {
  if (event.given_span != nullptr) return event.given_name;
  const Frame* frame = find_scope(event.context.span_id);
  return frame != nullptr ? frame->span->name : event.name;
}

// Calls `each(handle)` for the headers (header_store.h; 0 if there are none) of the contexts in scopes of all threads
// and suspended fibers, which may change meanwhile. The contexts of spans have the headers of the scope around them.
void each_current_headers(void (*each)(void* to, std::uint64_t handle), void* to) noexcept;
template <class Each>
void for_each_current_headers(const Each& each) noexcept {
  each_current_headers([](void* to, std::uint64_t handle) { (*static_cast<const Each*>(to))(handle); },
                       const_cast<Each*>(&each));
}

// Unmaps the frames of contexts, unless a ContextScope or a coroutine may still look at one. No thread has a state.
void unmap_scopes() noexcept;
// Maps memory for so many threads, each of which has up to 32 contexts current.
bool reserve_scopes(std::size_t threads) noexcept;

// Called in the child after fork(), outside the library: the stacks of the other threads no longer exist.
void forget_scopes_of_other_threads() noexcept;

}  // namespace nopspan::detail
