// SPDX-License-Identifier: Apache-2.0
/// @file
/// For the tests of programs that use nopspan: a recorder of events. testing_gmock.h has matchers for GoogleTest.
///
/// @code
/// const nopspan::testing::Recorder recorder{"db.query.stop"};
/// { nopspan::Span span{"db.query"}; }  // the code under test
/// bool passed = recorder.events().at(0)->status() == nopspan::Status::ok;
/// @endcode
///
/// Thread safety: a Recorder records the events of all threads, and may be used from any thread.
#ifndef NOPSPAN_TESTING_H
#define NOPSPAN_TESTING_H

#include <nopspan/detail/config.h>
#include <nopspan/event.h>
#include <nopspan/registry.h>
#include <nopspan/span.h>

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>
NOPSPAN_SHELL_HEADER

/// For tests.
namespace NOPSPAN_NAMESPACE::testing {

/// Records every event of the given names from its construction to its destruction. Several recorders may record the
/// same events at the same time.
class NOPSPAN_CONTAINER_ABI Recorder {
 public:
  /// Records events of these names; see error().
  NOPSPAN_API explicit Recorder(const std::vector<std::string>& events) NOPSPAN_IN_SHELL();
  /// The same.
  Recorder(std::initializer_list<std::string> events) : Recorder(std::vector<std::string>(events)) {}
  /// Stops recording; see detach() for what it waits for.
  NOPSPAN_API ~Recorder() NOPSPAN_IN_SHELL();
  Recorder(const Recorder&) = delete;             ///< not copied
  Recorder& operator=(const Recorder&) = delete;  ///< not copied

  /// The names of the three events of each span: start, stop, exception.
  [[nodiscard]] NOPSPAN_API static std::vector<std::string> span_events(std::initializer_list<std::string_view> spans)
      NOPSPAN_IN_SHELL(return {});

  /// What attach_many() returned: ok; invalid_argument if one of the names is not a valid event name. If it is not ok,
  /// nothing is recorded.
  [[nodiscard]] NOPSPAN_API Errc error() const noexcept NOPSPAN_IN_SHELL(return Errc::ok);
  /// Copies of the events so far, in the order in which they were emitted.
  [[nodiscard]] NOPSPAN_API std::vector<OwnedEvent> events() const NOPSPAN_IN_SHELL(return {});
  /// Copies of the events of one name.
  [[nodiscard]] NOPSPAN_API std::vector<OwnedEvent> events(std::string_view name) const NOPSPAN_IN_SHELL(return {});
  /// The names of the events so far.
  [[nodiscard]] NOPSPAN_API std::vector<std::string> names() const NOPSPAN_IN_SHELL(return {});
  /// The number of events so far.
  [[nodiscard]] NOPSPAN_API std::size_t size() const NOPSPAN_IN_SHELL(return {});
  /// Removes the events so far.
  NOPSPAN_API void clear() NOPSPAN_IN_SHELL();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace NOPSPAN_NAMESPACE::testing

#endif  // NOPSPAN_TESTING_H
