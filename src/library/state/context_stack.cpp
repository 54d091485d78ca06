// SPDX-License-Identifier: Apache-2.0
#include "state/context_stack.h"

#include "base/counters.h"
#include "memory/slabs.h"
#include "state/context_access.h"
#include "state/span_pool.h"

#include <nopspan/context.h>
#include <nopspan/fiber.h>

#include <sched.h>

#include <atomic>

namespace nopspan::detail {

namespace {

// Frames for contexts. A thread has a list of those that it has used and that are free.
constexpr unsigned kFramesPerSlab = 64;
constexpr unsigned kFramesAtOnce = 16;  // frames that a thread claims at once
Slab scope_table[65536];
// Never returned to the kernel, because a ContextScope may look at its frame long after its thread has ended.
Slabs scope_slabs(scope_table, kFramesPerSlab, kFramesPerSlab * sizeof(ScopeFrame), true);
// True after a frame was taken off its stack before its scope had ended. The scope looks at it when it ends.
std::atomic<bool> has_left_frames{false};

void give_back(ScopeFrame* frame) noexcept {
  frame->owner.store(nullptr, std::memory_order_relaxed);
  scope_slabs.give_back(frame->place);
}

// Both take the frame that `link` points to off the stack. The thread must be marked as inside the library.
void drop_scope(ThreadState* thread, Frame*& link) noexcept {
  auto* const frame = static_cast<ScopeFrame*>(link);
  link = frame->below;
  if ((frame->word.load(std::memory_order_relaxed) & (Frame::kOfCoroutine | Frame::kEnded)) == Frame::kOfCoroutine) {
    has_left_frames.store(true, std::memory_order_relaxed);  // its coroutine may not have been destroyed yet
  }
  // Without an atomic operation: if another thread ends the scope now, it does not matter whether kEnded stays.
  frame->word.store(frame->word.load(std::memory_order_relaxed) & ~Frame::kOnStack, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (__builtin_expect(frame->next_free == frame, 0)) {  // otherwise this thread would collect those of others
    give_back(frame);
    return;
  }
  frame->next_free = thread->free_scopes;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  thread->free_scopes = frame;
}

void drop(Frame*& link) noexcept {
  SpanState* const span = link->span;
  if (span == nullptr) {
    drop_scope(link->owner.load(std::memory_order_relaxed), link);
    return;
  }
  Frame* const frame = link;
  link = frame->below;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  const std::uint64_t before = frame->word.fetch_and(~Frame::kOnStack, std::memory_order_acq_rel);
  // If it had not ended, the thread that ends it releases it, and the frame with it.
  if ((before & Frame::kEnded) != 0) release(span);
}

// Drops the top frame, whose scope has not ended here.
void drop_left() noexcept {
  if (!has_ended(*locals.top)) {
    count(counters.scopes_left);
    has_left_frames.store(true, std::memory_order_relaxed);
  }
  drop(locals.top);
}

// Finds a free frame for a thread that has none. Null (counted) if there is no memory, or in a signal handler that
// interrupted the library.
__attribute__((noinline)) ScopeFrame* free_scope(ThreadState* thread, const InsideLibrary& inside) noexcept {
  if (inside.is_nested()) {
    count(counters.contexts_dropped);
    return nullptr;
  }
  Slabs::Claim& claimed = thread->claimed_scopes;
  if (claimed.bits == 0) {
    drop_ended_below(thread);
    if (thread->free_scopes != nullptr) return thread->free_scopes;
    claimed = scope_slabs.claim(kFramesAtOnce);
  }
  if (claimed.bits == 0) {
    count(counters.contexts_dropped);
    return nullptr;
  }
  const Slabs::Claim place{claimed.slab, claimed.bits & ~(claimed.bits - 1)};
  claimed.bits &= ~place.bits;
  auto* const frame = scope_slabs.element<ScopeFrame>(place);
  frame->span = nullptr;
  frame->context = &frame->head;
  frame->foreign_id = frame->foreign;
  frame->place = place;
  frame->next_free = nullptr;
  frame->owner.store(thread, std::memory_order_relaxed);
  return thread->free_scopes = frame;
}

}  // namespace

bool is_over(Frame& frame) noexcept {
  const std::uint64_t before = frame.word.fetch_or(Frame::kLooking, std::memory_order_acq_rel);
  // The memory of a coroutine begins with the address of its code. That is null when it has run to its end.
  const bool is_over = (before & Frame::kEnded) != 0 ||
                       *static_cast<void* volatile*>(static_cast<ScopeFrame&>(frame).coroutine) == nullptr;
  // A signal handler may have interrupted this function.
  if ((before & Frame::kLooking) == 0) frame.word.fetch_and(~Frame::kLooking, std::memory_order_acq_rel);
  return is_over;
}

Frame* drop_ended() noexcept {
  Frame* top = locals.top;
  for (; top != nullptr && has_ended(*top); top = locals.top) drop(locals.top);
  return top;
}

// Looks through the stack only after the thread has claimed about as much memory as the stack had then. So deeply
// nested spans cost linear time.
void drop_ended_below(ThreadState* thread) noexcept {
  constexpr std::size_t kClaimed = 16;  // a usual claim
  thread->frames_claimed += kClaimed;
  if (locals.top == nullptr || thread->frames_claimed < thread->frames_kept) return;
  thread->frames_claimed = thread->frames_kept = 0;
  for (Frame* above = locals.top; above->below != nullptr;) {
    if (has_ended(*above->below)) {
      drop(above->below);
    } else {
      above = above->below;
      ++thread->frames_kept;
    }
  }
}

Frame* find_top() noexcept {
  if (locals.state != nullptr && !locals.state->busy) {
    const InsideLibrary inside;
    return drop_ended();
  }
  Frame* top = locals.top;
  while (top != nullptr && has_ended(*top)) top = top->below;
  return top;
}

namespace {

bool is_below(const Frame* top, const Frame* frame) noexcept {
  while (top != nullptr && top != frame) top = top->below;
  return top != nullptr;
}

}  // namespace

bool leave_frame(Frame* frame) noexcept {
  if (frame->owner.load(std::memory_order_relaxed) != locals.state ||
      (frame->word.load(std::memory_order_relaxed) & Frame::kOnStack) == 0) {
    return false;
  }
  const InsideLibrary inside;                      // a signal handler must not drop frames meanwhile
  if (!is_below(locals.top, frame)) return false;  // it is on the stack of a suspended fiber
  while (locals.top != frame) drop_left();
  if (frame->span == nullptr) {
    drop_scope(locals.state, locals.top);
  } else {
    locals.top = frame->below;
    frame->word.store(0, std::memory_order_relaxed);  // no other thread ends it too
  }
  return true;
}

void leave_all(ThreadState* thread) noexcept {
  while (locals.top != nullptr) drop_left();
  while (thread->free_scopes != nullptr) {
    ScopeFrame* const frame = thread->free_scopes;
    thread->free_scopes = frame->next_free;
    give_back(frame);
  }
  if (thread->claimed_scopes.bits != 0) scope_slabs.give_back(thread->claimed_scopes);
  thread->claimed_scopes = {};
}

const Frame* find_scope(std::uint64_t span_id) noexcept {
  if (span_id == 0) return nullptr;
  Frame* frame = locals.top;
  while (frame != nullptr && (frame->span == nullptr || frame->context->span_id != span_id || has_ended(*frame))) {
    frame = frame->below;
  }
  return frame;
}

bool reserve_scopes(std::size_t threads) noexcept { return scope_slabs.reserve(threads * 2 * kFramesAtOnce); }

namespace {

__attribute__((no_sanitize("thread"), noinline)) std::uint64_t current_headers(const ScopeFrame& frame) noexcept {
  if ((frame.word.load(std::memory_order_acquire) & Frame::kOnStack) == 0) return 0;
  return __atomic_load_n(&frame.head.headers, __ATOMIC_RELAXED);
}

}  // namespace

void each_current_headers(void (*each)(void* to, std::uint64_t handle), void* to) noexcept {
  scope_slabs.for_each_used<ScopeFrame>(
      [=](const ScopeFrame& frame, const Slabs::Claim&) { each(to, current_headers(frame)); });
}

void unmap_scopes() noexcept {
  if (!has_left_frames.load(std::memory_order_relaxed)) scope_slabs.unmap();
}

void forget_scopes_of_other_threads() noexcept {
  const ThreadState* const own = locals.state;
  const Slabs::Claim claimed = own != nullptr ? own->claimed_scopes : Slabs::Claim{};
  scope_slabs.for_each_used<ScopeFrame>([=](ScopeFrame& frame, const Slabs::Claim& place) {
    if (own != nullptr && frame.owner.load(std::memory_order_relaxed) == own) return;
    if (claimed.slab == place.slab && (claimed.bits & place.bits) != 0) return;
    frame.word.fetch_and(~(Frame::kOnStack | Frame::kLooking), std::memory_order_relaxed);
    has_left_frames.store(true, std::memory_order_relaxed);  // it may have been on the stack
    scope_slabs.give_back(place);
  });
}

// A signal handler may interrupt the next two functions anywhere, and call them. It leaves what it enters, so it finds
// and leaves the list of free frames and the stack as they were.

EnteredContext enter_context(const Context& context, void* coroutine) noexcept {
  ThreadState* const thread = any_thread_state();
  if (__builtin_expect(thread == nullptr, 0)) {
    count(counters.contexts_dropped);
    return {};
  }
  const InsideLibrary inside(thread);      // a signal handler must not drop the frame below meanwhile
  if (!inside.is_nested()) guarded_top();  // drops what has ended, because it could not be dropped below this frame
  ScopeFrame* frame = thread->free_scopes;
  if (__builtin_expect(frame == nullptr, 0)) {
    frame = free_scope(thread, inside);
    if (frame == nullptr) return {};
  }
  thread->free_scopes = frame->next_free;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  copy_context(frame->head, frame->foreign, ContextAccess::head(context), ContextAccess::foreign(context));
  const std::uint64_t used = frame->word.load(std::memory_order_relaxed) & ~Frame::kBits;
  const std::uint64_t kind = coroutine != nullptr ? Frame::kOfCoroutine : 0;
  const std::uint64_t word = (used + Frame::kGeneration) | Frame::kOnStack | kind;
  frame->coroutine = coroutine;
  frame->below = locals.top;
  frame->word.store(word, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  locals.top = frame;
  return {frame, word};
}

void leave_context(const EnteredContext& entered) noexcept {
  ScopeFrame* const frame = entered.frame;
  if (frame == nullptr) return;
  std::uint64_t word = entered.generation;
  if ((frame->word.load(std::memory_order_relaxed) & ~Frame::kLooking) == word) {
    if (__builtin_expect(frame == locals.top, 1)) {
      const InsideLibrary inside(locals.state);
      drop_scope(locals.state, locals.top);
      return;
    }
    if (leave_frame(frame)) return;
  }
  // It is on another thread's stack, or it was taken off its stack and is counted.
  while (!frame->word.compare_exchange_weak(word, word | Frame::kEnded, std::memory_order_acq_rel)) {
    if ((word & ~Frame::kLooking) != entered.generation) return;
    word = entered.generation;
    sched_yield();  // the owner is about to finish reading the coroutine's memory
  }
  // A coroutine may be destroyed on any thread after its end.
  if ((word & Frame::kOfCoroutine) == 0) count(counters.wrong_thread);
}

SuspendedFrames suspend_frames() noexcept {
  if (locals.top == nullptr) return {};
  const InsideLibrary inside(locals.state);
  if (inside.is_nested()) {
    count(counters.reentrant);
    return {};
  }
  Frame* const top = locals.top;
  locals.top = nullptr;
  if (top != nullptr && !has_left_frames.load(std::memory_order_relaxed)) {
    has_left_frames.store(true, std::memory_order_relaxed);  // its thread may end before the fiber resumes
  }
  return {top, process_mark()};
}

// The frames of other threads were given back in a child after fork(), so a suspended stack from before it is dropped.
void resume_frames(SuspendedFrames suspended) noexcept {
  Frame* const top = suspended.top;
  if (top == nullptr) return;
  ThreadState* const thread = any_thread_state();
  if (thread == nullptr || suspended.mark != process_mark()) {
    count(thread == nullptr ? counters.spans_dropped : counters.inherited);
    return;
  }
  const InsideLibrary inside(thread);
  if (locals.top != nullptr || top->owner.load(std::memory_order_relaxed) != thread) {
    Frame* bottom = top;
    for (Frame* frame = top; frame != nullptr; bottom = frame, frame = frame->below) {
      if (frame->owner.load(std::memory_order_relaxed) == thread) continue;
      if (frame->span == nullptr) static_cast<ScopeFrame*>(frame)->next_free = static_cast<ScopeFrame*>(frame);
      frame->owner.store(thread, std::memory_order_relaxed);
    }
    bottom->below = locals.top;
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  locals.top = top;
}

SpanState* drop_suspended(Frame*& top) noexcept {
  Frame* const frame = top;
  top = frame->below;
  const std::uint64_t before = frame->word.fetch_and(~Frame::kOnStack, std::memory_order_acq_rel);
  const bool has_ended = (before & Frame::kEnded) != 0;
  SpanState* const span = frame->span;
  if (span == nullptr) {
    if (!has_ended) count(counters.scopes_left);
    give_back(static_cast<ScopeFrame*>(frame));
    return nullptr;
  }
  if (has_ended) release(span);
  return has_ended ? nullptr : span;
}

}  // namespace nopspan::detail
