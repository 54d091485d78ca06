// SPDX-License-Identifier: Apache-2.0
// Ends the spans that are open when the process ends. Their objects are never destroyed: exit() leaves the stack as it
// is.
//
// Scopes of the calling thread: nothing of their code runs any more, so they end here with all their fields. Their
// objects may still be destroyed, because a program may call end_open_spans() itself. So a state is not released, but
// gets a mark that no process has. The end of its object then emits nothing, like that of a span from before fork().
//
// All other open spans: another thread may be in the middle of changing or ending one, because threads run until the
// last exit handler has returned. So the library copies what other processes may read of it (OpenSpan), and ends the
// copy. The copy has no fields: the span's attributes are counted as dropped. It also sets the mark, before it looks
// whether the span is still open. So a span ends twice only if another thread was already reporting its end then.
//
// In-process handlers do not receive these ends, because what they refer to may have been destroyed.
#include "base/copy_bytes.h"
#include "base/counters.h"
#include "base/hash.h"
#include "emit/probe.h"
#include "gate/gate.h"
#include "span/span.h"
#include "state/context_stack.h"
#include "state/span_pool.h"
#include "thread/thread_state.h"

#include <nopspan/span.h>

#include <atomic>
#include <cstring>
#include <string_view>

namespace nopspan {
namespace detail {
namespace {

constexpr std::uint64_t kNoProcess = 0;

void report_ended(ThreadState* thread, SpanState& span, const Frame* enclosing, Text reason) noexcept {
  if (!span.started && span_probes_up()) fire_span_start(thread, span);
  span_cancel(&span, reason);
  report_any_end(thread, span, enclosing, own_gate());
}

void end_scopes(ThreadState* thread, Text reason) noexcept {
  for (Frame* frame = locals.top; frame != nullptr; frame = frame->below) {
    if (frame->span == nullptr || has_ended(*frame) || mark_of(*frame->span) != thread->process_mark) continue;
    SpanState& span = *frame->span;
    report_ended(thread, span, frame->below, reason);
    __atomic_store_n(&span.process_mark, kNoProcess, __ATOMIC_RELAXED);
    span.state.store(OpenSpan::kChanging, std::memory_order_release);  // it is no longer open
  }
}

// Copies what other processes may read of a span, and reads whether it has fields, while another thread may change it.
__attribute__((no_sanitize("thread"), noinline)) bool copy_open(const SpanState& live, OpenSpan& copy) noexcept {
  copy_racing(&copy, static_cast<const OpenSpan*>(&live), sizeof(copy));
  return live.fields.size() != 0;
}

// Takes the end of an open span away from the object that has the span. False if it is not open, or ends meanwhile.
bool take_end(ThreadState* thread, SpanState& live, OpenSpan& copy, bool& has_fields) noexcept {
  std::uint64_t mark = thread->process_mark;
  const auto is_open = [&] { return live.state.load(std::memory_order_seq_cst) == OpenSpan::kOpen; };
  const std::uint32_t generation = __atomic_load_n(&live.generation, __ATOMIC_SEQ_CST);
  if (!is_open() ||
      !__atomic_compare_exchange_n(&live.process_mark, &mark, kNoProcess, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    return false;
  }
  has_fields = copy_open(live, copy);
  if (is_open() && __atomic_load_n(&live.generation, __ATOMIC_SEQ_CST) == generation) return true;
  mark = kNoProcess;  // it has ended, and may be another span now
  __atomic_compare_exchange_n(&live.process_mark, &mark, thread->process_mark, false, __ATOMIC_SEQ_CST,
                              __ATOMIC_SEQ_CST);
  return false;
}

void end_copy(ThreadState* thread, const OpenSpan& open, bool has_fields, Text reason) noexcept {
  SpanState* const span = take_state(thread);
  if (span == nullptr) return;
  span->context = open.context;
  span->process_mark = thread->process_mark;
  span->start_ns = open.start_ns;
  span->first_token_ns = open.first_token_ns;
  // What these two say is in no copy.
  span->flags = open.flags & ~(NOPSPAN_FLAG_HAS_USAGE | NOPSPAN_FLAG_HAS_FIRST_TOKEN);
  if (open.first_token_ns != 0) span->flags |= NOPSPAN_FLAG_HAS_FIRST_TOKEN;
  if (has_fields) {
    span->flags |= NOPSPAN_FLAG_ATTRIBUTES_DROPPED;
    count(counters.attributes_dropped);
  }
  std::memcpy(span->name_text, open.name_text, sizeof(open.name_text));
  std::memcpy(span->foreign_id, open.foreign_id, sizeof(open.foreign_id));
  span->name_text[kMaxNameBytes] = span->foreign_id[sizeof(span->foreign_id) - 1] = '\0';
  const std::string_view name(span->name_text, std::strlen(span->name_text));
  span->name = {name.data(), name.size(), hash_bytes(name)};
  span->name_size = static_cast<std::uint32_t>(name.size());
  note_catalogue(*span);
  span->started = true;
  report_ended(thread, *span, nullptr, reason);
  give_back_state(thread, span);
}

}  // namespace
}  // namespace detail

void end_open_spans(Text reason) noexcept {
  if (!detail::span_probes_up() && !detail::batch_up()) return;
  const detail::LibraryGuard guard;
  if (!guard) return;
  detail::ThreadState* const thread = guard.thread();
  detail::end_scopes(thread, reason);
  detail::for_each_state([&](detail::SpanState& live) {
    detail::OpenSpan copy;
    bool has_fields = false;
    if (detail::take_end(thread, live, copy, has_fields)) detail::end_copy(thread, copy, has_fields, reason);
  });
}

}  // namespace nopspan
