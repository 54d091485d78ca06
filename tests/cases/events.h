// SPDX-License-Identifier: Apache-2.0
// The events that a case causes, compared with the expected ones.
#ifndef NOPSPAN_TESTS_CASES_EVENTS_H
#define NOPSPAN_TESTS_CASES_EVENTS_H

#include <nopspan/event.h>
#include <nopspan/log.h>
#include <nopspan/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "matcher.h"
#include "shapes.h"

namespace cases {

// The values of a map whose keys the expectation names.
Json only_named(const Json& seen, const Json& expected);

// One call of a handler.
class Delivery {
 public:
  Delivery(std::string_view handler_id, const nopspan::Event& event);

  [[nodiscard]] const std::string& event_name() const noexcept { return event_name_; }
  // The id of the request that the event belongs to. Metadata of the same name may differ.
  [[nodiscard]] const std::string& request_id() const noexcept { return request_id_; }
  [[nodiscard]] const Json& metadata() const noexcept { return metadata_; }

  // The handler, event, measurements, metadata and config in the notation of `expected`. Parts that `expected` lacks
  // are omitted. In the metadata
  // - request_id, span_id and parent_id of a span's events are omitted unless `expected` names them, because nopspan
  //   adds them.
  // - telemetry_span_context is the span id.
  // - The reason of an exception or a failed handler is the map's message, if `expected` has it as a string.
  // - An exit carries no reason, so any reason that `expected` names is accepted.
  [[nodiscard]] Json as_expected(const Json& expected) const;

 private:
  [[nodiscard]] bool of_span() const noexcept;
  [[nodiscard]] Json as_metadata(const Json& expected) const;
  [[nodiscard]] Json reason(const Json& expected) const;

  std::string handler_;
  std::string event_name_;
  std::string request_id_;
  std::string span_id_;
  Json measurements_;
  Json metadata_;
  Json config_;
};

// Compares with `event_names`, if the expectation has them.
void compare_names(const Json& expect, const std::vector<Delivery>& events, Comparison& comparison);

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
  void compare(const Json& expect, Comparison& comparison) const;

 private:
  std::vector<Delivery> events_;
};

// Keeps what is logged while it exists.
class Log {
 public:
  struct Line {
    nopspan::LogLevel level;
    std::string message;
  };
  Log();
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  std::vector<Line> lines;
};

}  // namespace cases

#endif  // NOPSPAN_TESTS_CASES_EVENTS_H
