// SPDX-License-Identifier: Apache-2.0
#include "base/kept_errno.h"
#include "recorder/session.h"

#include <nopspan/recording.h>
#include <nopspan/span.h>

#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

namespace nopspan::recording {
namespace {

// The session that is open in this process. The pointer is only used while its Writer has it, except at exit() and in
// the child after fork(), where no other thread uses the Writer.
std::atomic<Session*> current{nullptr};

// The rest of the session stays as a copy that nobody uses: its thread does not exist here.
void after_fork_in_child() {
  Session* const session = current.exchange(nullptr);
  if (session != nullptr) session->forget_in_child();
}

// A child that was made by clone() has a copy of the session of its parent.
bool has_session() {
  Session* session = current.load();
  if (session != nullptr && session->is_in_child()) current.compare_exchange_strong(session, nullptr);
  return current.load() != nullptr;
}

// The process is ending: the destructor of a static Writer closes it.
std::atomic<bool> is_exiting{false};

bool finish(Session& session) noexcept {
  if (is_exiting) end_open_spans();  // the library itself does so too late
  return session.finish();
}

// Called at exit(), for a Writer that nobody closed.
__attribute__((destructor)) void close_at_exit() {
  is_exiting = true;
  Session* const session = current.exchange(nullptr);
  if (session != nullptr && !session->is_in_child()) finish(*session);
}

}  // namespace

std::string Writer::open(Text target, const Options& options) {
  const detail::NoCancellation no_cancellation;  // files are closed by destructors, which must not be left
  if (is_open() && !session_->is_in_child()) return "this Writer is open";
  if (target.empty()) return "the target of a recording must be PATH, file:PATH, fd:N or unix:PATH";
  if (has_session()) return "another Writer is open in this process";
  static const int handles_fork = pthread_atfork(nullptr, nullptr, after_fork_in_child);
  // Called before the destructors of what was static before.
  static const int notes_exit = std::atexit([] { is_exiting = true; });
  static_cast<void>(notes_exit);  // without memory for it, a static Writer closes without what is open
  if (handles_fork != 0) return "no memory for the recording";
  Target opened;
  if (std::string error = opened.open(target.view(), options.replace); !error.empty()) return error;
  auto session = std::make_shared<Session>(std::move(opened), options);
  Session* none = nullptr;
  if (!current.compare_exchange_strong(none, session.get())) return "another Writer is open in this process";
  std::string error;
  try {
    error = session->start(session, [] { current = nullptr; });
  } catch (const std::system_error& failure) {
    error = std::string("no thread for the recording: ") + failure.what();
  } catch (...) {
    current = nullptr;
    throw;
  }
  if (!error.empty()) {
    current = nullptr;
    return error;
  }
  session_ = std::move(session);
  return "";
}

bool Writer::close() noexcept {
  const detail::NoCancellation no_cancellation;  // it waits for the thread that writes
  const std::shared_ptr<Session> session = std::exchange(session_, nullptr);
  if (session == nullptr) return true;
  Session* mine = session.get();
  // At exit(), close_at_exit() may have closed it before the destructor of a static Writer runs.
  return !has_session() || !current.compare_exchange_strong(mine, nullptr) || finish(*session);
}

// In a child process the lock may be held by a thread that does not exist there.
Statistics Writer::statistics() const noexcept {
  return is_open() && !session_->is_in_child() ? session_->statistics() : Statistics();
}

}  // namespace nopspan::recording
