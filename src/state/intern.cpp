// SPDX-License-Identifier: Apache-2.0
#include "state/intern.h"

#include "base/clean_text.h"
#include "base/counters.h"
#include "base/hash.h"
#include "thread/thread_state.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace nopspan {
namespace detail {
namespace {

// A hash set with open addressing. Slots are pointers to immutable entries. Each is set once, by compare-and-swap, and
// is never changed or freed. So readers and writers need no lock, and fork() cannot leave one locked. At most half of
// the slots are used, so a search always ends.
class InternTable {
 public:
  static constexpr std::size_t kCapacity = 4096;
  static constexpr std::size_t kSlots = 2 * kCapacity;

  struct Entry {
    std::uint64_t hash;
    std::uint32_t size;
    std::uint32_t number;
    // The text and a NUL follow the entry in memory.
    [[nodiscard]] const char* text() const noexcept { return reinterpret_cast<const char*>(this + 1); }
  };

  // Null if the table is full or memory runs out.
  const Entry* intern(std::string_view text) noexcept {
    const std::uint64_t hash = hash_bytes(text);
    Entry* made = nullptr;
    for (std::size_t i = hash % kSlots, probes = 0; probes < kSlots; i = (i + 1) % kSlots, ++probes) {
      Entry* there = slots_[i].load(std::memory_order_acquire);
      if (there == nullptr) {
        if (made == nullptr) made = make(text, hash);
        if (made == nullptr) return nullptr;
        if (slots_[i].compare_exchange_strong(there, made, std::memory_order_acq_rel)) {
          by_number_[made->number].store(made, std::memory_order_release);
          return made;
        }
      }
      if (there->hash == hash && std::string_view(there->text(), there->size) == text) {
        if (made != nullptr) {  // another thread was faster; the number of `made` stays unused
          std::free(made);
        }
        return there;
      }
    }
    std::free(made);
    return nullptr;
  }

  [[nodiscard]] const Entry* at(std::uint32_t number) const noexcept {
    return number < kCapacity ? by_number_[number].load(std::memory_order_acquire) : nullptr;
  }

 private:
  Entry* make(std::string_view text, std::uint64_t hash) noexcept {
    std::uint32_t number = used_.load(std::memory_order_relaxed);
    do {
      if (number >= kCapacity) return nullptr;
    } while (!used_.compare_exchange_weak(number, number + 1, std::memory_order_relaxed));
    auto* entry = static_cast<Entry*>(std::malloc(sizeof(Entry) + text.size() + 1));
    if (entry == nullptr) return nullptr;
    entry->hash = hash;
    entry->size = static_cast<std::uint32_t>(text.size());
    entry->number = number;
    char* copy = reinterpret_cast<char*>(entry + 1);
    std::memcpy(copy, text.data(), text.size());
    copy[text.size()] = '\0';
    return entry;
  }

  std::atomic<Entry*> slots_[kSlots] = {};
  std::atomic<Entry*> by_number_[kCapacity] = {};
  std::atomic<std::uint32_t> used_{0};
};

InternTable names;
InternTable labels;
constexpr std::uint16_t kFirstLabel = 2;  // numbers 0 and 1 are "" and "other"

constexpr std::string_view kOverflowName = "nopspan.overflow";

// The text itself if it is a valid name. Otherwise it is repaired, in `room`, and counted.
std::string_view valid_name(std::string_view text, char (&room)[kMaxNameBytes + 1]) noexcept {
  if (is_clean(text)) return text;
  count(counters.names_invalid);
  if (text.empty()) return "unnamed";
  return {room, clean(text, room)};
}

std::string_view intern_name(std::string_view text) noexcept {
  char room[kMaxNameBytes + 1];
  const InternTable::Entry* entry = names.intern(valid_name(text, room));
  if (entry == nullptr) {
    count(counters.names_overflow);
    return kOverflowName;
  }
  return {entry->text(), entry->size};
}

}  // namespace

Interned copy_unusual_name(const Name& name, char (&out)[kMaxNameBytes + 1]) noexcept {
  char room[kMaxNameBytes + 1];
  const std::string_view text =
      NameAccess::is_constant(name) ? valid_name(name.view(), room) : intern_name(name.view());
  std::memcpy(out, text.data(), text.size());
  out[text.size()] = '\0';
  return {out, text.size(), hash_bytes(text)};
}

std::uint16_t intern_label(std::string_view text) noexcept {
  if (text.empty()) return kNoLabel;
  char cleaned[kMaxNameBytes + 1];
  if (!is_clean(text)) text = {cleaned, clean(text, cleaned)};
  const InternTable::Entry* entry = labels.intern(text);
  if (entry == nullptr) {
    count(counters.labels_overflow);
    return 1;
  }
  return static_cast<std::uint16_t>(entry->number + kFirstLabel);
}

Interned label(std::uint16_t number) noexcept {
  if (number == kNoLabel) return {"", 0, 0};
  const InternTable::Entry* entry = number >= kFirstLabel ? labels.at(number - kFirstLabel) : nullptr;
  return entry == nullptr ? Interned{"other", 5, hash_bytes("other")}
                          : Interned{entry->text(), entry->size, entry->hash};
}

}  // namespace detail

Name Name::intern(Text name) noexcept {
  const detail::InsideLibrary inside;
  const std::string_view interned = detail::intern_name(name.view());
  return {interned.data(), interned.size()};
}

}  // namespace nopspan
