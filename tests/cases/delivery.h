// SPDX-License-Identifier: Apache-2.0
// A call of a handler, kept for comparison.
#ifndef NOPSPAN_TESTS_CASES_DELIVERY_H
#define NOPSPAN_TESTS_CASES_DELIVERY_H

#include <nopspan/event.h>

#include <string>
#include <string_view>

#include "json.h"

namespace cases {

class Delivery {
 public:
  Delivery(std::string_view handler_id, const nopspan::Event& event);

  [[nodiscard]] const std::string& event_name() const noexcept { return event_name_; }
  [[nodiscard]] const Json& metadata() const noexcept { return metadata_; }

  // handler, event, measurements, metadata and config in the terms in which `expected` speaks: what is absent there is
  // left out, and the metadata is as_metadata().
  [[nodiscard]] Json as_expected(const Json& expected) const;

  // The metadata in the terms in which `expected` speaks. Of a span's events, request_id, span_id and parent_id are
  // left out unless named (nopspan adds them), telemetry_span_context is the span id; a reason of an exception or a
  // failed handler that is named as a string is the map's message, and whatever is named for an exit (which carries
  // none).
  [[nodiscard]] Json as_metadata(const Json& expected) const;

 private:
  [[nodiscard]] bool of_span() const noexcept;
  [[nodiscard]] Json reason(const Json& expected) const;

  std::string handler_;
  std::string event_name_;
  std::string span_id_;
  Json measurements_;
  Json metadata_;
  Json config_;
};

}  // namespace cases

#endif  // NOPSPAN_TESTS_CASES_DELIVERY_H
