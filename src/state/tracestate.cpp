// SPDX-License-Identifier: Apache-2.0
#include "state/tracestate.h"

#include "base/counters.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

namespace nopspan::detail {
namespace {

constexpr std::size_t kSlots = 4096;
constexpr std::size_t kMaxMembers = 32;  // W3C Trace Context, 3.3.1.1
constexpr std::size_t kWords = kMaxTracestateBytes / 8;

// One text, protected by a seqlock. A writer makes the generation odd, writes, and makes it even again. A reader copies
// the words, and uses the copy only if the generation was the same before and after. Words are atomic, so the race is
// not undefined behaviour. Nobody ever waits: a writer skips a slot that is being written, so fork() and signals cannot
// leave a lock behind.
struct Slot {
  std::atomic<std::uint64_t> generation;  // odd while it is written
  std::atomic<std::uint64_t> size;
  std::atomic<std::uint64_t> words[kWords];
};
Slot slots[kSlots];
std::atomic<std::uint64_t> next_slot{0};

bool is_lower_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

// True for a simple-key, or a multi-tenant key tenant@system, of the specification.
bool is_key(std::string_view key) {
  const std::size_t at = key.find('@');
  const auto is_part = [](std::string_view part, std::size_t longest, bool digit_first) {
    if (part.empty() || part.size() > longest) return false;
    if (!(part[0] >= 'a' && part[0] <= 'z') && !(digit_first && part[0] >= '0' && part[0] <= '9')) return false;
    return std::all_of(part.begin(), part.end(),
                       [](char c) { return is_lower_or_digit(c) || c == '_' || c == '-' || c == '*' || c == '/'; });
  };
  // The second edition of the specification allows a simple key to begin with a digit.
  if (at == std::string_view::npos) return is_part(key, 256, true);
  return is_part(key.substr(0, at), 241, true) && is_part(key.substr(at + 1), 14, false);
}

bool is_value(std::string_view value) {
  if (value.empty() || value.size() > 256 || value.back() == ' ') return false;
  return std::all_of(value.begin(), value.end(), [](char c) { return c >= 0x20 && c <= 0x7e && c != ',' && c != '='; });
}

std::string_view trim(std::string_view text) {
  const auto is_space = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

struct Members {
  std::array<std::string_view, kMaxMembers> at;
  std::size_t count = 0;
  std::size_t bytes = 0;  // of all members with the commas between them
};

// Splits a header into its members. False if it is malformed.
bool parse(std::string_view header, Members& members) {
  while (true) {
    const std::size_t comma = header.find(',');
    const std::string_view member = trim(header.substr(0, comma));
    if (!member.empty()) {  // empty members are allowed
      const std::size_t equals = member.find('=');
      if (equals == std::string_view::npos) return false;
      const std::string_view key = member.substr(0, equals);
      if (!is_key(key) || !is_value(member.substr(equals + 1)) || members.count == kMaxMembers) return false;
      for (std::size_t i = 0; i < members.count; ++i) {
        if (members.at[i].substr(0, members.at[i].find('=')) == key) return false;  // a key may occur only once
      }
      members.at[members.count++] = member;
      members.bytes += member.size() + (members.count > 1 ? 1 : 0);
    }
    if (comma == std::string_view::npos) return true;
    header.remove_prefix(comma + 1);
  }
}

// Removes whole members, and counts them, until the rest fits: first those of more than 128 bytes, then from the end
// (W3C Trace Context, section 3.3.1.5).
void shorten(Members& members) {
  const auto remove = [&](std::size_t i) {
    members.bytes -= members.at[i].size() + (members.count > 1 ? 1 : 0);
    std::move(members.at.begin() + static_cast<std::ptrdiff_t>(i) + 1,
              members.at.begin() + static_cast<std::ptrdiff_t>(members.count),
              members.at.begin() + static_cast<std::ptrdiff_t>(i));
    --members.count;
    count(counters.invalid_tracestate);
  };
  for (std::size_t i = members.count; i-- > 0 && members.bytes > kMaxTracestateBytes;) {
    if (members.at[i].size() > 128) remove(i);
  }
  while (members.bytes > kMaxTracestateBytes) remove(members.count - 1);
}

}  // namespace

std::uint64_t store_tracestate(std::string_view header) noexcept {
  if (header.empty()) return 0;
  Members members;
  if (!parse(header, members)) {
    count(counters.invalid_tracestate);
    return 0;
  }
  shorten(members);
  if (members.count == 0) return 0;

  char text[kMaxTracestateBytes] = {};
  std::size_t size = 0;
  for (std::size_t i = 0; i < members.count; ++i) {
    if (i > 0) text[size++] = ',';
    std::memcpy(text + size, members.at[i].data(), members.at[i].size());
    size += members.at[i].size();
  }

  for (std::size_t tries = 0; tries < kSlots; ++tries) {
    const std::uint64_t number = next_slot.fetch_add(1, std::memory_order_relaxed) % kSlots;
    Slot& slot = slots[number];
    std::uint64_t generation = slot.generation.load(std::memory_order_relaxed);
    if ((generation & 1U) != 0) continue;  // another thread is writing, or was when this process was forked
    if (!slot.generation.compare_exchange_strong(generation, generation + 1, std::memory_order_acquire)) continue;
    std::atomic_thread_fence(std::memory_order_release);
    slot.size.store(size, std::memory_order_relaxed);
    for (std::size_t i = 0; i < (size + 7) / 8; ++i) {
      std::uint64_t word;
      std::memcpy(&word, text + 8 * i, 8);
      slot.words[i].store(word, std::memory_order_relaxed);
    }
    slot.generation.store(generation + 2, std::memory_order_release);
    return (generation + 2) * kSlots + number;
  }
  count(counters.tracestate_evicted);
  return 0;
}

std::size_t load_tracestate(std::uint64_t handle, char* out) noexcept {
  out[0] = '\0';
  if (handle == 0) return 0;
  const Slot& slot = slots[handle % kSlots];
  const std::uint64_t generation = handle / kSlots;
  if (slot.generation.load(std::memory_order_acquire) == generation) {
    const std::size_t size = std::min<std::size_t>(slot.size.load(std::memory_order_acquire), kMaxTracestateBytes);
    for (std::size_t i = 0; i < (size + 7) / 8; ++i) {
      const std::uint64_t word = slot.words[i].load(std::memory_order_acquire);
      std::memcpy(out + 8 * i, &word, std::min<std::size_t>(8, size - 8 * i));
    }
    if (slot.generation.load(std::memory_order_acquire) == generation) {
      out[size] = '\0';
      return size;
    }
  }
  count(counters.tracestate_evicted);
  out[0] = '\0';
  return 0;
}

}  // namespace nopspan::detail
