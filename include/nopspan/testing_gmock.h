// SPDX-License-Identifier: Apache-2.0
/// @file
/// Matchers for the events of testing.h, for GoogleTest. They are in the namespace nopspan::testing.
///
/// | matcher | the event |
/// | --- | --- |
/// | EventNamed(name) | has that name |
/// | HasMetadata(key, value), HasMeasurement(key, value) | has a key with that value, of that type: 1 is not 1.0 |
/// | LacksMetadata(key) | does not have the key |
/// | HasStatus(status) | has that Status |
/// | IsChildOf(event) | belongs to a span that is a child of that event's span, in the same request |
///
/// An event without a span or request is a child of nothing and has no children.
///
/// @code
/// #include <nopspan/span.h>
/// #include <nopspan/testing_gmock.h>
///
/// using nopspan::testing::EventNamed;
/// using ::testing::ElementsAre;
///
/// TEST(Chat, IsASpan) {
///   nopspan::testing::Recorder recorder{"llm.chat.start", "llm.chat.stop"};
///   { nopspan::Span span{"llm.chat"}; }  // the code under test
///   EXPECT_THAT(recorder.events(), ElementsAre(EventNamed("llm.chat.start"), EventNamed("llm.chat.stop")));
/// }
/// @endcode
///
/// Thread safety: that of GoogleTest.
#ifndef NOPSPAN_TESTING_GMOCK_H
#define NOPSPAN_TESTING_GMOCK_H

#include <nopspan/detail/config.h>
#include <nopspan/event.h>
#include <nopspan/testing.h>
#include <nopspan/types.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <ostream>
#include <string>
#include <type_traits>
NOPSPAN_SHELL_HEADER

/// @cond INTERNAL
namespace NOPSPAN_NAMESPACE::testing::detail {
// As handlers receive it in the metadata span_id and parent_id.
inline std::string hex(std::uint64_t id) {
  char text[17];
  static_cast<void>(std::snprintf(text, sizeof(text), "%016" PRIx64, id));
  return text;
}
}  // namespace NOPSPAN_NAMESPACE::testing::detail
/// @endcond

namespace NOPSPAN_NAMESPACE {
/// How GoogleTest prints an event.
inline void PrintTo(const OwnedEvent& event, std::ostream* out) {
  *out << event->name() << ' ' << to_string(event->status()) << " span " << testing::detail::hex(event->span_id())
       << " parent " << testing::detail::hex(event->parent_id()) << " request " << event->request_id()
       << " measurements " << event->measurements().copy().to_string() << " metadata "
       << event->metadata().copy().to_string();
}
/// How GoogleTest prints a status.
inline void PrintTo(Status status, std::ostream* out) { *out << to_string(status); }
/// How GoogleTest prints the result of a call.
inline void PrintTo(Errc error, std::ostream* out) { *out << describe(error); }
/// How GoogleTest prints a value.
inline void PrintTo(const Value& value, std::ostream* out) { *out << value.to_string(); }
}  // namespace NOPSPAN_NAMESPACE

/// @cond INTERNAL
namespace NOPSPAN_NAMESPACE::testing {

namespace detail {
template <class T>
Value expected(const T& value) {
  constexpr bool is_value = std::is_constructible_v<Value, const T&>;
  static_assert(is_value,
                "HasMetadata and HasMeasurement take a value. For a matcher, use "
                "EXPECT_THAT(e->metadata(key).as_int(), matcher)");
  if constexpr (is_value) return Value(value);
  return {};
}
template <class T>
std::string field(const std::string& key, const T& value) {
  return Value::map({{key, detail::expected(value)}}).to_string();
}
inline std::string span_of(const Event& event) {
  return std::string(event.name()) + " span " + detail::hex(event.span_id()) + " request " +
         std::string(event.request_id());
}
}  // namespace detail

MATCHER_P(EventNamed, expected, "is the event " + std::string(expected)) { return arg->name() == expected; }

MATCHER_P2(HasMetadata, key, value,
           (negation ? "lacks the metadata " : "has the metadata ") + detail::field(key, value)) {
  const ValueView found = arg->metadata(key);
  return found.exists() && found.copy() == detail::expected(value);
}
MATCHER_P(LacksMetadata, key, (negation ? "has the metadata " : "lacks the metadata ") + std::string(key)) {
  return !arg->metadata(key).exists();
}
MATCHER_P2(HasMeasurement, key, value,
           (negation ? "lacks the measurement " : "has the measurement ") + detail::field(key, value)) {
  const ValueView found = arg->measurement(key);
  return found.exists() && found.copy() == detail::expected(value);
}
MATCHER_P(HasStatus, expected, std::string("has the status ") + to_string(Status(expected))) {
  return arg->status() == expected;
}
MATCHER_P(IsChildOf, parent, (negation ? "is not a child of " : "is a child of ") + detail::span_of(*parent)) {
  if (parent->span_id() == 0 || parent->request_id().empty()) {
    *result_listener << "but " << parent->name() << " belongs to no span";
    return false;
  }
  return arg->span_id() != 0 && arg->parent_id() == parent->span_id() && arg->request_id() == parent->request_id();
}

}  // namespace NOPSPAN_NAMESPACE::testing
/// @endcond

#endif  // NOPSPAN_TESTING_GMOCK_H
