// SPDX-License-Identifier: Apache-2.0
#include "top/top_runner.h"
#include "base/failure.h"
#include "base/stopping.h"
#include "base/terminal.h"
#include "base/text.h"
#include "base/text_output.h"
#include "base/threads.h"

#include <unistd.h>

#include <chrono>
#include <utility>

namespace nopspan::collector {

TopRunner::TopRunner(const TopOptions& options, std::unique_ptr<Source> source, ReadSource read)
    : read_(std::move(read)),
      source_(std::move(source)),
      feed_(*source_, options.source.filter, options.window_ns / kSecond, options.most_rows, options.request, true,
            [this](TopSnapshotPointer snapshot) { publish(std::move(snapshot)); }) {
  // The thread that runs the source blocks all signals, so the thread that draws receives them and can restore the
  // terminal.
  thread_ = thread_without_signals([this] { run(); });
}

TopRunner::~TopRunner() {
  try {
    stop();
  } catch (...) {  // a caller that needs the error has called stop()
  }
}

void TopRunner::run() {
  try {
    read_(*source_, feed_);
    do {
      feed_.finish();
    } while (wait_until_asked());
    return;
  } catch (...) {
    const std::lock_guard lock(mutex_);
    failure_ = std::current_exception();
  }
  wake_up_.wake();
  while (wait_until_asked()) {
  }
}

bool TopRunner::wait_until_asked() {
  constexpr std::chrono::milliseconds kLook(50), kPatience(400);
  std::chrono::milliseconds waited(0);
  std::unique_lock lock(mutex_);
  while (!asked_.wait_for(lock, kLook, [this] { return stops_ || is_asked_; })) {
    if (stopping && (waited += kLook) >= kPatience && !Terminal::takes_output()) leave();
  }
  is_asked_ = false;
  return !stops_;
}

// After Ctrl-S, or if the connection hangs, write() to the terminal blocks. ncurses calls it again after a signal.
void TopRunner::leave() {
  standard_error().set_live();
  if (!failure_) standard_error().write(remark_text(source_->remark()) + to_text(feed_.ledger()));
  standard_error().close();
  Terminal::restore_modes();
  _exit(Failure::kFailed);
}

void TopRunner::publish(TopSnapshotPointer snapshot) {
  {
    const std::lock_guard lock(mutex_);
    latest_ = std::move(snapshot);
  }
  wake_up_.wake();
}

TopSnapshotPointer TopRunner::latest() {
  wake_up_.clear();
  const std::lock_guard lock(mutex_);
  return latest_;
}

void TopRunner::ask(const TopRequest& request) {
  feed_.ask(request);
  const std::lock_guard lock(mutex_);
  is_asked_ = true;
  asked_.notify_one();
}

bool TopRunner::has_failed() {
  const std::lock_guard lock(mutex_);
  return failure_ != nullptr;
}

std::string TopRunner::stop() {
  stopping = true;
  {
    const std::lock_guard lock(mutex_);
    stops_ = true;
    asked_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  return remark_text(source_->remark()) + to_text(feed_.ledger());
}

}  // namespace nopspan::collector
