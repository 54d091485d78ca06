// SPDX-License-Identifier: Apache-2.0
// Spans from begin to end. Everything here runs only while the gate is raised, or for spans that began then.
#include "span/span.h"

#include "base/clean_text.h"
#include "base/counters.h"
#include "base/exceptions.h"
#include "emit/batch.h"
#include "emit/probe.h"
#include "fields/attribute_keys.h"
#include "gate/gate.h"
#include "genai/span_attributes.h"
#include "handlers/registry.h"
#include "state/catalogue.h"
#include "state/context_stack.h"
#include "state/given_contexts.h"
#include "state/orphans.h"
#include "state/span_pool.h"
#include "state/step_data.h"
#include "thread/thread_state.h"

#include <nopspan/detail/bridge.h>
#include <nopspan/fiber.h>
#include <nopspan/semconv.h>
#include <nopspan/span.h>

#include <atomic>
#include <cstring>
#include <exception>
#include <new>

namespace nopspan::detail {

namespace {

// Gives a context whose span was not recorded the engine, its provider and the model of the scopes around it, because
// its own are not known.
__attribute__((noinline)) void take_server_labels(ContextHead& unknown, Frame* around) noexcept {
  for (Frame* frame = around; frame != nullptr; frame = frame->below) {
    if (has_ended(*frame)) continue;
    if (unknown.labels[ContextAccess::engine] == kNoLabel) unknown.provider = frame->context->provider;
    for (const ContextAccess::Label label : {ContextAccess::engine, ContextAccess::model}) {
      if (unknown.labels[label] == kNoLabel) unknown.labels[label] = frame->context->labels[label];
    }
  }
}

// Places the span under `parent`: sets its ids, its parent and the flags that follow from them. `foreign_id` is the
// text of the parent's request id.
__attribute__((noinline)) void place(ThreadState* thread, SpanState& span, const ContextHead& parent,
                                     const char* foreign_id) noexcept {
  ContextHead& context = span.context;
  copy_context(context, span.foreign_id, parent, foreign_id);
  context.parent_id = parent.span_id;
  if (__builtin_expect((parent.bits & ContextAccess::kUnrecorded) != 0, 0)) take_server_labels(context, guarded_top());
  std::uint8_t bits = ContextAccess::kHasTrace;
  if (is_empty(context)) {
    span.begins_request = true;
    span.takes_fields = TakesFields::yes;  // its metadata may have the id of the request
    make_trace_id(thread, context.trace_id);
    context.trace_flags = 1;
    if ((parent.bits & ContextAccess::kUnrecorded) != 0 ||
        ((parent.bits & ContextAccess::kUntraced) != 0 && is_in_doubt(nullptr, span.name, monotonic_ns()))) {
      bits = ContextAccess::kHasTrace | ContextAccess::kOrphan;
    }
  } else if (parent.span_id != 0) {
    if ((parent.bits & ContextAccess::kRemote) != 0) {
      bits = ContextAccess::kHasTrace | ContextAccess::kRemoteParent;
    } else {
      note_child(thread, span.name);
    }
  }
  context.bits = static_cast<std::uint8_t>(bits | (context.bits & ContextAccess::kForeign));
  context.span_id = make_span_id(thread);
  if (context.root_id == 0) context.root_id = context.span_id;
  span.flags |= context_flags(context);
}

// place() for a span without a scope around it.
__attribute__((noinline)) void place_alone(ThreadState* thread, SpanState& span, Time start) noexcept {
  const std::uint64_t now = start.ns() != 0 ? thread->clock.now() : span.start_ns;
  ContextHead parent;
  if (is_in_doubt(thread, span.name, now)) parent.bits = ContextAccess::kUnrecorded;
  place(thread, span, parent, ContextAccess::foreign(no_context));
}

// place() in few instructions for the usual case: a span inside a span of this process, in a request whose id is
// nopspan's own.
__attribute__((always_inline)) inline void place_inside(ThreadState* thread, SpanState& span, const ContextHead& parent,
                                                        const char* foreign_id) noexcept {
  constexpr auto kUnusual =
      static_cast<std::uint8_t>(~(ContextAccess::kHasTrace | ContextAccess::kRemoteParent | ContextAccess::kOrphan));
  if (__builtin_expect((parent.bits & ContextAccess::kHasTrace) == 0 || (parent.bits & kUnusual) != 0 ||
                           parent.span_id == 0 || parent.root_id == 0,
                       0)) {
    place(thread, span, parent, foreign_id);
    return;
  }
  ContextHead& context = span.context;
  context = parent;
  context.parent_id = parent.span_id;
  context.bits = ContextAccess::kHasTrace;
  context.span_id = make_span_id(thread);
  span.flags |= flags_of_trace(context);
  note_child(thread, span.name);
}

__attribute__((always_inline)) inline SpanState* begin(ThreadState* thread, const Name& name,
                                                       const SpanOptions& options) noexcept {
  // Before its first span since the gate was raised, a thread calls the batch site with its header alone. The header
  // leads a tracer to entries that the thread holds for long, or that it did not flush because it was killed.
  announce_once(thread);
  SpanState* span = take_state(thread);
  if (span == nullptr) return nullptr;
  const std::uint64_t now = thread->clock.now();
  span->name = copy_name(name, span->name_text);
  span->name_size = static_cast<std::uint32_t>(span->name.size);
  span->process_mark = thread->process_mark;
  span->start_ns = options.start.ns() != 0 ? options.start.ns() : now;
  if (__builtin_expect(may_be_in_catalogue(span->name.view()), 0)) note_catalogue(*span);
  SpanKind kind = options.kind;
  if (kind == SpanKind::unspecified) kind = span->catalogue != nullptr ? span->catalogue->kind : SpanKind::internal;
  span->flags = (static_cast<std::uint32_t>(kind) << NOPSPAN_FLAG_KIND_SHIFT) & NOPSPAN_FLAG_KIND_MASK;
  if (span->catalogue != nullptr) span->flags |= span->catalogue->flags;
  if (options.start.ns() != 0) span->flags |= NOPSPAN_FLAG_GIVEN_TIMES;
  const std::uint64_t up = own_gate();
  // Tracers get all fields, and the spans inside a catalogue's span inherit from it.
  const bool is_traced = (up & (kGateSpans | kBatchUp | kGatePoints | kKeepOpenBit)) != 0;
  span->takes_fields = span->catalogue != nullptr || is_traced ? TakesFields::yes : TakesFields::no;
  span->handled = false;
  span->keeps_content = captures_content(true);
  if ((up & kSpanHandlersBit) != 0 && (span->catalogue != nullptr || may_be_handled(span->name))) {
    span->takes_fields = TakesFields::yes;
    span->handled = span->keeps_content = true;
  }
  return span;
}

void set_status(SpanState& span, std::uint32_t status, Text type) noexcept {
  span.status = status;
  if (!type.empty()) clean(type.view(), span.error_type);
}

// Adds the fields that follow from the span's status.
void add_outcome(SpanState& span) noexcept {
  FieldBuffer& fields = span.fields;
  if (span.catalogue != nullptr && span.catalogue->name == "llm.image") {
    count_unless(fields.put_derived("image_count", Value::Type::integer, 0, FieldEntry::kMeasurement));
  }
  switch (span.status) {
    case NOPSPAN_STATUS_ERROR: {
      // The attributes of a catalogue's span are made of its record.
      const FieldEntry* const own = span.catalogue == nullptr ? fields.find(semconv::error_type, false) : nullptr;
      const std::string_view type = span.error_type;
      if (own != nullptr && (type == semconv::error_type_other || type == fields.find_text(semconv::error_type))) break;
      // kAdded: tracers read it in the record
      count_unless(fields.put_string(semconv::error_type, type, FieldEntry::kAdded));
      break;
    }
    case NOPSPAN_STATUS_CANCELLED:
      if (span.error_type[0] != '\0') {
        count_unless(fields.put_string("cancel.reason", span.error_type, FieldEntry::kOwn));
      }
      break;
    case NOPSPAN_STATUS_EXCEPTION:
      if (shape_of(span) == Shape::compaction) break;
      count_unless(fields.put_string("kind", span.exception_kind, FieldEntry::kAdded));
      break;
    default:
      break;
  }
}

// Sets the status of a span whose metadata says that it failed, unless the application has set a status.
__attribute__((noinline)) void apply_result(SpanState& span) noexcept {
  Scratch scratch;
  const std::string_view type = failure_in_metadata(span, scratch);
  if (type.data() != nullptr) set_status(span, NOPSPAN_STATUS_ERROR, type);
}

}  // namespace

__attribute__((noinline)) void note_catalogue(SpanState& span) noexcept {
  if (!may_be_in_catalogue(span.name.view())) return;
  span.may_be_known = true;
  span.catalogue = find_catalogue_span(span.name.view());
  if (span.catalogue == nullptr) {  // what is content in a catalogue is content also under a name that it does not have
    if (attribute_keys_of(span.name.view()) != 0) span.keys |= AttributeKey::named;
    return;
  }
  span.keys = attribute_keys_of(span.catalogue->name);
  span.begin_numbers();
}

__attribute__((noinline)) void report_any_end(ThreadState* thread, SpanState& span, const Frame* enclosing,
                                              std::uint64_t up) noexcept {
  if ((up & kSpanMask) == 0) note_gate_down();
  if (span.end_ns == 0) {
    span.end_ns = thread->clock.now();
  } else {
    span.flags |= NOPSPAN_FLAG_GIVEN_TIMES;
  }
  span.duration_ns = span.end_ns > span.start_ns ? span.end_ns - span.start_ns : 0;
  apply_given_ids(span);
  if (__builtin_expect(span.gives_result, 0) && span.status == NOPSPAN_STATUS_OK) apply_result(span);
  if (span.status != NOPSPAN_STATUS_OK && !span.stop_only) add_outcome(span);
  if (span.has_engine_times) leave_out_long_times(span);
  if (span.catalogue != nullptr) add_engine_times(span);
  if (__builtin_expect(span.link_count > 0, 0)) add_link_states(span);
  if (is_step(span)) {
    complete_step(span);
    if (point_probes_up()) fire_engine_step(thread, span);
  }
  OnceProbes fired;
  if (has_once_probes(span))
    fired =
        fire_once_probes(thread, span, enclosing);  // before span_stop, where tracers drop what they keep for a span
  if ((up & kGateSpans) != 0 && calls_sites()) fire_span_end(thread, span);
  if ((up & kBatchUp) != 0) {
    batch_span(thread, span, fired);
  } else {
    discard_batch_if_down(thread);
  }
}

namespace {

// Reports the end of a span to tracers. `enclosing` is the innermost scope around it on this thread.
__attribute__((always_inline)) inline void report_end(ThreadState* thread, SpanState& span,
                                                      const Frame* enclosing) noexcept {
  const std::uint64_t up = own_gate();
  constexpr std::uint32_t kUnusualFlags = NOPSPAN_FLAG_HAS_USAGE | NOPSPAN_FLAG_HAS_FIRST_TOKEN |
                                          NOPSPAN_FLAG_FOREIGN_ID | NOPSPAN_FLAG_GIVEN_TIMES |
                                          NOPSPAN_FLAG_ATTRIBUTES_DROPPED;
  if (__builtin_expect((up & kBatchUp) != 0 && (up & kGateSpans) == 0 && span.is_usual() &&
                           (span.flags & kUnusualFlags) == 0 && span.end_ns == 0,
                       1)) {
    const std::uint64_t now = thread->clock.now();
    span.end_ns = now;
    span.duration_ns = now > span.start_ns ? now - span.start_ns : 0;
    if (__builtin_expect(batch_usual_span(thread, span), 1)) return;
    batch_span(thread, span, {});
    return;
  }
  report_any_end(thread, span, enclosing, up);
}

__attribute__((noinline)) void emit_end(SpanState& span, const Frame* enclosing) {
  {
    const LibraryGuard guard;
    if (!guard) return;
    report_end(guard.thread(), span, enclosing);
  }
  if (span.handled && span_handlers_up()) dispatch_end(span);
}

// True (and counted) if the span began before fork(), or was ended by end_open_spans(). It belongs to the parent
// process, which emits it, or has been emitted.
bool is_inherited(const SpanState& span) noexcept {
  if (mark_of(span) == process_mark()) return false;
  count(counters.inherited);
  return true;
}

// `stacktrace` makes the value of that key; null if there is none.
template <class Stacktrace>
void set_reason(SpanState& span, const Caught& caught, const Stacktrace& stacktrace) {
  span.status = NOPSPAN_STATUS_EXCEPTION;
  span.exception_kind = caught.kind;
  span.error_type[0] = '\0';
  if (!caught.type.empty()) clean(caught.type, span.error_type);
  if (!takes_fields(span, counters.fields_dropped)) return;
  // The message is content, so the whole map is content.
  const std::uint8_t flags = FieldEntry::kContent | FieldEntry::kOwn;
  if (shape_of(span) == Shape::compaction) {  // handlers see that it stops, but no exception
    count_unless(span.fields.put_value("reason", reason_of(caught), flags | FieldEntry::kProbesOnly));
    return;
  }
  count_unless(span.fields.put_value("reason", reason_of(caught), flags));
  if (!span.keeps_content || span.fields.is_set_late("stacktrace")) return;
  Value frames = stacktrace();
  if (frames.is_null() && span.catalogue != nullptr)
    frames = Value::list();  // events of catalogues always have the key
  if (!frames.is_null()) count_unless(span.fields.put_value("stacktrace", frames, flags));
}

// If there is no memory to describe the error, the description is dropped and the program keeps running.
template <class Stacktrace>
void set_reason_safely(SpanState& span, const Caught& caught, const Stacktrace& stacktrace) noexcept {
  try {
    const InsideLibrary inside;
    set_reason(span, caught, stacktrace);
  } catch (const std::bad_alloc&) {
    count(counters.fields_dropped);
  }
}

NOPSPAN_HOT SpanState* begin_scope(Name name, SpanOptions options) noexcept {
  const LibraryGuard guard;
  if (!guard) return nullptr;
  Frame* top = guarded_top();  // first, because it may release states
  SpanState* span = begin(guard.thread(), name, options);
  if (span == nullptr) return nullptr;
  if (top == nullptr) {
    place_alone(guard.thread(), *span, options.start);
  } else {
    place_inside(guard.thread(), *span, *top->context, top->foreign_id);
  }
  span->uncaught = static_cast<int>(*guard.thread()->exceptions_in_flight);
  span->state.store(OpenSpan::kOpen, std::memory_order_release);
  push_span(guard.thread(), *span, top);
  return span;
}

// Gives a span the place that a bridge decides, instead of the one that place() made.
__attribute__((noinline)) void move_to(SpanState& span, const TracePlace& place) noexcept {
  ContextHead& context = span.context;
  if (std::memcmp(context.trace_id, place.trace_id, kTraceIdBytes) != 0) {
    // The application's id of the request is that of the other trace.
    context.bits &= static_cast<std::uint8_t>(~ContextAccess::kForeign);
    std::memcpy(context.trace_id, place.trace_id, kTraceIdBytes);
  }
  if (context.root_id == context.span_id) context.root_id = place.span_id;
  context.span_id = place.span_id;
  context.trace_flags = place.trace_flags;
  span.begins_request = false;  // its metadata must not have another id
  span.flags &= ~(NOPSPAN_FLAG_FOREIGN_ID | NOPSPAN_FLAG_SAMPLED | NOPSPAN_FLAG_RANDOM);
  span.flags |= context_flags(context);
}

// Without a parent, the span is inside the current scope of this thread. If there is none, it begins a request, because
// a bridge knows the parents that its API has.
NOPSPAN_HOT SpanState* begin_async(const Name& name, const ContextHead* parent, const char* foreign_id,
                                   const SpanOptions& options, const TracePlace* given) noexcept {
  const LibraryGuard guard;
  if (!guard) return nullptr;
  if (const Frame* const top = parent == nullptr ? guarded_top() : nullptr; top != nullptr) {
    if (top->span != nullptr) note_given(*top->span);
    parent = top->context;
    foreign_id = top->foreign_id;
  }
  SpanState* span = begin(guard.thread(), name, options);
  if (span == nullptr) return nullptr;
  span->flags |= NOPSPAN_FLAG_ASYNC;
  if (parent == nullptr) {
    place(guard.thread(), *span, ContextHead(), ContextAccess::foreign(no_context));
  } else {
    place_inside(guard.thread(), *span, *parent, foreign_id);
  }
  if (__builtin_expect(given != nullptr, 0)) move_to(*span, *given);
  span->uncaught = static_cast<int>(*guard.thread()->exceptions_in_flight);
  span->state.store(OpenSpan::kOpen, std::memory_order_release);
  return span;
}

__attribute__((noinline)) void report_start(SpanState* span, bool may_be_known) noexcept {
  if (span_probes_up()) {
    const LibraryGuard guard;
    if (guard) fire_span_start(guard.thread(), *span);
  }
  if (may_be_known && span->catalogue == nullptr) check_catalogue(span->name);
  if (span_handlers_up() && may_be_event(span->name)) warn_of_event(span->name);
  if (!span->stop_only && span->handled && span_handlers_up()) dispatch_start(*span);
}

inline void emit_start(SpanState* span) noexcept {
  apply_given_ids(*span);
  span->started = true;
  const bool may_be_known = may_be_in_catalogue(span->name.view());
  if (may_be_known || span->handled || span_probes_up() || (span_handlers_up() && may_be_event(span->name))) {
    report_start(span, may_be_known);
  }
}

// Emits the start of a span that was not started: a thread exit interrupted the application's callable that sets its
// fields. A span must not end without a start.
void start_late(SpanState* span) noexcept {
  if (span->started) return;
  span_started(span);
  span_exception(span);
}

// True if more than `before` exceptions are in flight on this thread, and none was recorded on the span yet.
bool is_unwinding(const SpanState& span, int before) noexcept {
  if (span.status == NOPSPAN_STATUS_EXCEPTION) return false;
  const ThreadState* thread = locals.state;
  const int now = thread != nullptr ? static_cast<int>(*thread->exceptions_in_flight) : std::uncaught_exceptions();
  return now > before;
}

// Records that an exception ends the span. Its destructor, which was called by `caller`, cannot see the exception.
void set_unknown_reason(SpanState& span, const void* caller) noexcept {
  Caught unseen;
  unseen.kind = "error";
  unseen.type = "unknown";
  set_reason_safely(span, unseen, [=] { return stacktrace_of_unwinding(caller); });
}

void set_caught_reason(SpanState& span, const void* caller) noexcept {
  set_reason_safely(span, describe_caught(), [=] { return stacktrace_of_caught(caller); });
}

// Keeps the number of messages before a compaction for the end of the span, whose attributes have both numbers.
void keep_message_count(SpanState& span) noexcept {
  const FieldEntry* before = span.fields.find("message_count", true);
  if (before == nullptr) return;
  count_unless(span.fields.put_word("message_count_before", before->type, before->word(),
                                    FieldEntry::kOwn | FieldEntry::kProbesOnly));
}

__attribute__((noinline)) void start_any_scope(SpanState* span) noexcept {
  emit_start(span);
  if (shape_of(*span) == Shape::compaction) keep_message_count(*span);
  if (__builtin_expect(capturing_stacktraces.load(std::memory_order_relaxed), 0)) {
    span->fields.mark_as_start("stacktrace");
  }
  span->fields.erase_measurements();
}

NOPSPAN_HOT void start_scope(SpanState* span) noexcept {
  // The usual case: emit_start() and the rest have nothing to do.
  const std::uint64_t up = own_gate();
  const auto may_have_handlers = [&] { return (span->handled && is_handled(kStart)) || may_be_event(span->name); };
  if ((up & kGateSpans) == 0 && span->is_usual() && !capturing_stacktraces.load(std::memory_order_relaxed) &&
      ((up & kSpanHandlersBit) == 0 || !may_have_handlers())) {
    span->started = true;
    span->fields.erase_measurements();
    return;
  }
  start_any_scope(span);
}

void mark_abandoned(SpanState& span) noexcept {
  if (span.status != NOPSPAN_STATUS_OK) return;
  count(counters.abandoned);
  span.status = NOPSPAN_STATUS_CANCELLED;
  span.flags |= NOPSPAN_FLAG_ABANDONED;
  count_unless(span.fields.put_word("abandoned", Value::Type::boolean, 1, FieldEntry::kOwn));
}

// Releases a span that is not on this thread's stack. If it is on another one, that thread releases it.
void release_off_stack(SpanState* span) noexcept {
  span->state.store(OpenSpan::kChanging, std::memory_order_release);  // it is no longer open
  const std::uint64_t before = span->frame.word.fetch_or(Frame::kEnded, std::memory_order_acq_rel);
  if ((before & Frame::kOnStack) == 0) release(span);
}

void end_scope_carefully(SpanState* span, const void* caller) noexcept {
  if (is_inherited(*span)) {
    leave_frame(&span->frame);
    release_off_stack(span);
    return;
  }
  start_late(span);
  const bool is_here = leave_frame(&span->frame);
  if (is_here && is_unwinding(*span, span->uncaught)) set_unknown_reason(*span, caller);
  if (is_here) {
    emit_end(*span, span->frame.below);
    release(span);
    return;
  }
  // Either the span is destroyed on a thread that did not begin it, and its frame is on the stack of the other thread.
  // Or its frame was taken off its stack before.
  if ((span->frame.word.load(std::memory_order_relaxed) & Frame::kOnStack) != 0) count(counters.wrong_thread);
  emit_end(*span, top_frame());
  release_off_stack(span);
}

NOPSPAN_HOT void end_scope(SpanState* span) noexcept {
  // The usual case: the span is on top of its thread's stack. Then one LibraryGuard is enough.
  const ThreadState* here = locals.state;
  if (locals.top == &span->frame && here != nullptr && !here->busy && span->started &&
      !is_unwinding(*span, span->uncaught)) {
    bool is_reported = false;
    if (const LibraryGuard guard; guard && mark_of(*span) == guard.thread()->process_mark) {
      Frame* const below = span->frame.below;
      locals.top = below;
      report_end(guard.thread(), *span, below);
      if (!span->handled) {
        give_back_state(guard.thread(), span);
        return;
      }
      span->frame.word.store(0, std::memory_order_relaxed);
      is_reported = true;
    }
    if (is_reported) {
      if (span_handlers_up()) dispatch_end(*span);
      release(span);
      return;
    }
  }
  end_scope_carefully(span, __builtin_return_address(0));
}

NOPSPAN_HOT void end_async(SpanState* span) noexcept {
  // The usual case needs one LibraryGuard.
  if (const ThreadState* here = locals.state; here != nullptr && !here->busy && !span->handled) {
    // Only the guard's thread has the mark of this process, which may be a child.
    if (const LibraryGuard guard; guard && mark_of(*span) == guard.thread()->process_mark) {
      report_end(guard.thread(), *span, guarded_top());
      give_back_state(guard.thread(), span);
      return;
    }
  }
  if (!is_inherited(*span)) emit_end(*span, top_frame());
  release(span);
}

}  // namespace

SpanState* span_begin(Name name, SpanOptions options) noexcept { return begin_scope(name, options); }

SpanState* async_begin(Name name, ContextRef parent, SpanOptions options) noexcept {
  if (SpanState* const span = ContextAccess::span(parent)) return async_begin_inside(name, span, options);
  return ContextAccess::use(parent, [&](const Context& context) {
    return begin_async(name, &ContextAccess::head(context), ContextAccess::foreign(context), options, nullptr);
  });
}

SpanState* async_begin_at(Name name, ContextRef parent, SpanOptions options, const TracePlace& place) noexcept {
  return ContextAccess::use(parent, [&](const Context& context) {
    return begin_async(name, &ContextAccess::head(context), ContextAccess::foreign(context), options, &place);
  });
}

SpanState* async_begin_inside(Name name, SpanState* parent, SpanOptions options) noexcept {
  if (parent == nullptr) return begin_async(name, nullptr, nullptr, options, nullptr);
  note_given(*parent);
  return begin_async(name, &parent->context, parent->foreign_id, options, nullptr);
}

void span_started(SpanState* span) noexcept { start_scope(span); }

void span_end(SpanState* span) noexcept { end_scope(span); }

void async_end(SpanState* span) noexcept { end_async(span); }

void async_abandon(SpanState* span) noexcept {
  if (is_inherited(*span)) return release(span);
  start_late(span);
  // Exceptions that were in flight when the span began do not end it. On another thread there were none.
  const bool is_here = locals.state != nullptr && locals.state->thread_id == span->thread_id;
  if (is_unwinding(*span, is_here ? span->uncaught : 0)) {
    set_unknown_reason(*span, __builtin_return_address(0));
  } else {
    mark_abandoned(*span);
  }
  async_end(span);
}

void end_frames(SuspendedFrames suspended) noexcept {
  if (suspended.mark != process_mark()) return;  // in a child after fork(), another thread's frames were given back
  while (suspended.top != nullptr) {
    SpanState* const span = drop_suspended(suspended.top);
    if (span == nullptr) continue;
    if (!is_inherited(*span)) {
      start_late(span);
      mark_abandoned(*span);
      emit_end(*span, suspended.top);
    }
    release(span);
  }
}

void span_complete(SpanState* span, std::int64_t duration_ns) noexcept {
  span->end_ns = span->start_ns + (duration_ns > 0 ? static_cast<std::uint64_t>(duration_ns) : 0);
  emit_start(span);
  span->fields.erase_measurements(true);  // those of the application are reported at the stop too
  async_end(span);
}

void span_complete_stop_only(SpanState* span, const Outcome& outcome) noexcept {
  span->stop_only = true;
  span->has_ids = true;  // so that add_ids() adds none
  span->end_ns = span->start_ns + outcome.duration_ns;
  emit_start(span);
  if (outcome.exception_kind != nullptr) {
    set_status(*span, NOPSPAN_STATUS_EXCEPTION, outcome.error_type);
    span->exception_kind = outcome.exception_kind;
  }
  async_end(span);
}

void span_fail(SpanState* span, Text type, Text message) noexcept {
  if (span->status != NOPSPAN_STATUS_OK) return;
  if (type.empty()) {
    const std::string_view own = span->fields.find_text(semconv::error_type);
    if (is_type_name(own)) type = own;
  }
  const bool is_type = is_type_name(type.view());
  if (!is_type && !type.empty()) {  // it may be a message, which is content
    count(counters.names_invalid);
    if (message.is_null()) message = type;
  }
  set_status(*span, NOPSPAN_STATUS_ERROR, is_type ? type : Text("_OTHER"));
  if (!message.is_null()) put_text(span, "error.message", message, true);
}

void span_cancel(SpanState* span, Text reason) noexcept {
  if (span->status != NOPSPAN_STATUS_OK) return;
  set_status(*span, NOPSPAN_STATUS_CANCELLED, reason);
}

void span_exception(SpanState* span) noexcept { set_caught_reason(*span, __builtin_return_address(0)); }

void span_exception_of(SpanState& span, const Caught& caught, const Value& stacktrace) noexcept {
  set_reason_safely(span, caught, [&] { return stacktrace; });
}

bool span_caught(SpanState* span) noexcept {
  if (span != nullptr) set_caught_reason(*span, __builtin_return_address(0));
  return has_thrown();
}

void span_rethrow() {
  const Rethrowing rethrowing;
  throw;
}

void span_end_at(SpanState* span, std::uint64_t end_ns) noexcept {
  span->end_ns = end_ns > span->start_ns ? end_ns : span->start_ns;
}

bool mark_first_token(ThreadState* thread, SpanState& span, std::uint64_t now_ns,
                      std::uint64_t tokens_so_far) noexcept {
  if ((span.flags & NOPSPAN_FLAG_HAS_FIRST_TOKEN) != 0) return false;
  span.first_token_ns = now_ns > span.start_ns ? now_ns - span.start_ns : 0;
  __atomic_store_n(&span.flags, span.flags | NOPSPAN_FLAG_HAS_FIRST_TOKEN, __ATOMIC_RELEASE);  // tracers may read both
  if (tokens_so_far > 1 && span.takes_fields == TakesFields::yes) {  // for the exporter's event
    count_unless(span.fields.put_derived(semconv::extension::tokens_at_first_token, Value::Type::integer, tokens_so_far,
                                         FieldEntry::kProbesOnly));
  }
  if (point_probes_up()) fire_first_token(thread, span, tokens_so_far);
  return true;
}

void span_first_token(SpanState* span, std::uint64_t tokens_so_far) noexcept {
  if ((span->flags & NOPSPAN_FLAG_HAS_FIRST_TOKEN) == 0) span_first_token_at(span, thread_ns(), tokens_so_far);
}

void span_first_token_at(SpanState* span, std::uint64_t now, std::uint64_t tokens_so_far) noexcept {
  if ((span->flags & NOPSPAN_FLAG_HAS_FIRST_TOKEN) != 0 || mark_of(*span) != process_mark()) return;
  {
    const LibraryGuard guard;
    if (!guard) return;
    mark_first_token(guard.thread(), *span, now, tokens_so_far);
  }
  emit_first_token(*span, tokens_so_far);
}

Context span_context(SpanState* span) noexcept {
  if (span == nullptr) return Context::current();
  note_given(*span);
  return make_context(span->context, span->foreign_id);
}

Context async_context(SpanState* span) noexcept {
  if (span != nullptr) return span_context(span);
  Context unknown;
  ContextAccess::head(unknown).bits = ContextAccess::kUnrecorded;
  take_server_labels(ContextAccess::head(unknown), top_frame());
  return unknown;
}

Context async_parent(SpanState* span) noexcept {
  if (span == nullptr) {
    if (const Context current = Context::current(); !current.empty()) return current;
  }
  return async_context(span);
}

std::uint64_t id_of(const SpanState* span) noexcept { return span->context.span_id; }

Context last_context(const SpanState* span) noexcept { return make_context(span->context, span->foreign_id); }

TracePlace place_of(const SpanState* span) noexcept { return place_in(span->context); }

// Tracers may be reading the span.
void span_rename(SpanState* span, Name name) noexcept {
  const LibraryGuard guard;
  if (!guard) return;
  span->state.store(OpenSpan::kChanging, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  ++span->generation;
  span->name = copy_name(name, span->name_text);
  span->name_size = static_cast<std::uint32_t>(span->name.size);
  span->state.store(OpenSpan::kOpen, std::memory_order_release);
  note_new_name(*span);
}

bool metadata_threw() noexcept {
  if (is_thread_exit()) return false;
  count(counters.metadata_failures);
  return true;
}

void run_guarded(void (*work)(void*), void* object) {
  guarded([&] { work(object); });
}

}  // namespace nopspan::detail
