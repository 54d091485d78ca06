// SPDX-License-Identifier: Apache-2.0
// Interprets a receiver's answer by the rules of the OTLP specification.
#pragma once

#include "export/export_body.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

namespace nopspan::collector {

// The outcome of a request.
struct ReceiverAnswer {
  enum class Kind : std::uint8_t {
    accepted,       // apart from `rejected` items
    refused,        // must not be sent again
    too_large,      // may be sent again in parts
    retry,          // may be sent again
    not_encodable,  // nothing was sent
  };
  Kind kind = Kind::retry;
  std::uint64_t rejected = 0;  // spans, log records or data points; at most as many as were sent
  // The receiver may have processed the request, although it was not accepted.
  bool may_have_arrived = false;
  bool may_be_too_large = false;             // of `retry`: a smaller request may get another answer
  bool may_be_mended = false;                // of `refused`: the same request may be accepted later
  bool is_malformed = false;                 // part of the answer was unreadable or impossible
  std::chrono::milliseconds retry_after{0};  // the receiver wants no request before; 0: it did not say
  std::string text;  // for the user, in one line: the receiver's message or the error; "" if there is none
};

// The transport reads so much of a body. A compressed one may not be longer when it is decompressed.
constexpr std::size_t kMostAnswerBytes = 64U << 10U;

// The parts of a response. They may be anything.
struct HttpAnswer {
  long status = 0;
  std::string content_type, body;
  bool is_body_cut = false;  // longer than the transport reads
  std::chrono::milliseconds retry_after{0};
};
struct GrpcAnswer {
  std::string status, message, details;  // the headers grpc-status, grpc-message, grpc-status-details-bin
  HttpAnswer http;                       // Retry-After counts only with a status other than 200
};
// The limit of a message of a receiver when it is printed. The functions below return more of it, because a secret in
// it can be found only as a whole.
inline constexpr std::size_t kMostAnswerText = 200;
ReceiverAnswer classify(const HttpAnswer& received, const ExportBody& sent);
ReceiverAnswer classify(const GrpcAnswer& received, const ExportBody& sent);

}  // namespace nopspan::collector
