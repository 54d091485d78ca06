// SPDX-License-Identifier: Apache-2.0
// One call of a handler, recorded for comparison.
#ifndef NOPSPAN_TESTS_CASES_DELIVERY_H
#define NOPSPAN_TESTS_CASES_DELIVERY_H

#include <nopspan/event.h>
#include <nopspan/types.h>

#include <string>
#include <string_view>

#include "json.h"

namespace cases {

// What the default logger wrote.
struct LogLine {
  nopspan::LogLevel level;
  std::string message;
};

class Delivery {
 public:
  Delivery(std::string_view handler_id, const nopspan::Event& event);

  [[nodiscard]] const std::string& event_name() const noexcept { return event_name_; }
  // The id of the request that the event belongs to. Metadata of the same name may differ.
  [[nodiscard]] const std::string& request_id() const noexcept { return request_id_; }
  [[nodiscard]] const Json& metadata() const noexcept { return metadata_; }

  // The handler, event, measurements, metadata and config in the notation of `expected`. Parts that `expected` lacks
  // are omitted. The metadata is as_metadata().
  [[nodiscard]] Json as_expected(const Json& expected) const;

  // The metadata in the notation of `expected`:
  // - request_id, span_id and parent_id of a span's events are omitted unless `expected` names them, because nopspan
  //   adds them.
  // - telemetry_span_context is the span id.
  // - The reason of an exception or a failed handler is the map's message, if `expected` has it as a string.
  // - An exit carries no reason, so any reason that `expected` names is accepted.
  [[nodiscard]] Json as_metadata(const Json& expected) const;

 private:
  [[nodiscard]] bool of_span() const noexcept;
  [[nodiscard]] Json reason(const Json& expected) const;

  std::string handler_;
  std::string event_name_;
  std::string request_id_;
  std::string span_id_;
  Json measurements_;
  Json metadata_;
  Json config_;
};

}  // namespace cases

#endif  // NOPSPAN_TESTS_CASES_DELIVERY_H
