// SPDX-License-Identifier: Apache-2.0
#include "state/span_state.h"

#include "fields/attribute_keys.h"
#include "state/context_stack.h"
#include "state/labels.h"

#include <utility>

namespace nopspan::detail {

namespace {

// Adds a span id as metadata: 16 hexadecimal digits, or null if it is 0.
void add_id(FieldBuffer& fields, std::string_view key, std::uint64_t id) noexcept {
  if (id == 0) {
    fields.add_null(key);
    return;
  }
  unsigned char bytes[8];
  char text[16];
  for (unsigned i = 0; i < 8; ++i) bytes[i] = static_cast<unsigned char>(id >> (56U - 8U * i));
  encode_hex(bytes, sizeof(bytes), text);
  fields.add_string(key, {text, sizeof(text)});
}

bool lacks(const SpanState& state, std::string_view key) noexcept { return state.fields.find(key, false) == nullptr; }

}  // namespace

std::size_t added_bytes(const SpanState& state) noexcept {
  constexpr std::size_t kBytes = 320;
  constexpr std::size_t kTextBytes = sizeof(FieldEntry) + 2 * (kMaxNameBytes + 1) + 8;  // the most of a key and a text
  std::size_t texts = (state.keys & AttributeKey::agent) != 0 ? 1 : 0;
  for (const std::uint16_t label : state.context.labels) texts += label != kNoLabel ? 1 : 0;
  return kBytes + texts * kTextBytes;
}

void add_trace_id(SpanState& state) noexcept {
  const bool is_inside = has_request(state) && !state.begins_request;
  if (is_inside && (state.keys & AttributeKey::agent) != 0 && lacks(state, "trace_id")) {
    state.fields.add_string("trace_id", visible_id(state));
  }
}

void add_ids(SpanState& span) noexcept {
  if (span.has_ids) return;
  span.has_ids = true;
  FieldBuffer& fields = span.fields;
  if (lacks(span, "request_id")) fields.add_string("request_id", visible_id(span));
  if (lacks(span, "span_id")) add_id(fields, "span_id", span.context.span_id);
  if (lacks(span, "parent_id")) add_id(fields, "parent_id", span.context.parent_id);
  add_trace_id(span);
  const auto add_label = [&](std::string_view key, std::string_view value) {
    if (lacks(span, key)) fields.add_string(key, value);
  };
  for (const auto& [key, which] : {std::pair("engine", ContextAccess::engine), std::pair("model", ContextAccess::model),
                                   std::pair("tenant", ContextAccess::tenant)}) {
    const std::uint16_t number = span.context.labels[which];
    if (number != kNoLabel) add_label(key, label(number).view());
  }
  for_each_extra_label(span.context, add_label);
}

Slab span_table[kMaxOpenSlabs];

namespace {

constexpr unsigned kPerSlab = 64;
constexpr unsigned kAtOnce = 16;  // states that a thread claims at once
}  // namespace

Slabs span_slabs(span_table, kPerSlab, kPerSlab * sizeof(SpanState));

__attribute__((noinline)) Pooled* fill_pool(ThreadState* thread) noexcept {
  Slabs::Claim& claimed = thread->claimed;
  if (claimed.bits == 0) {
    drop_ended_below(thread);
    claimed = span_slabs.claim(kAtOnce);
  }
  if (claimed.bits == 0) {
    count_dropped(span_slabs.is_full());
    return nullptr;
  }
  // The others stay untouched, so that a thread with few spans does not touch much memory.
  const Slabs::Claim place{claimed.slab, claimed.bits & ~(claimed.bits - 1)};
  claimed.bits &= ~place.bits;
  thread->pool = new (pooled_at(span_slabs.element<SpanState>(place))) Pooled{nullptr, place};
  ++thread->pooled;
  return thread->pool;
}

SpanState* allocate(ThreadState* thread) noexcept { return take_state(thread); }

void release(SpanState* span) noexcept {
  ThreadState* thread = locals.state;
  if (__builtin_expect(thread != nullptr && !thread->busy, 1)) {
    const InsideLibrary inside;
    give_back_state(thread, span);
    return;
  }
  // The thread has no state any more, or this is a signal handler that interrupted the library.
  clear_state(span);
  span_slabs.give_back(span->place);
}

void free_pool(ThreadState* thread) noexcept {
  while (thread->pool != nullptr) {
    Pooled* const pooled = thread->pool;
    thread->pool = pooled->next;
    span_slabs.give_back(pooled->place);
  }
  thread->pooled = 0;
  if (thread->claimed.bits != 0) span_slabs.give_back(thread->claimed);
  thread->claimed = {};
}

bool reserve_states(std::size_t threads) noexcept { return span_slabs.reserve(threads * (kMaxPooled + kAtOnce)); }

void reclaim_states_of_other_threads() noexcept {
  const ThreadState* const own = locals.state;
  span_slabs.for_each_used<SpanState>([own](SpanState& span, const Slabs::Claim& place) {
    if (span.state.load(std::memory_order_relaxed) != OpenSpan::kFree) {
      // If the span is a scope of another thread, it may still end here.
      if (span.frame.owner.load(std::memory_order_relaxed) != own) span.frame.word.store(0, std::memory_order_relaxed);
      return;
    }
    if (own != nullptr && own->claimed.slab == place.slab && (own->claimed.bits & place.bits) != 0) return;
    const Pooled* of_own = own != nullptr ? own->pool : nullptr;
    while (of_own != nullptr && of_own != pooled_at(&span)) of_own = of_own->next;
    if (of_own == nullptr) span_slabs.give_back(place);
  });
}

}  // namespace nopspan::detail
