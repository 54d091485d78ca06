// SPDX-License-Identifier: Apache-2.0
// Dispatches an event to the handlers in this process. registry.cpp explains the registry.
#pragma once

#include "base/hash.h"
#include "base/kept_errno.h"
#include "state/catalogue.h"
#include "state/span_state.h"

#include <nopspan/event.h>
#include <nopspan/registry.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string_view>

namespace nopspan::detail {

struct HandlerList;
struct HandlerSlot;

// The suffixes of event names that have a handler. A span checks its suffix first, which is cheaper than a Dispatch.
inline constexpr unsigned kStart = 1, kStop = 2, kException = 4;
extern std::atomic<unsigned> handled_suffixes;
inline bool is_handled(unsigned suffix) noexcept {
  return (handled_suffixes.load(std::memory_order_relaxed) & suffix) != 0;
}

// False if no handler is attached to the event .start, .stop or .exception of a span with this name. True for few other
// names, because it only compares hashes. It does not know that an iteration of the agent catalogue has the event
// .iteration_start.
bool may_be_handled(const Interned& name) noexcept;

// Called when a span starts while handlers are attached. If a handler is attached to an event with the name of the span
// itself, this is probably a mistake, because a span has no such event. It is logged once for each event.
bool may_be_event(const Interned& span) noexcept;  // compares hashes only
void warn_of_event(const Interned& span) noexcept;

// An event's name in two parts. `suffix` is its last segment, with the dot.
struct EventName {
  EventName(const Interned& span, std::string_view end) noexcept
      : base(span.view()), suffix(end), base_hash(span.hash), suffix_hash(hash_bytes(end)) {}
  explicit EventName(std::string_view name) noexcept
      : base(name.substr(0, name.rfind('.'))),
        suffix(name.substr(base.size())),
        base_hash(hash_bytes(base)),
        suffix_hash(hash_bytes(suffix)) {}

  std::string_view base;
  std::string_view suffix;
  std::uint64_t base_hash;
  std::uint64_t suffix_hash;
};

// Dispatches one event. It is constructed with the name alone, so that the event is built only if it has a handler.
// Must not be used inside a LibraryGuard, because handlers are application code.
class Dispatch {
 public:
  explicit Dispatch(const EventName& name) noexcept;
  ~Dispatch();
  Dispatch(const Dispatch&) = delete;
  Dispatch& operator=(const Dispatch&) = delete;

  // True if the event has a handler.
  explicit operator bool() const noexcept { return thread_ != nullptr; }
  // The whole name of the event. Only if it has a handler.
  [[nodiscard]] std::string_view name() noexcept;
  // Calls the handlers in the order in which they were attached, except those that this thread is running already. A
  // handler that throws is detached and reported. Only a thread exit leaves this function.
  void run(Event& event);

 private:
  // The first handler of the event in a list from `at` on, or null. Sets `at` to the place after it.
  const HandlerSlot* next(const HandlerList* list, std::size_t& at) const noexcept;

  ThreadState* thread_ = nullptr;  // null if nothing is dispatched
  EventName name_;
  const HandlerList* handlers_ = nullptr;  // of the event, or null
  const HandlerList* prefixes_ = nullptr;  // of prefixes, if one of them matches
  std::uint64_t epoch_ = 0;                // selects the handlers: those that are attached in this epoch
  unsigned depth_ = 0;                     // the number of dispatches around this one
  bool is_outermost_ = false;              // this Dispatch set the thread's `reading`
  char text_[2 * (kMaxNameBytes + 1)];     // the name, if there are only prefixes
  KeptErrno kept_errno_;
};

inline Shape shape_of(const SpanState& span) noexcept {
  return span.catalogue != nullptr ? span.catalogue->shape : Shape::standard;
}

// Dispatch the events of a span: .start, and .stop or .exception. Must not be called inside a LibraryGuard.
void dispatch_start(SpanState& span);
void dispatch_end(SpanState& span);

// The lock of changes, which fork() takes, so that no other thread is changing anything when the child is copied.
std::mutex& registry_lock() noexcept;
// Called in the child after fork(), with the lock: writers must not wait for other threads that were writers, or that
// were destroying handlers.
void forget_other_threads_of_registry() noexcept;

// Frees the memory of the registry, unless a handler is attached. Called when this code may be about to be unmapped.
// False if another thread holds the lock. A thread that is in fork() does, and its process may never unlock it, because
// dlclose() removes what was to be called after fork().
bool free_registry() noexcept;

}  // namespace nopspan::detail

namespace nopspan {

// Access to the private parts of an Event.
struct EventAccess {
  static void set_config(Event& event, const Value* config) noexcept { event.config_ = config; }
  // Runs the handlers of an event that `state` describes: a span's event, or a point event.
  static void run(detail::Dispatch& dispatch, detail::SpanState& state, bool at_end);
};

}  // namespace nopspan
