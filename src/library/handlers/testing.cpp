// SPDX-License-Identifier: Apache-2.0
// nopspan::testing::Recorder, a handler that keeps the events it receives.
#include <nopspan/testing.h>

#include "thread/log.h"

#include <atomic>
#include <mutex>
#include <string>

namespace nopspan::testing {

struct Recorder::State {
  std::string id;
  Errc error = Errc::ok;
  mutable std::mutex mutex;
  std::vector<OwnedEvent> events;
};

Recorder::Recorder(const std::vector<std::string>& events) : state_(std::make_shared<State>()) {
  static std::atomic<unsigned> recorders{0};
  state_->id = "nopspan-recorder-" + std::to_string(++recorders);
  state_->error = attach_many(state_->id, events, [state = state_](const Event& event) {
    OwnedEvent copy(event);
    const std::lock_guard<std::mutex> lock(state->mutex);
    state->events.push_back(std::move(copy));
  });
  if (state_->error == Errc::ok) return;
  nopspan::detail::log_line(LogLevel::error, nopspan::detail::NoSink::print, [&] {
    return "a nopspan::testing::Recorder records nothing, because " + std::string(describe(state_->error));
  });
}

Recorder::~Recorder() { static_cast<void>(detach(state_->id)); }

std::vector<std::string> Recorder::span_events(std::initializer_list<std::string_view> spans) {
  std::vector<std::string> names;
  for (const std::string_view span : spans) {
    for (const char* suffix : {".start", ".stop", ".exception"}) names.push_back(std::string(span) + suffix);
  }
  return names;
}

Errc Recorder::error() const noexcept { return state_->error; }

std::vector<OwnedEvent> Recorder::events() const {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->events;
}

std::vector<OwnedEvent> Recorder::events(std::string_view name) const {
  std::vector<OwnedEvent> found;
  for (OwnedEvent& event : events()) {
    if (event->name() == name) found.push_back(std::move(event));
  }
  return found;
}

std::vector<std::string> Recorder::names() const {
  std::vector<std::string> names;
  for (const OwnedEvent& event : events()) names.emplace_back(event->name());
  return names;
}

std::size_t Recorder::size() const {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->events.size();
}

void Recorder::clear() {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->events.clear();
}

}  // namespace nopspan::testing
