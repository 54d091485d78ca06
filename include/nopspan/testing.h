// SPDX-License-Identifier: Apache-2.0
/// @file
/// For the tests of programs that use nopspan: a recorder of events, and matchers for GoogleTest. The matchers exist if
/// `<gmock/gmock.h>` is included before this header.
///
/// @code
/// #include <gmock/gmock.h>
/// #include <nopspan/span.h>
/// #include <nopspan/testing.h>
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
/// Thread safety: a Recorder records the events of all threads, and may be used from any thread.
#ifndef NOPSPAN_TESTING_H
#define NOPSPAN_TESTING_H

#include <nopspan/config.h>
#include <nopspan/event.h>
#include <nopspan/registry.h>

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

/// For tests.
namespace nopspan::testing {

/// Records every event of the given names from its construction to its destruction. Several recorders may record the
/// same events at the same time.
class Recorder {
 public:
  /// Records events of these names; see error().
  NOPSPAN_API explicit Recorder(const std::vector<std::string>& events);
  /// The same.
  Recorder(std::initializer_list<std::string> events) : Recorder(std::vector<std::string>(events)) {}
  /// Stops recording; see detach() for what it waits for.
  NOPSPAN_API ~Recorder();
  Recorder(const Recorder&) = delete;             ///< not copied
  Recorder& operator=(const Recorder&) = delete;  ///< not copied

  /// The names of the three events of each span: start, stop, exception.
  [[nodiscard]] NOPSPAN_API static std::vector<std::string> span_events(std::initializer_list<std::string_view> spans);

  /// What attach_many() returned: ok; invalid_argument if one of the names is not a valid event name. If it is not ok,
  /// nothing is recorded.
  [[nodiscard]] NOPSPAN_API Errc error() const noexcept;
  /// Copies of the events so far, in the order in which they were emitted.
  [[nodiscard]] NOPSPAN_API std::vector<OwnedEvent> events() const;
  /// Copies of the events of one name.
  [[nodiscard]] NOPSPAN_API std::vector<OwnedEvent> events(std::string_view name) const;
  /// The names of the events so far.
  [[nodiscard]] NOPSPAN_API std::vector<std::string> names() const;
  /// The number of events so far.
  [[nodiscard]] NOPSPAN_API std::size_t size() const;
  /// Removes the events so far.
  NOPSPAN_API void clear();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace nopspan::testing

#if defined(GMOCK_INCLUDE_GMOCK_GMOCK_H_) || defined(GOOGLEMOCK_INCLUDE_GMOCK_GMOCK_H_)

namespace nopspan {
/// How GoogleTest prints an event.
inline void PrintTo(const OwnedEvent& event, std::ostream* out) {
  *out << event->name() << " request " << event->request_id() << " measurements "
       << event->measurements().copy().to_string() << " metadata " << event->metadata().copy().to_string();
}
/// How GoogleTest prints a value.
inline void PrintTo(const Value& value, std::ostream* out) { *out << value.to_string(); }
}  // namespace nopspan

namespace nopspan::testing {

MATCHER_P(EventNamed, expected, "is the event " + std::string(expected)) { return arg->name() == expected; }

// Whether the metadata has a key with that value, of that type: 1 is not 1.0.
MATCHER_P2(HasMetadata, key, value, "has the metadata " + std::string(key)) {
  const ValueView found = arg->metadata(key);
  return found.exists() && found.copy() == Value(value);
}
MATCHER_P(LacksMetadata, key, "lacks the metadata " + std::string(key)) { return !arg->metadata(key).exists(); }
MATCHER_P2(HasMeasurement, key, value, "has the measurement " + std::string(key)) {
  const ValueView found = arg->measurement(key);
  return found.exists() && found.copy() == Value(value);
}
MATCHER_P(HasStatus, expected, "has the status " + ::testing::PrintToString(expected)) {
  return arg->status() == static_cast<unsigned>(expected);
}
// Whether the event's span is a child of the span of `parent`, in the same request.
MATCHER_P(IsChildOf, parent, "is a child of " + std::string(parent->name())) {
  return arg->parent_id() == parent->span_id() && arg->request_id() == parent->request_id();
}

}  // namespace nopspan::testing

#endif

#endif  // NOPSPAN_TESTING_H
