// SPDX-License-Identifier: Apache-2.0
#include "emit/probe.h"

#include "base/counters.h"
#include "gate/gate.h"
#include "memory/slabs.h"
#include "state/context_stack.h"
#include "state/given_contexts.h"
#include "state/header_store.h"
#include "state/identity.h"
#include "state/labels.h"
#include "state/step_data.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string_view>

static_assert(sizeof(nopspan_span) == 256 && offsetof(nopspan_span, request_id) == 72 &&
              sizeof(nopspan_span::reserved) >= 32);
static_assert(sizeof(nopspan_engine) == 384 && offsetof(nopspan_engine, arrival_ns) == 264);
static_assert(sizeof(nopspan_step_record) == 448 && offsetof(nopspan_step_record, members) == 384);

#if NOPSPAN_HAVE_USDT
#define NOPSPAN_SITE(probe)                                                                                           \
  extern "C" __attribute__((visibility("hidden"))) void nopspan_site_##probe(const char*, const char*, std::uint64_t, \
                                                                             const char*, std::uint64_t, const void*)
#else
#define NOPSPAN_SITE(probe)                                                                                    \
  static inline void nopspan_site_##probe(const char*, const char*, std::uint64_t, const char*, std::uint64_t, \
                                          const void*) {}
#endif
NOPSPAN_SITE(span_start);
NOPSPAN_SITE(span_stop);
NOPSPAN_SITE(span_exception);
NOPSPAN_SITE(event);
NOPSPAN_SITE(first_token);
NOPSPAN_SITE(tokens);
NOPSPAN_SITE(retry);
NOPSPAN_SITE(tool_call);
NOPSPAN_SITE(engine_request);
NOPSPAN_SITE(gauge);
NOPSPAN_SITE(engine_step);

