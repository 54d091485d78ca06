// SPDX-License-Identifier: Apache-2.0
// The handlers of each event: a hash table from the names of events to lists of handlers. Readers use it while one
// writer changes it. registry.cpp explains epochs, and who writes and reads.
//
// The handlers of prefixes ("db.*") are in one list. Each event goes through it.
//
// A handler is appended to the list of its event in place. A list without free slots, or with many detached handlers,
// is replaced by a new list. The same is true for the table and its names. The sizes are doubled, so attaching and
// detaching n handlers takes time and memory in proportion to n. Only what was replaced is retired.
#pragma once

#include "handlers/registry.h"
#include "thread/thread_state.h"

#include <nopspan/registry.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::detail {

// What one call of attach() attached.
struct Attachment {
  std::string id;
  Handler handler;
  Value config;
  std::vector<std::string> events;
  std::uint64_t since;  // the epoch that begins when it is attached
  std::uint64_t until;  // the epoch that begins when it is detached

  const ThreadLocals* destroyer = nullptr;  // the thread that is destroying the captures
};

// Memory that readers may still be using after a writer has replaced it.
struct Replaceable {
  Replaceable() = default;
  virtual ~Replaceable() = default;
  Replaceable(const Replaceable&) = delete;
  Replaceable& operator=(const Replaceable&) = delete;

  Replaceable* next_retired = nullptr;
  std::uint64_t retired_in = 0;  // readers of this epoch, or of a later one, do not use it
};

// The handlers of one event, or of prefixes, in order of attachment.
struct HandlerSlot {
  static constexpr std::uint64_t kForever = UINT64_MAX;

  const Attachment* attachment = nullptr;  // dangling after `until`
  std::string_view prefix;                 // "db." of "db.*"; in the attachment
  std::uint64_t since = 0;
  std::atomic<std::uint64_t> until{kForever};
};
struct HandlerList : Replaceable {
  HandlerList(std::string_view name, std::uint64_t name_hash, std::size_t capacity)
      : event(name), hash(name_hash), slots(capacity) {}

  std::string event;
  std::uint64_t hash;
  std::vector<HandlerSlot> slots;
  std::atomic<std::size_t> used{0};             // the first slots; the others are free
  std::atomic<std::size_t> live{0};             // used slots of handlers that are attached
  std::size_t reserved = 0;                     // free slots that reserve() has promised
  mutable std::atomic<bool> has_warned{false};  // warn_of_event() has logged it
};

// "db.*" stands for all events below "db", and "*" for all events.
inline bool is_prefix(std::string_view event) noexcept { return !event.empty() && event.back() == '*'; }

// An instance in static storage needs no constructor to run.
class HandlerTable {
 public:
  // The list of an event that has a handler, or null.
  [[nodiscard]] const HandlerList* find(const EventName& name) const noexcept;
  // The list of all prefixes, or null if there is none.
  [[nodiscard]] const HandlerList* prefixes() const noexcept;
  // The next two use no memory that is ever freed, so the caller need not be a reader. False if no handler is attached
  // to an event .start, .stop or .exception of a span with this name, or to a prefix of these.
  [[nodiscard]] bool may_handle_span(const Interned& name) const noexcept;
  // False if no handler is attached to another event whose name has this hash.
  [[nodiscard]] bool may_handle_event(std::uint64_t hash) const noexcept {
    return events_[hash % kSpans].load(std::memory_order_relaxed) != 0;
  }

  // The rest is for the writer.

  // Makes room for the attachment in the lists of its events. Takes the lock for each change, and allocates without it.
  // Throws std::bad_alloc.
  void reserve(const Attachment& attachment, std::mutex& lock);
  // Appends the attachment to the lists of its events, after reserve(). The caller holds the lock.
  void append(const Attachment& attachment) noexcept;
  // Ends the attachment in the lists of its events, with its `until`. The caller holds the lock.
  void remove(const Attachment& attachment) noexcept;
  // Replaces what has become much too large, after remove(), and retires it with the epoch `next`. Takes the lock as
  // reserve() does. Returns false if there was nothing.
  bool save_memory(const Attachment& attachment, std::uint64_t next, std::mutex& lock) noexcept;
  // Called in the child after fork(): the writer that had reserved room does not exist there.
  void forget_reserved() noexcept;
  // The suffixes of the events that have a handler: kStart, kStop, kException.
  [[nodiscard]] unsigned suffixes() const noexcept;
  // Takes what was retired first, unless that was after the epoch `unread`.
  std::unique_ptr<Replaceable> take_retired(std::uint64_t unread) noexcept;
  // Frees all memory. There must be no reader and no handler.
  void clear() noexcept;

 private:
  using Place = std::atomic<HandlerList*>;
  struct Names : Replaceable {  // with open addressing
    explicit Names(std::size_t size) : places(size) {}
    Place& find(const EventName& name, std::uint64_t hash) noexcept;

    std::vector<Place> places;  // a power of two, at most half of them used
    std::size_t used = 0;
  };

  Place* find_place(std::string_view event) noexcept;
  HandlerList* resize(Place& place, std::uint64_t next, std::mutex& lock);
  void rebuild(std::size_t more_names, std::uint64_t next, std::mutex& lock);
  void retire(Replaceable* old, std::uint64_t next) noexcept;
  void note(HandlerList& list, const HandlerSlot& slot, bool attached) noexcept;

  std::atomic<Names*> names_{nullptr};  // null before the first attachment
  Place prefixes_{nullptr};             // null before the first attachment to a prefix
  std::size_t live_names_ = 0;          // names that have a handler
  std::size_t handled_[3] = {};         // handlers of events .start, .stop, .exception
  static constexpr std::size_t kSpans = 1024;
  std::atomic<std::uint32_t> spans_[kSpans] = {};   // the same handlers, by the hash of the span's name
  std::atomic<std::uint32_t> events_[kSpans] = {};  // the handlers of other events, by the hash of the name
  static constexpr std::size_t kPrefixes = 256;
  std::atomic<bool> has_prefixes_{false};             // there is a handler of a prefix
  std::atomic<std::uint32_t> below_[kPrefixes] = {};  // the handlers of prefixes, by the hash without ".*"
  Replaceable* retired_ = nullptr;                    // in order of `retired_in`
  Replaceable* last_retired_ = nullptr;
};

}  // namespace nopspan::detail
