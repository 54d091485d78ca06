// SPDX-License-Identifier: Apache-2.0
// Recorders and matchers for events, counters, and the names and headers that most tests use.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "counted.h"

#include <nopspan/event.h>
#include <nopspan/log.h>
#include <nopspan/registry.h>
#include <nopspan/span.h>
#include <nopspan/stats.h>
#include <nopspan/testing_gmock.h>
#include <nopspan/types.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using nopspan::AsyncSpan;
using nopspan::Context;
using nopspan::ContextScope;
using nopspan::Errc;
using nopspan::Event;
using nopspan::Fields;
using nopspan::Span;
using nopspan::Status;
using nopspan::Value;
using nopspan::testing::HasMeasurement;
using nopspan::testing::HasMetadata;
using nopspan::testing::HasStatus;
using nopspan::testing::IsChildOf;
using nopspan::testing::LacksMetadata;
using nopspan::testing::Recorder;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;
using ::testing::SizeIs;

inline nopspan::SpanKind kind_of(const nopspan::OwnedEvent& event) {
  return static_cast<nopspan::SpanKind>((event->flags() >> 12U) & 7U);
}
// In alphabetical order.
inline std::vector<std::string> keys_of(nopspan::FieldsView fields) {
  std::vector<std::string> keys;
  fields.for_each([&](std::string_view key, nopspan::ValueView) { keys.emplace_back(key); });
  std::sort(keys.begin(), keys.end());
  return keys;
}

// The id of a recorded span. Fails the test for 0, because an event without a span has that id too.
template <class S>
std::uint64_t id_of(const S& span) {
  const std::uint64_t id = span.context().span_id();
  EXPECT_NE(id, 0U) << "the span is not recorded";
  return id;
}

inline constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The recorded events, or those of one name. If there are not `count` of them, the test fails and ends.
inline std::vector<nopspan::OwnedEvent> events_of(const Recorder& recorder, std::size_t count,
                                                  std::string_view name = {}) {
  std::vector<nopspan::OwnedEvent> events = name.empty() ? recorder.events() : recorder.events(name);
  if (events.size() != count) {
    throw std::runtime_error(std::to_string(events.size()) + " events instead of " + std::to_string(count));
  }
  return events;
}

// attach(), attach_many() and detach() where they must succeed.
inline void attach_ok(nopspan::Text id, nopspan::Text event, nopspan::Handler handler, Value config = {}) {
  EXPECT_EQ(nopspan::attach(id, event, std::move(handler), std::move(config)), Errc::ok) << id.view();
}
inline void attach_many_ok(nopspan::Text id, const std::vector<std::string>& events, nopspan::Handler handler,
                           Value config = {}) {
  EXPECT_EQ(nopspan::attach_many(id, events, std::move(handler), std::move(config)), Errc::ok) << id.view();
}
inline void detach_ok(nopspan::Text id) { EXPECT_EQ(nopspan::detach(id), Errc::ok) << id.view(); }

MATCHER_P2(HasAttribute, key, value, "has the attribute " + nopspan::testing::detail::field(key, value)) {
  const nopspan::ValueView found = arg->attributes().find(key);
  return found.exists() && found.copy() == Value(value);
}
MATCHER_P(LacksAttribute, key, "lacks the attribute " + std::string(key)) {
  return !arg->attributes().find(key).exists();
}
MATCHER_P(LacksMeasurement, key, "lacks the measurement " + std::string(key)) {
  return !arg->measurement(key).exists();
}
// The attribute of that key is content.
MATCHER_P(HasContent, key, "has the content " + std::string(key)) { return arg->attributes().find(key).is_content(); }

// The lines of the log while it exists.
struct LoggedLines {
  LoggedLines() {
    nopspan::set_log_sink([this](nopspan::LogLevel, std::string_view line) { lines.emplace_back(line); });
  }
  ~LoggedLines() { nopspan::set_log_sink({}); }
  LoggedLines(const LoggedLines&) = delete;
  LoggedLines& operator=(const LoggedLines&) = delete;

  mutable std::vector<std::string> lines;
};

// A span that ends at once. Its last argument is usually its metadata.
template <class... Arguments>
void short_span(Arguments&&... arguments) {
  const Span span{std::forward<Arguments>(arguments)...};
}

// The present time, as spans are given it.
inline std::uint64_t monotonic_ns() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1));
}

// Records the start, stop and exception events of one span.
struct SpanRecorder : nopspan::testing::Recorder {
  explicit SpanRecorder(std::string_view span) : Recorder(span_events({span})), span_(span) {}
  // The first event of that kind. If there is none, the test fails with std::out_of_range.
  [[nodiscard]] nopspan::OwnedEvent start() const { return events(span_ + ".start").at(0); }
  [[nodiscard]] nopspan::OwnedEvent stop() const { return events(span_ + ".stop").at(0); }
  [[nodiscard]] nopspan::OwnedEvent exception() const { return events(span_ + ".exception").at(0); }

 private:
  std::string span_;
};

// The start or the stop of a span that ends at once.
template <class N, class... Arguments>
nopspan::OwnedEvent started(const N& name, Arguments&&... arguments) {
  const SpanRecorder recorder(nopspan::Name(name).view());
  short_span(name, std::forward<Arguments>(arguments)...);
  return recorder.start();
}
template <class N, class... Arguments>
nopspan::OwnedEvent stopped(const N& name, Arguments&&... arguments) {
  const SpanRecorder recorder(nopspan::Name(name).view());
  short_span(name, std::forward<Arguments>(arguments)...);
  return recorder.stop();
}

// The number of calls of operator new on this thread, and the bytes that they were asked for. Link allocations.cpp into
// a program to count them.
std::size_t allocations();
std::size_t allocated_bytes();