namespace nopspan::detail {
namespace {

// Faults in the pages of a string, because a BPF program cannot. Without this, a BPF program would read an empty string
// if no code has touched the string yet. Strings here have at most 63 bytes, so the first and the last byte cover all
// their pages.
void touch(const char* text, std::size_t size) noexcept {
  const volatile char* bytes = text;
  (void)bytes[0];
  (void)bytes[size];
}

unsigned long address(const void* pointer) noexcept { return reinterpret_cast<unsigned long>(pointer); }

struct Strings {
  const char* id;
  const char* model;
  char tracestate[kMaxTracestateBytes + 1];
};

std::uint64_t raised_at() noexcept { return __atomic_load_n(&nopspan_gate.raised_ns, __ATOMIC_RELAXED); }

__attribute__((noinline)) void begin_sequence(ThreadState* thread) noexcept {
  thread->sequence_since_ns = raised_at();
  thread->clock.now();  // for make_span_id()
  thread->sequence_id = make_span_id(thread);
}

// Fills the fields that all records have. The record points into `strings`, which must live as long as it.
void fill_record(nopspan_span& record, ThreadState* thread, SpanState& span, Probe probe, Strings& strings) noexcept {
  record.size = offsetof(nopspan_span, reserved);
  record.flags = span.flags;
  record.status = span.status;
  const ContextHead& context = span.context;
  record.span_id = context.span_id;
  record.parent_id = context.parent_id;
  record.root_id = context.root_id;
  record.start_ns = span.start_ns;
  record.duration_ns = span.duration_ns;
  if (thread->sequence_since_ns != raised_at()) begin_sequence(thread);
  record.sequence_id = thread->sequence_id;
  record.sequence = thread->sequence[static_cast<std::size_t>(probe)]++;
  std::memcpy(record.request_id, canonical_id(span), sizeof(record.request_id));

  const Interned engine = label(context.labels[ContextAccess::engine]);
  const Interned model = label(context.labels[ContextAccess::model]);
  const Interned tenant = label(context.labels[ContextAccess::tenant]);
  touch(engine.text, engine.size);
  touch(model.text, model.size);
  touch(tenant.text, tenant.size);
  touch(span.exception_kind, 0);
  record.name = address(span.name.text);
  record.engine = address(engine.text);
  record.model = address(model.text);
  record.tenant = address(tenant.text);
  record.exception_kind = address(span.exception_kind);
  record.error_type = address(span.error_type);
  strings.tracestate[0] = '\0';
  if (has_tracestate(context.headers)) load_tracestate(context.headers, strings.tracestate);
  record.tracestate = address(strings.tracestate);
  strings.id = visible_id(span);
  strings.model = model.text;

  if (!is_step(span)) record.links = address(span.links);
  record.link_count = span.link_count;
  if (span.has_numbers) {
    record.input_tokens = span.input_tokens;
    record.output_tokens = span.output_tokens;
    record.cached_tokens = span.cached_tokens;
    record.reasoning_tokens = span.reasoning_tokens;
  }
  record.first_token_ns = span.first_token_ns;
}

// Attaches the attributes that `encode` writes.
template <class Encode>
void attach_encoded(nopspan_span& record, ThreadState* thread, const Encode& encode) noexcept {
  if (thread->attribute_bytes == nullptr) {
    thread->attribute_bytes = take_block(kMaxAttributesBytes).bytes;
    if (thread->attribute_bytes == nullptr) {
      count(counters.attributes_dropped);
      record.flags |= NOPSPAN_FLAG_ATTRIBUTES_DROPPED;
      return;
    }
  }
  const EncodedAttributes encoded = encode(thread->attribute_bytes);
  if (encoded.dropped > 0) record.flags |= NOPSPAN_FLAG_ATTRIBUTES_DROPPED;
  record.attributes = address(thread->attribute_bytes);
  record.attributes_bytes = encoded.size;
}

void attach_attributes(nopspan_span& record, ThreadState* thread, const SpanState& span, bool at_end) noexcept {
  if (!may_have_attributes(span)) return;
  attach_encoded(record, thread, [&](unsigned char* out) {
    return encode_attributes(span, at_end, captures_content(span.is_span), out);
  });
}

// Makes the compiler store the record before the site, because only a BPF program reads it.
void finish(const void* record) noexcept { __asm__ volatile("" : : "r"(record) : "memory"); }

// When a request arrived at an inference server: if that is unknown, when its span began.
std::uint64_t arrival(const SpanState& span) noexcept {
  return span.engine.arrival_ns != 0 ? span.engine.arrival_ns : span.start_ns;
}

// The time in ns from the arrival to the first token. 0 if there is no first token or it was before the arrival.
std::uint64_t time_to_first_token(const SpanState& span) noexcept {
  if ((span.flags & NOPSPAN_FLAG_HAS_FIRST_TOKEN) == 0) return 0;
  const std::uint64_t first = span.start_ns + span.first_token_ns;
  return first > arrival(span) ? first - arrival(span) : 0;
}

struct Record {
  nopspan_span span{};
  Strings strings;
  Record(ThreadState* thread, SpanState& state, Probe probe) noexcept {
    fill_record(span, thread, state, probe, strings);
  }
};

}  // namespace

void fire_span_start(ThreadState* thread, SpanState& span) noexcept {
  Record r(thread, span, Probe::span_start);
  attach_attributes(r.span, thread, span, false);
  finish(&r);
  nopspan_site_span_start(r.strings.id, span.name.text, span.start_ns, r.strings.model, r.span.span_id, &r.span);
}

void fire_span_end(ThreadState* thread, SpanState& span) noexcept {
  Record r(thread, span, Probe::span_stop);
  attach_attributes(r.span, thread, span, true);
  finish(&r);
  nopspan_site_span_stop(r.strings.id, span.name.text, span.duration_ns, r.strings.model, span.status, &r.span);
  if (span.status != NOPSPAN_STATUS_EXCEPTION) return;
  r.span.sequence = thread->sequence[static_cast<std::size_t>(Probe::span_exception)]++;
  finish(&r);
  nopspan_site_span_exception(r.strings.id, span.name.text, span.duration_ns, r.strings.model, address(span.error_type),
                              &r.span);
}

void fire_event(ThreadState* thread, SpanState& event, std::uint64_t time_ns) noexcept {
  Record r(thread, event, Probe::event);
  if (r.span.start_ns == 0) r.span.start_ns = time_ns;
  attach_attributes(r.span, thread, event, false);
  finish(&r);
  nopspan_site_event(r.strings.id, event.name.text, time_ns, r.strings.model, r.span.span_id, &r.span);
}

void fire_retry(ThreadState* thread, SpanState& event, std::uint64_t time_ns) noexcept {
  Record r(thread, event, Probe::retry);
  attach_attributes(r.span, thread, event, false);
  r.span.error_type = address(event.retry_reason);
  if (r.span.start_ns == 0) r.span.start_ns = time_ns;
  finish(&r);
  nopspan_site_retry(r.strings.id, enclosing_name(event).text, event.retry_delay_ns, r.strings.model,
                     event.retry_attempt, &r.span);
}

void fire_first_token(ThreadState* thread, SpanState& span, std::uint64_t tokens_so_far) noexcept {
  Record r(thread, span, Probe::first_token);
  finish(&r);
  nopspan_site_first_token(r.strings.id, span.name.text, span.first_token_ns, r.strings.model, tokens_so_far, &r.span);
}

void fire_tokens(ThreadState* thread, SpanState& span) noexcept {
  Record r(thread, span, Probe::tokens);
  finish(&r);
  nopspan_site_tokens(r.strings.id, span.name.text, span.input_tokens, r.strings.model, span.output_tokens, &r.span);
}

void fire_tool_call(ThreadState* thread, SpanState& span) noexcept {
  Record r(thread, span, Probe::tool_call);
  finish(&r);
  nopspan_site_tool_call(r.strings.id, span.tool_name, span.duration_ns, r.strings.model, span.status, &r.span);
}

void fire_engine_request(ThreadState* thread, SpanState& span) noexcept {
  nopspan_engine record{};
  Strings strings;
  fill_record(record.span, thread, span, Probe::engine_request, strings);
  record.engine_size = offsetof(nopspan_engine, reserved);
  record.arrival_ns = arrival(span);
  record.queue_ns = span.engine.queue_ns;
  record.prefill_ns = span.engine.prefill_ns;
  record.decode_ns = span.engine.decode_ns;
  record.prefill_tokens = span.engine.prefill_tokens;
  record.decode_tokens = span.engine.decode_tokens;
  record.preemptions = span.engine.preemptions;
  finish(&record);
  nopspan_site_engine_request(strings.id, span.name.text, span.duration_ns, strings.model, time_to_first_token(span),
                              &record);
}

void fire_engine_step(ThreadState* thread, SpanState& span) noexcept {
  nopspan_step_record record{};
  Strings strings;
  fill_record(record.span, thread, span, Probe::engine_step, strings);
  record.step = facts_of(span);
  record.members = address(members_of(span));
  record.record_size = offsetof(nopspan_step_record, reserved);
  finish(&record);
  const Interned engine = label(span.context.labels[ContextAccess::engine]);
  nopspan_site_engine_step(engine.text, span.name.text, span.duration_ns, strings.model, record.step.members, &record);
}

void fire_gauge(ThreadState* thread, SpanState& event, const char* engine, const char* name, std::int64_t value,
                std::int64_t maximum, const GaugeLabel& label) noexcept {
  Record r(thread, event, Probe::gauge);
  if (may_have_attributes(event) || !label.key.empty()) {
    attach_encoded(r.span, thread, [&](unsigned char* out) { return encode_gauge_labels(event, label, out); });
  }
  finish(&r);
  nopspan_site_gauge(engine, name, static_cast<std::uint64_t>(value), r.strings.model,
                     static_cast<std::uint64_t>(maximum), &r.span);
}

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

namespace {

// The largest count up to which a double is exact.
constexpr std::uint64_t kMostTokens = std::uint64_t{1} << 53U;

void add(SpanState& span, std::string_view key, Value::Type type, std::uint64_t word, std::uint8_t flags) noexcept {
  count_unless(span.fields.put_derived(key, type, word, flags));
}

void measure(SpanState& span, std::string_view key, std::uint64_t value) noexcept {
  add(span, key, Value::Type::integer, value, FieldEntry::kMeasurement);
}

void add_time_to_first_token(SpanState& span) noexcept {
  if ((span.flags & NOPSPAN_FLAG_HAS_FIRST_TOKEN) == 0) return;
  if (span.start_ns + span.first_token_ns < arrival(span)) {
    count(counters.values_clamped);
    return;
  }
  measure(span, "ttft_ns", time_to_first_token(span));
}

// Repeats the times that were given at the start, because handlers have seen them only with the start event.
void add_times(SpanState& span) noexcept {
  const EngineTimes& times = span.engine;
  const auto add_known = [&](std::string_view key, const std::uint64_t& field) {
    if (is_known(times, field)) measure(span, key, field);
  };
  add_known("queue_ns", times.queue_ns);
  add_known("prefill_ns", times.prefill_ns);
  add_known("decode_ns", times.decode_ns);
}

// The prefill makes the first token. Decoding makes the others, so they are one fewer than output_tokens.
void add_decode_rate(SpanState& span) noexcept {
  std::uint64_t output = span.output_tokens;
  if (!is_known(span.engine, span.engine.decode_ns) || output < 2) return;
  if (output > kMostTokens) {
    count(counters.values_clamped);
    output = kMostTokens;
  }
  const std::uint64_t decoded = output - 1;
  const std::uint64_t time = span.engine.decode_ns;
  measure(span, "time_per_output_token_ns", time / decoded);
  if (time == 0) return;
  const double rate = static_cast<double>(decoded) * 1e9 / static_cast<double>(time);
  add(span, "tokens_per_second", Value::Type::real, real_word(rate), FieldEntry::kMeasurement);
}

}  // namespace

void leave_out_long_times(SpanState& span) noexcept {
  constexpr std::uint64_t kInaccuracy = 1'000'000;  // engines may round to ms, or have another clock
  const std::uint64_t end = span.start_ns + span.duration_ns;
  const std::uint64_t longest = end - std::min(arrival(span), span.start_ns) + kInaccuracy;
  EngineTimes& times = span.engine;
  span.has_engine_times = false;
  const auto check = [&](std::string_view key, std::uint64_t& field) {
    if (!is_known(times, field)) return;
    if (field <= longest) {
      span.has_engine_times = true;
      return;
    }
    count(counters.values_clamped);
    times.known &= static_cast<std::uint8_t>(~engine_bit(times, field));
    field = 0;
    span.fields.keep_for_handlers(key);
  };
  check("queue_ns", times.queue_ns);
  check("prefill_ns", times.prefill_ns);
  check("decode_ns", times.decode_ns);
}

void add_engine_times(SpanState& span) noexcept {
  if (span.catalogue == nullptr || span.catalogue->name != "engine.request") return;
  add_times(span);
  add_time_to_first_token(span);
  add_decode_rate(span);
  add(span, "cancelled", Value::Type::boolean, span.status == NOPSPAN_STATUS_CANCELLED ? 1 : 0, 0);
}

}  // namespace nopspan::detail
