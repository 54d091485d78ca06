// SPDX-License-Identifier: Apache-2.0
#include "handlers/handler_table.h"

#include "base/copy_bytes.h"
#include "base/hash.h"

#include <algorithm>
#include <new>

namespace nopspan::detail {
namespace {

// The two parts of a name are hashed separately, so that the lookup of a span's event need not join them.
std::uint64_t hash_of(const EventName& name) noexcept {
  return name.base_hash * 0x9e3779b97f4a7c15U + name.suffix_hash;
}

bool is_named(const HandlerList& list, const EventName& name) noexcept {
  return list.event.size() == name.base.size() + name.suffix.size() &&
         is_same(list.event.data(), name.base.data(), name.base.size()) &&
         is_same(list.event.data() + name.base.size(), name.suffix.data(), name.suffix.size());
}

}  // namespace

// The place of the list with this name, or the empty place where it belongs.
HandlerTable::Place& HandlerTable::Names::find(const EventName& name, std::uint64_t hash) noexcept {
  for (std::size_t i = hash;; ++i) {
    Place& place = places[i & (places.size() - 1)];
    const HandlerList* list = place.load(std::memory_order_acquire);
    if (list == nullptr || (list->hash == hash && is_named(*list, name))) return place;
  }
}

const HandlerList* HandlerTable::find(const EventName& name) const noexcept {
  Names* names = names_.load(std::memory_order_acquire);
  if (names == nullptr) return nullptr;
  const HandlerList* list = names->find(name, hash_of(name)).load(std::memory_order_acquire);
  return list != nullptr && list->live.load(std::memory_order_relaxed) != 0 ? list : nullptr;
}

const HandlerList* HandlerTable::prefixes() const noexcept {
  const HandlerList* list = prefixes_.load(std::memory_order_acquire);
  return list != nullptr && list->live.load(std::memory_order_relaxed) != 0 ? list : nullptr;
}

bool HandlerTable::may_handle_span(const Interned& name) const noexcept {
  if (spans_[name.hash % kSpans].load(std::memory_order_relaxed) != 0) return true;
  if (__builtin_expect(!has_prefixes_.load(std::memory_order_relaxed), 1)) return false;
  const auto is_below = [this](std::string_view prefix) {
    return below_[hash_bytes(prefix) % kPrefixes].load(std::memory_order_relaxed) != 0;
  };
  const std::string_view text = name.view();
  for (std::size_t dot = text.find('.'); dot != std::string_view::npos; dot = text.find('.', dot + 1)) {
    if (is_below(text.substr(0, dot))) return true;
  }
  return is_below(text) || is_below("");
}

// The place of an event's list, or of the list of prefixes. Null if there are no names yet.
HandlerTable::Place* HandlerTable::find_place(std::string_view event) noexcept {
  if (is_prefix(event)) return &prefixes_;
  Names* const names = names_.load(std::memory_order_relaxed);
  return names != nullptr ? &names->find(EventName(event), hash_of(EventName(event))) : nullptr;
}

void HandlerTable::reserve(const Attachment& attachment, std::mutex& lock) {
  const auto reserve = [&](const std::string& event) {
    const bool is_name = !is_prefix(event);
    const Names* names = names_.load(std::memory_order_relaxed);
    if (is_name && (names == nullptr || 2 * (names->used + 1) > names->places.size()))
      rebuild(attachment.events.size(), attachment.since, lock);
    Place& place = *find_place(event);
    HandlerList* list = place.load(std::memory_order_relaxed);
    if (list == nullptr) {
      list = new HandlerList(is_name ? event : "*", hash_of(EventName(event)), 2);
      const std::lock_guard<std::mutex> locked(lock);
      place.store(list, std::memory_order_release);
      if (is_name) ++names_.load(std::memory_order_relaxed)->used;
    }
    if (list->used.load(std::memory_order_relaxed) + list->reserved == list->slots.size()) {
      list = resize(place, attachment.since, lock);
    }
    ++list->reserved;
  };
  std::size_t done = 0;
  try {
    for (; done < attachment.events.size(); ++done) reserve(attachment.events[done]);
  } catch (const std::bad_alloc&) {
    while (done > 0) --find_place(attachment.events[--done])->load(std::memory_order_relaxed)->reserved;
    throw;
  }
}

void HandlerTable::append(const Attachment& attachment) noexcept {
  for (const std::string_view event : attachment.events) {
    HandlerList* const list = find_place(event)->load(std::memory_order_relaxed);
    HandlerSlot& slot = list->slots[list->used.load(std::memory_order_relaxed)];
    slot.attachment = &attachment;
    if (is_prefix(event)) slot.prefix = event.substr(0, event.size() - 1);
    slot.since = attachment.since;
    --list->reserved;
    list->used.fetch_add(1, std::memory_order_release);
    note(*list, slot, true);
  }
}

void HandlerTable::remove(const Attachment& attachment) noexcept {
  for (const std::string& event : attachment.events) {
    HandlerList* const list = find_place(event)->load(std::memory_order_relaxed);
    const std::size_t used = list->used.load(std::memory_order_relaxed);
    const auto end = list->slots.begin() + static_cast<std::ptrdiff_t>(used);
    auto slot = std::lower_bound(list->slots.begin(), end, attachment.since,
                                 [](const HandlerSlot& s, std::uint64_t since) { return s.since < since; });
    for (; slot != end && slot->since == attachment.since; ++slot) {
      if (slot->attachment != &attachment || slot->until.load(std::memory_order_relaxed) <= attachment.until) continue;
      slot->until.store(attachment.until, std::memory_order_relaxed);
      note(*list, *slot, false);
    }
  }
}

bool HandlerTable::save_memory(const Attachment& attachment, std::uint64_t next, std::mutex& lock) noexcept {
  bool has_retired = false;
  try {
    for (const std::string& event : attachment.events) {
      Place* const place = find_place(event);
      const HandlerList* const list = place->load(std::memory_order_relaxed);
      const std::size_t used = list->used.load(std::memory_order_relaxed);
      if (used <= 8 || 2 * list->live.load(std::memory_order_relaxed) >= used) continue;
      resize(*place, next, lock);
      has_retired = true;
    }
    const Names* names = names_.load(std::memory_order_relaxed);
    if (names != nullptr && names->used > 2 * live_names_ + 8) {
      rebuild(0, next, lock);
      has_retired = true;
    }
  } catch (const std::bad_alloc&) {  // a later call tries again
  }
  return has_retired;
}

void HandlerTable::forget_reserved() noexcept {
  if (HandlerList* const list = prefixes_.load(std::memory_order_relaxed)) list->reserved = 0;
  Names* const names = names_.load(std::memory_order_relaxed);
  if (names == nullptr) return;
  for (const Place& place : names->places) {
    if (HandlerList* const list = place.load(std::memory_order_relaxed)) list->reserved = 0;
  }
}

// Counts a handler that was added to a list, or has ended in it.
void HandlerTable::note(HandlerList& list, const HandlerSlot& slot, bool attached) noexcept {
  const std::size_t change = attached ? 1 : -std::size_t{1};
  const auto change32 = static_cast<std::uint32_t>(change);
  const std::size_t before = list.live.fetch_add(change, std::memory_order_relaxed);
  const bool is_first_or_last = before + change == 0 || before == 0;
  if (is_prefix(list.event)) {
    const std::string_view below = slot.prefix.substr(0, slot.prefix.empty() ? 0 : slot.prefix.size() - 1);
    below_[hash_bytes(below) % kPrefixes].fetch_add(change32, std::memory_order_relaxed);
    if (is_first_or_last) has_prefixes_.store(attached, std::memory_order_relaxed);
    for (std::size_t& handled : handled_) handled += change;
    return;
  }
  if (is_first_or_last) live_names_ += change;
  const EventName name(list.event);
  const bool is_start = name.suffix == ".start" || name.suffix == ".iteration_start";
  const bool is_stop = name.suffix == ".stop";
  if (!is_start && !is_stop && name.suffix != ".exception") {
    events_[hash_bytes(list.event) % kSpans].fetch_add(change32, std::memory_order_relaxed);
    return;
  }
  handled_[is_start ? 0 : is_stop ? 1 : 2] += change;
  spans_[name.base_hash % kSpans].fetch_add(change32, std::memory_order_relaxed);
}

unsigned HandlerTable::suffixes() const noexcept {
  return (handled_[0] != 0 ? kStart : 0) | (handled_[1] != 0 ? kStop : 0) | (handled_[2] != 0 ? kException : 0);
}

// Replaces the list by one with free slots and without the handlers that were detached.
HandlerList* HandlerTable::resize(Place& place, std::uint64_t next, std::mutex& lock) {
  HandlerList* old = place.load(std::memory_order_relaxed);
  const std::size_t live = old->live.load(std::memory_order_relaxed);
  auto* made = new HandlerList(old->event, old->hash, 2 * (live + old->reserved + 1));
  const std::lock_guard<std::mutex> locked(lock);
  made->reserved = old->reserved;
  auto at = made->slots.begin();
  made->has_warned.store(old->has_warned.load(std::memory_order_relaxed), std::memory_order_relaxed);
  for (const HandlerSlot& slot : old->slots) {
    if (slot.attachment == nullptr || slot.until.load(std::memory_order_relaxed) != HandlerSlot::kForever) continue;
    at->attachment = slot.attachment;
    at->prefix = slot.prefix;
    at->since = slot.since;
    ++at;
  }
  made->used.store(live, std::memory_order_relaxed);
  made->live.store(live, std::memory_order_relaxed);
  place.store(made, std::memory_order_release);
  retire(old, next);
  return made;
}

// Replaces the table of names by one with places for so many more, and without the names that have no handler.
void HandlerTable::rebuild(std::size_t more_names, std::uint64_t next, std::mutex& lock) {
  std::size_t size = 8;
  while (size < 4 * (live_names_ + more_names + 1)) size *= 2;
  auto* made = new Names(size);
  Names* old = names_.load(std::memory_order_relaxed);
  const std::lock_guard<std::mutex> locked(lock);
  const std::size_t places = old == nullptr ? 0 : old->places.size();
  for (std::size_t i = 0; i < places; ++i) {
    HandlerList* list = old->places[i].load(std::memory_order_relaxed);
    if (list == nullptr) continue;
    if (list->live.load(std::memory_order_relaxed) == 0 && list->reserved == 0) {
      retire(list, next);
    } else {
      made->find(EventName(list->event), list->hash).store(list, std::memory_order_relaxed);
      ++made->used;
    }
  }
  names_.store(made, std::memory_order_release);
  if (old != nullptr) retire(old, next);
}

void HandlerTable::retire(Replaceable* old, std::uint64_t next) noexcept {
  old->retired_in = next;
  (retired_ == nullptr ? retired_ : last_retired_->next_retired) = old;
  last_retired_ = old;
}

std::unique_ptr<Replaceable> HandlerTable::take_retired(std::uint64_t unread) noexcept {
  if (retired_ == nullptr || retired_->retired_in > unread) return nullptr;
  std::unique_ptr<Replaceable> taken(retired_);
  retired_ = taken->next_retired;
  return taken;
}

void HandlerTable::clear() noexcept {
  if (HandlerList* const list = prefixes_.exchange(nullptr)) retire(list, 0);
  if (Names* const names = names_.exchange(nullptr); names != nullptr) {
    for (const Place& place : names->places) {
      if (HandlerList* const list = place.load(std::memory_order_relaxed)) retire(list, 0);
    }
    retire(names, 0);
  }
  while (take_retired(UINT64_MAX) != nullptr) {
  }
}

}  // namespace nopspan::detail
