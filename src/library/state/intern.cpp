// SPDX-License-Identifier: Apache-2.0
#include "state/intern.h"

#include "base/counters.h"
#include "thread/thread_state.h"

#include <atomic>

namespace nopspan {
namespace detail {
namespace {

// A hash set of the texts in `entries` with the numbers from kFirst to kFirst + kNumbers - 1. It holds kLimit texts.
// The other numbers are for threads that add a text at the same time.
//
// How it works: the slots are a hash table with open addressing, and hold numbers. A thread that adds a text takes a
// number, writes the entry, and then sets a slot by compare-and-swap. If another thread has added the same text
// meanwhile, the number becomes a spare one, which the next thread takes first. A slot is set once and never changes.
// So no function waits for another thread, and fork() cannot leave a lock locked. About half of the slots are used at
// most, so a search always ends.
template <nopspan_label* entries, std::size_t kFirst, std::size_t kNumbers, std::size_t kLimit>
class InternTable {
 public:
  // Null if the table is full.
  const nopspan_label* intern(std::string_view text) noexcept {
    const std::uint64_t hash = hash_bytes(text);
    std::size_t made = kNumbers;  // none
    for (std::size_t slot = hash % kSlots;; slot = (slot + 1) % kSlots) {
      std::uint16_t number = slots_[slot].load(std::memory_order_acquire);
      if (number == 0) {
        if (made == kNumbers) made = make(text, hash);
        const auto mine = static_cast<std::uint16_t>(made + 1);
        if (made == kNumbers) {  // full, possibly because another thread has just added this text
          number = slots_[slot].load(std::memory_order_acquire);
          if (number == 0) return nullptr;
        } else if (slots_[slot].compare_exchange_strong(number, mine, std::memory_order_acq_rel)) {
          texts_.fetch_add(1, std::memory_order_release);
          number = mine;
          made = kNumbers;
        }
      }
      nopspan_label& entry = entries[kFirst + number - 1];
      if (entry.reserved != hash || std::memcmp(entry.text, text.data(), text.size()) != 0 ||
          entry.text[text.size()] != '\0') {
        continue;
      }
      if (made != kNumbers) spare_[made / 64].fetch_or(std::uint64_t{1} << (made % 64), std::memory_order_release);
      // Also if another thread made the entry, because that thread may be about to do this.
      if (__atomic_load_n(&entry.size, __ATOMIC_RELAXED) == 0) {
        __atomic_store_n(&entry.size, static_cast<unsigned>(text.size()), __ATOMIC_RELEASE);
      }
      return &entry;
    }
  }

 private:
  static constexpr std::size_t kSlots = 8192;
  static_assert(kNumbers <= kSlots * 9 / 16);

  // Writes an entry without its size, and returns its place. kNumbers if the table is full.
  std::size_t make(std::string_view text, std::uint64_t hash) noexcept {
    if (texts_.load(std::memory_order_acquire) >= kLimit) return kNumbers;
    const std::size_t place = take_number();
    if (place == kNumbers) return kNumbers;
    nopspan_label& entry = entries[kFirst + place];
    entry.reserved = hash;
    entry.number = static_cast<unsigned>(kFirst + place);
    std::memset(entry.text, 0, sizeof(entry.text));  // a spare entry has another text
    std::memcpy(entry.text, text.data(), text.size());
    return place;
  }

  std::size_t take_number() noexcept {
    for (std::size_t i = 0; i < sizeof(spare_) / sizeof(spare_[0]); ++i) {
      for (std::uint64_t bits = spare_[i].load(std::memory_order_relaxed); bits != 0; bits &= bits - 1) {
        const std::uint64_t bit = bits & -bits;
        if ((spare_[i].fetch_and(~bit, std::memory_order_acquire) & bit) != 0) {
          return i * 64 + static_cast<std::size_t>(__builtin_ctzll(bit));
        }
      }
    }
    std::size_t next = taken_.load(std::memory_order_relaxed);
    while (next < kNumbers && !taken_.compare_exchange_weak(next, next + 1, std::memory_order_relaxed)) {
    }
    return next;
  }

  std::atomic<std::uint16_t> slots_[kSlots] = {};             // place + 1 of an entry; 0: free
  std::atomic<std::uint64_t> spare_[kNumbers / 64 + 1] = {};  // bit i: number i was taken, and given back
  std::atomic<std::size_t> taken_{0};                         // the numbers below were taken
  std::atomic<std::size_t> texts_{0};                         // the entries that slots refer to
};

constexpr std::size_t kSparePlaces = 96;
constexpr std::size_t kMaxNames = 4096;
nopspan_label name_table[kMaxNames + kSparePlaces];
InternTable<name_table, 0, kMaxNames + kSparePlaces, kMaxNames> names;

// Number 0 is "", and number 1 is "other".
constexpr std::size_t kFirstLabel = 2;
constexpr std::size_t kFirstOther = kLabels / 2;
InternTable<label_table, kFirstLabel, kFirstOther - kFirstLabel, kMaxLabels> model_labels;
InternTable<label_table, kFirstOther, kLabels - kFirstOther, kMaxLabels> other_labels;
static_assert(kMaxLabels + kSparePlaces - kFirstLabel <= kFirstOther - kFirstLabel);

__attribute__((constructor)) void make_label_other() noexcept {
  label_table[kOverflowLabel] = {hash_bytes("other"), 5, kOverflowLabel, "other"};
}

// The text itself if it is a valid name. Otherwise it is repaired, in `room`, and counted.
std::string_view valid_name(std::string_view text, char (&room)[kMaxNameBytes + 1]) noexcept {
  if (is_clean(text)) return text;
  count(counters.names_invalid);
  if (text.empty()) return "unnamed";
  return {room, clean(text, room)};
}

std::string_view intern_name(std::string_view text) noexcept {
  char room[kMaxNameBytes + 1];
  const std::string_view valid = valid_name(text, room);
  const nopspan_label* entry = names.intern(valid);
  if (entry == nullptr) {
    count(counters.names_overflow);
    return "nopspan.overflow";
  }
  return {entry->text, valid.size()};
}

}  // namespace

nopspan_label label_table[kLabels];

Interned copy_unusual_name(const Name& name, char (&out)[kMaxNameBytes + 1]) noexcept {
  char room[kMaxNameBytes + 1];
  const std::string_view text =
      NameAccess::is_constant(name) ? valid_name(name.view(), room) : intern_name(name.view());
  std::memcpy(out, text.data(), text.size());
  out[text.size()] = '\0';
  return {out, text.size(), hash_bytes(text)};
}

std::uint16_t intern_label(std::string_view text, LabelOf of) noexcept {
  if (text.empty()) return kNoLabel;
  char cleaned[kMaxNameBytes + 1];
  if (!is_clean(text)) text = {cleaned, clean(text, cleaned)};
  const nopspan_label* entry = of == LabelOf::model ? model_labels.intern(text) : other_labels.intern(text);
  if (entry == nullptr) {
    count(counters.labels_overflow);
    return kOverflowLabel;
  }
  return static_cast<std::uint16_t>(entry->number);
}

}  // namespace detail

Name Name::intern(Text name) noexcept {
  const detail::InsideLibrary inside;
  const std::string_view interned = detail::intern_name(name.view());
  return {interned.data(), interned.size() + 1};
}

}  // namespace nopspan
