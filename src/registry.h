// SPDX-License-Identifier: Apache-2.0
// The in-process side of an event: who gets it.
#pragma once

#include "thread_state.h"

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

// One event on its way to its handlers: begun with the name, so that the event is made only if somebody wants it. Not
// inside an Entry: handlers are application code.
class Dispatch {
 public:
  explicit Dispatch(std::string_view name) noexcept;
  ~Dispatch();
  Dispatch(const Dispatch&) = delete;
  Dispatch& operator=(const Dispatch&) = delete;

  // Whether the event has a handler.
  explicit operator bool() const noexcept { return handlers_ != nullptr; }
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
