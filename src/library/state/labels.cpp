// SPDX-License-Identifier: Apache-2.0
#include "state/labels.h"

#include "base/clean_text.h"
#include "base/counters.h"
#include "fields/attribute_keys.h"
#include "gate/gate.h"
#include "state/span_state.h"
#include "thread/thread_state.h"

#include <nopspan/context.h>
#include <nopspan/fields.h>
#include <nopspan/propagation.h>

#include <atomic>

namespace nopspan {
namespace detail {
namespace {

// The keys, as numbers of interned labels. Each is set once and never changes.
std::atomic<std::uint16_t> keys[kExtraLabels];

// A key as text that the process may show.
class CleanKey {
 public:
  explicit CleanKey(Text key) noexcept : size_(key.empty() ? 0 : clean(key.view(), text_)) {}
  [[nodiscard]] std::string_view view() const noexcept { return {text_, size_}; }

 private:
  char text_[kMaxNameBytes + 1];
  std::size_t size_;
};

// The index of an extra key that was taken, or kNone.
std::size_t find_extra(std::string_view key) noexcept {
  for (std::size_t i = 0; i < kExtraLabels; ++i) {
    const std::uint16_t number = keys[i].load(std::memory_order_acquire);
    if (number == kNoLabel) break;
    if (label(number).view() == key) return extra_label(i);
  }
  return kNone;
}

// The index of an extra key. If the key is new, it takes the next free place. kNone if no place is free.
std::size_t take_extra(std::string_view key) noexcept {
  const std::size_t there = find_extra(key);
  if (there != kNone || keys[kExtraLabels - 1].load(std::memory_order_relaxed) != kNoLabel) return there;
  const std::uint16_t number = intern_label(key, LabelOf::other);
  if (label(number).view() != key) return kNone;  // the table of labels is full
  for (std::size_t i = 0; i < kExtraLabels; ++i) {
    std::uint16_t taken = kNoLabel;
    if (keys[i].compare_exchange_strong(taken, number, std::memory_order_acq_rel) || taken == number) {
      __atomic_store_n(&nopspan_gate.label_keys[i], number, __ATOMIC_RELAXED);  // for tracers
      return extra_label(i);
    }
  }
  return kNone;
}

}  // namespace

Interned extra_label_key(std::size_t i) noexcept { return label(keys[i].load(std::memory_order_acquire)); }

std::size_t find_label(std::string_view key, bool add) noexcept {
  if (key == "engine") return ContextAccess::engine;
  if (key == "model") return ContextAccess::model;
  if (key == "tenant") return ContextAccess::tenant;
  if (!add || key.empty()) return find_extra(key);
  // Content does not become a label, because labels travel to other processes.
  const std::size_t place = is_content_name(key) ? kNone : take_extra(key);
  if (place == kNone) count(counters.labels_overflow);
  return place;
}

std::string_view travelling_key(std::size_t label) noexcept {
  return label == ContextAccess::tenant ? "tenant" : extra_label_key(label - ContextAccess::extra).view();
}

void put_label(FieldSink* sink, Text key, Text value) noexcept {
  const InsideLibrary inside;
  if (key.empty()) {
    count(counters.fields_dropped);
    return;
  }
  const CleanKey name(key);
  const bool is_content = is_content_key(*sink, name.view());
  if (is_content) count(counters.labels_overflow);
  const std::size_t place = is_content ? kNone : find_label(name.view(), true);
  if (place < ContextAccess::extra || place == kNone) {
    put_text(sink, name.view(), value, false);
    return;
  }
  sink->context.labels[place] = intern_label(value.view(), LabelOf::other);
  if (!takes_fields(*sink, counters.fields_dropped)) return;
  // kAdded, because the attribute is made from the context, for this span and for the spans inside it.
  const bool written = value.is_null() ? sink->fields.put_null(name.view(), FieldEntry::kAdded)
                                       : sink->fields.put_string(name.view(), value.view(), FieldEntry::kAdded);
  count_unless(written);
}

}  // namespace detail

FixedString<63> Context::label(Text key) const noexcept {
  const std::size_t place = detail::find_label(detail::CleanKey(key).view(), false);
  return place == detail::kNone ? FixedString<63>() : FixedString<63>(detail::label(head_.labels[place]).view());
}

Context Context::with_label(Text key, Text value) const noexcept {
  const detail::InsideLibrary inside;
  Context changed = *this;
  const std::size_t place = detail::find_label(detail::CleanKey(key).view(), true);
  if (place == detail::kNone) return changed;
  if (place == detail::ContextAccess::engine) changed.head_.provider = detail::kNoLabel;
  const bool is_model = place == detail::ContextAccess::engine || place == detail::ContextAccess::model;
  changed.head_.labels[place] =
      detail::intern_label(value.view(), is_model ? detail::LabelOf::model : detail::LabelOf::other);
  return changed;
}

bool declare_label(Text key) noexcept {
  const detail::InsideLibrary inside;
  return detail::find_label(detail::CleanKey(key).view(), true) != detail::kNone;
}

}  // namespace nopspan
