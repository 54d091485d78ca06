// SPDX-License-Identifier: Apache-2.0
// The events that a case causes, compared with the expected events.
#ifndef NOPSPAN_TESTS_CASES_RECORDED_EVENTS_H
#define NOPSPAN_TESTS_CASES_RECORDED_EVENTS_H

#include <string>
#include <vector>

#include "delivery.h"
#include "json.h"
#include "matcher.h"

namespace cases {

// Records the events with these names while it exists.
class RecordedEvents {
 public:
  explicit RecordedEvents(const std::vector<std::string>& names);
  ~RecordedEvents();
  RecordedEvents(const RecordedEvents&) = delete;
  RecordedEvents& operator=(const RecordedEvents&) = delete;

  [[nodiscard]] const std::vector<Delivery>& events() const noexcept { return events_; }

  // Compares with `events` and `event_names` of an expectation, if present. If the case says `exact` (or
  // measurements_exact, metadata_exact), an event must have exactly the named measurements and metadata. Otherwise it
  // may have more.
  static void check(const Json& expect);
  void compare(const Json& expect, Comparison& comparison) const;

 private:
  std::vector<Delivery> events_;
};

}  // namespace cases

#endif  // NOPSPAN_TESTS_CASES_RECORDED_EVENTS_H
