// SPDX-License-Identifier: Apache-2.0
// The in-process side of an event: who gets it.
#pragma once

#include "thread/thread_state.h"

#include <nopspan/event.h>
#include <nopspan/registry.h>

#include <atomic>
#include <string_view>

namespace nopspan::detail {

struct HandlerList;

// Which ends of event names have a handler: a span asks before it takes part in the registry.
inline constexpr unsigned kStart = 1, kStop = 2, kException = 4;
extern std::atomic<unsigned> handled_suffixes;
inline bool is_handled(unsigned suffix) noexcept {
  return (handled_suffixes.load(std::memory_order_relaxed) & suffix) != 0;
}

// An event's name: `suffix` is its last segment, with the dot.
struct EventName {
  constexpr EventName(std::string_view span, std::string_view end) noexcept : base(span), suffix(end) {}
  explicit constexpr EventName(std::string_view name) noexcept
      : base(name.substr(0, name.rfind('.'))), suffix(name.substr(base.size())) {}

  std::string_view base;
  std::string_view suffix;
};

// One event on its way to its handlers: begun with the name, so that the event is made only if somebody wants it. Not
// inside a LibraryGuard: handlers are application code.
class Dispatch {
 public:
  explicit Dispatch(const EventName& name) noexcept;
  ~Dispatch();
  Dispatch(const Dispatch&) = delete;
  Dispatch& operator=(const Dispatch&) = delete;

  // Whether the event has a handler.
  explicit operator bool() const noexcept { return handlers_ != nullptr; }
  // The event's name as a whole, if it has a handler.
  [[nodiscard]] std::string_view name() const noexcept;
  // Calls the handlers, in order of attachment. Passes on nothing but thread exit.
  void run(Event& event);

 private:
  ThreadState* thread_ = nullptr;  // set while this thread reads the table
  bool outermost_ = false;         // and began to here
  const HandlerList* handlers_ = nullptr;
  KeptErrno kept_errno_;
};

// Around fork().
void lock_registry() noexcept;
void unlock_registry() noexcept;

}  // namespace nopspan::detail
