// SPDX-License-Identifier: Apache-2.0
#include "thread/log.h"

#include "base/exceptions.h"
#include "base/no_cancellation.h"
#include "thread/thread_state.h"

#include <cstdio>
#include <exception>
#include <memory>
#include <mutex>
#include <utility>

namespace nopspan {
namespace {

// std templates are instantiated over this local type, so that their instances stay in this copy of the library. The
// linker would merge instances over a public type with those of another static copy.
struct Kept {
  LogSink sink;
};

struct Sink {
  std::mutex mutex;
  std::shared_ptr<const Kept> current;  // null: the default
};
// Never destroyed, because spans may still end while the destructors of static objects run.
Sink& sink() {
  static Sink* const instance = new Sink;
  return *instance;
}

}  // namespace

const char* to_string(LogLevel level) noexcept {
  switch (level) {
    case LogLevel::debug:
      return "debug";
    case LogLevel::info:
      return "info";
    case LogLevel::warning:
      return "warning";
    case LogLevel::error:
      return "error";
  }
  return "error";
}

void set_log_sink(LogSink new_sink) {
  std::shared_ptr<const Kept> made;
  if (new_sink) made = std::make_shared<const Kept>(Kept{std::move(new_sink)});
  const detail::InsideLibrary inside;
  const std::lock_guard<std::mutex> lock(sink().mutex);
  sink().current.swap(made);
}

namespace detail {

void log(LogLevel level, std::string_view message) noexcept {
  const NoCancellation no_cancellation;
  std::shared_ptr<const Kept> current;
  {
    // Refuses spans in a signal handler that interrupts this block: if one logged, it would deadlock on the mutex.
    const InsideLibrary inside;
    const std::lock_guard<std::mutex> lock(sink().mutex);
    current = sink().current;
  }
  if (current != nullptr) {
    try {
      current->sink(level, message);
    } catch (...) {
      if (is_thread_exit()) std::terminate();  // it must not be swallowed, and it cannot leave a noexcept function
    }
  } else if (level >= LogLevel::warning) {
    const InsideLibrary inside;
    std::fprintf(stderr, "nopspan: %s: %.*s\n", to_string(level), static_cast<int>(message.size()), message.data());
  }
}

void lock_log() noexcept { sink().mutex.lock(); }
void unlock_log() noexcept { sink().mutex.unlock(); }

}  // namespace detail
}  // namespace nopspan
