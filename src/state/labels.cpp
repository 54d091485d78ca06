// SPDX-License-Identifier: Apache-2.0
#include "state/labels.h"

#include "base/clean_text.h"
#include "base/counters.h"
#include "gate/gate.h"
#include "state/field_sink.h"
#include "thread/thread_state.h"

#include <nopspan/context.h>
#include <nopspan/fields.h>

#include <atomic>

namespace nopspan {
namespace detail {
namespace {

// The keys, as numbers of interned labels. Each is set once and never changes.
std::atomic<std::uint16_t> keys[kExtraLabels];

constexpr std::size_t kNone = kExtraLabels;

// The index of a key that was taken, or kNone.
std::size_t find_key(std::string_view key) noexcept {
  for (std::size_t i = 0; i < kExtraLabels; ++i) {
    const std::uint16_t number = keys[i].load(std::memory_order_acquire);
    if (number == kNoLabel) break;
    if (label(number).view() == key) return i;
  }
  return kNone;
}

// The index of a key. If the key is new, it takes the next free place. kNone if no place is free.
std::size_t take_key(std::string_view key) noexcept {
  const std::size_t there = find_key(key);
  if (there != kNone || keys[kExtraLabels - 1].load(std::memory_order_relaxed) != kNoLabel) return there;
  const std::uint16_t number = intern_label(key, LabelOf::other);
  if (label(number).view() != key) return kNone;  // the table of labels is full
  for (std::size_t i = 0; i < kExtraLabels; ++i) {
    std::uint16_t taken = kNoLabel;
    if (keys[i].compare_exchange_strong(taken, number, std::memory_order_acq_rel) || taken == number) {
      __atomic_store_n(&nopspan_gate.label_keys[i], number, __ATOMIC_RELAXED);  // for tracers
      return i;
    }
  }
  return kNone;
}

}  // namespace

Interned extra_label_key(std::size_t i) noexcept { return label(keys[i].load(std::memory_order_acquire)); }

void put_label(FieldSink* sink, Text key, Text value) noexcept {
  const InsideLibrary inside;
  if (key.view() == "engine" || key.view() == "model" || key.view() == "tenant") {
    put_text(sink, key, value, false);
    return;
  }
  if (key.empty()) {
    count(counters.fields_dropped);
    return;
  }
  char cleaned[kMaxNameBytes + 1];
  const std::string_view name(cleaned, clean(key.view(), cleaned));
  const std::size_t place = take_key(name);
  if (place == kNone) {
    count(counters.labels_overflow);
    put_text(sink, name, value, false);
    return;
  }
  sink->context.labels[extra_label(place)] = intern_label(value.view(), LabelOf::other);
  if (!sink->takes_fields) return;
  // kAdded, because the attribute is made from the context, for this span and for the spans inside it.
  const bool written = value.is_null() ? sink->fields.put_null(name, FieldEntry::kAdded)
                                       : sink->fields.put_string(name, value.view(), FieldEntry::kAdded);
  count_unless(written);
}

}  // namespace detail

FixedString<63> Context::label(Text key) const noexcept {
  char cleaned[kMaxNameBytes + 1];
  const std::string_view name(cleaned, key.empty() ? 0 : detail::clean(key.view(), cleaned));
  std::size_t place = 0;
  if (name == "engine") {
    place = detail::ContextAccess::engine;
  } else if (name == "model") {
    place = detail::ContextAccess::model;
  } else if (name == "tenant") {
    place = detail::ContextAccess::tenant;
  } else {
    const std::size_t extra = detail::find_key(name);
    if (extra == detail::kNone) return {};
    place = detail::extra_label(extra);
  }
  return FixedString<63>(detail::label(head_.labels[place]).view());
}

}  // namespace nopspan
