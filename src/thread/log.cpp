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

// A type of this file: what std templates are made over it stays in this copy of the library, and is not merged with
// another static copy's.
struct Kept {
  LogSink sink;
};

struct Sink {
  std::mutex mutex;
  std::shared_ptr<const Kept> current;  // null: the default
};
// Never destroyed: spans may still end while the program's own statics are.
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
    const InsideLibrary inside;  // a signal handler that logs would wait for the lock for ever
    const std::lock_guard<std::mutex> lock(sink().mutex);
    current = sink().current;
  }
  if (current != nullptr) {
    try {
      current->sink(level, message);
    } catch (...) {
      if (is_thread_exit()) std::terminate();  // there is no way on through noexcept
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
