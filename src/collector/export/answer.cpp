// SPDX-License-Identifier: Apache-2.0
#include "export/answer.h"

#include "base/gzip.h"
#include "base/protobuf.h"
#include "base/text.h"
#include "export/otlp_settings.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

namespace nopspan::collector {
namespace {

constexpr std::size_t kMostRawText = 4096;

// The content of partial_success. `rejected` is negative if the answer says so.
struct PartialSuccess {
  std::int64_t rejected = 0;
  std::string message;
};

// Returns nothing if the message is malformed. Export…ServiceResponse is the same for all signals.
std::optional<PartialSuccess> partial_success_of(std::string_view message) {
  PartialSuccess result;
  ProtobufFields response(message);
  while (response.next()) {
    if (!response.is(1, ProtobufType::delimited)) continue;
    ProtobufFields partial(response.bytes());
    while (partial.next()) {
      if (partial.is(1, ProtobufType::varint)) result.rejected = static_cast<std::int64_t>(partial.integer());
      if (partial.is(2, ProtobufType::delimited)) result.message = partial.bytes();
    }
    if (!partial.is_valid()) return {};
  }
  return response.is_valid() ? std::optional(result) : std::nullopt;
}

std::optional<PartialSuccess> partial_success_of_json(std::string_view text) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) return {};
  PartialSuccess result;
  const auto partial = json.find("partialSuccess");
  if (partial == json.end() || partial->is_null()) return result;
  if (!partial->is_object()) return {};
  for (const auto& [name, value] : partial->items()) {
    if (name == "errorMessage" && value.is_string()) result.message = value;
    if (!name.starts_with("rejected")) continue;
    if (!value.is_number_integer() && !value.is_string()) return {};
    const std::string number = value.is_string() ? value.get<std::string>() : value.dump();
    const char* const end = number.data() + number.size();
    const auto [at, error] = std::from_chars(number.data(), end, result.rejected);
    if (at != end || error == std::errc::invalid_argument) return {};
    if (error != std::errc()) result.rejected = number.front() == '-' ? INT64_MIN : INT64_MAX;
  }
  return result;
}

// A request that was processed. `partial`: nothing if the answer was unreadable. Even then the items are accepted,
// because the status says so.
ReceiverAnswer success(const std::optional<PartialSuccess>& partial, const ExportBody& sent) {
  if (!partial) {
    return {.kind = ReceiverAnswer::Kind::accepted,
            .is_malformed = true,
            .text = "the answer reports success, but its content is not an OTLP response"};
  }
  ReceiverAnswer answer{.kind = ReceiverAnswer::Kind::accepted, .text = printable(partial->message, kMostRawText)};
  const std::uint64_t most = rejectable_items(sent);
  answer.is_malformed = partial->rejected < 0 || static_cast<std::uint64_t>(partial->rejected) > most;
  if (answer.is_malformed && answer.text.empty()) answer.text = "an impossible number of rejected items";
  if (partial->rejected > 0) answer.rejected = std::min(static_cast<std::uint64_t>(partial->rejected), most);
  return answer;
}

bool is_json(std::string_view content_type) { return content_type.find("json") != std::string_view::npos; }
bool is_protobuf(std::string_view content_type) {
  return content_type.empty() || content_type.find("protobuf") != std::string_view::npos;
}

// The message of a google.rpc.Status, which receivers answer with on errors, or the first line of a text.
std::string error_text(const HttpAnswer& answer) {
  if (is_json(answer.content_type)) {
    const auto json = nlohmann::json::parse(answer.body, nullptr, false);
    const auto message = json.is_object() ? json.find("message") : json.end();
    return message != json.end() && message->is_string() ? message->get<std::string>() : "";
  }
  if (answer.content_type.empty() || !is_protobuf(answer.content_type)) {
    return answer.body.substr(0, answer.body.find_first_of("\r\n"));
  }
  ProtobufFields status(answer.body);
  while (status.next()) {
    if (status.is(2, ProtobufType::delimited)) return std::string(status.bytes());
  }
  return "";
}

std::optional<std::string> decode_base64(std::string_view text) {
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string bytes;
  std::uint32_t bits = 0;
  unsigned held = 0;
  for (const char c : text) {
    constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const std::size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) return {};
    bits = bits << 6U | static_cast<std::uint32_t>(digit);
    held += 6;
    if (held >= 8) {
      held -= 8;
      bytes += static_cast<char>(bits >> held & 0xffU);
    }
  }
  return bytes;
}

// The delay of a google.rpc.RetryInfo among the details of a google.rpc.Status; nothing if there is none.
std::optional<std::chrono::milliseconds> retry_info_of(const std::string& details) {
  constexpr std::int64_t kMostSeconds = 86'400;
  const auto bytes = decode_base64(details);
  if (!bytes) return {};
  ProtobufFields status(*bytes);
  while (status.next()) {
    if (!status.is(3, ProtobufType::delimited)) continue;
    ProtobufFields any(status.bytes());
    std::string_view type, value;
    while (any.next()) {
      if (any.is(1, ProtobufType::delimited)) type = any.bytes();
      if (any.is(2, ProtobufType::delimited)) value = any.bytes();
    }
    if (!any.is_valid()) return {};
    if (!type.ends_with("/google.rpc.RetryInfo")) continue;
    std::int64_t seconds = 0, nanos = 0;
    ProtobufFields info(value);
    while (info.next()) {
      if (!info.is(1, ProtobufType::delimited)) continue;
      ProtobufFields duration(info.bytes());
      while (duration.next()) {
        if (duration.is(1, ProtobufType::varint)) seconds = static_cast<std::int64_t>(duration.integer());
        if (duration.is(2, ProtobufType::varint)) nanos = static_cast<std::int32_t>(duration.integer());
      }
      if (!duration.is_valid()) return {};
    }
    if (!info.is_valid()) return {};
    return std::chrono::seconds(std::clamp<std::int64_t>(seconds, 0, kMostSeconds)) +
           std::chrono::milliseconds(std::clamp<std::int64_t>(nanos, 0, 999'999'999) / 1'000'000);
  }
  return {};
}

// The message of a gRPC answer to a unary call: one frame. A server may compress it as the request was, which is gzip.
std::optional<PartialSuccess> partial_success_of_frame(std::string_view body) {
  constexpr std::size_t kHead = 5;
  if (body.size() < kHead || static_cast<unsigned char>(body[0]) > 1) return {};
  const bool is_compressed = body[0] != 0;
  std::size_t bytes = 0;
  for (std::size_t i = 1; i < kHead; ++i) bytes = bytes << 8U | static_cast<unsigned char>(body[i]);
  if (bytes != body.size() - kHead) return {};
  body.remove_prefix(kHead);
  if (bytes == 0 || !is_compressed) return partial_success_of(body);
  const auto message = gunzipped(body, kMostAnswerBytes);
  return message ? partial_success_of(*message) : std::nullopt;
}

// Of an answer with this grpc-status, as in ReceiverAnswer.
struct GrpcCode {
  const char* name;
  ReceiverAnswer::Kind kind = ReceiverAnswer::Kind::refused;
  bool may_have_arrived = false, may_be_mended = false;
};
constexpr unsigned kGrpcOk = 0, kGrpcResourceExhausted = 8;
constexpr GrpcCode kGrpcCodes[] = {{"OK"},
                                   {"CANCELLED", ReceiverAnswer::Kind::retry, true},
                                   {"UNKNOWN"},
                                   {"INVALID_ARGUMENT"},
                                   {"DEADLINE_EXCEEDED", ReceiverAnswer::Kind::retry, true},
                                   {"NOT_FOUND", ReceiverAnswer::Kind::refused, false, true},
                                   {"ALREADY_EXISTS"},
                                   {"PERMISSION_DENIED", ReceiverAnswer::Kind::refused, false, true},
                                   {"RESOURCE_EXHAUSTED"},
                                   {"FAILED_PRECONDITION"},
                                   {"ABORTED", ReceiverAnswer::Kind::retry, true},
                                   {"OUT_OF_RANGE", ReceiverAnswer::Kind::retry, true},
                                   {"UNIMPLEMENTED", ReceiverAnswer::Kind::refused, false, true},
                                   {"INTERNAL"},
                                   {"UNAVAILABLE", ReceiverAnswer::Kind::retry},
                                   {"DATA_LOSS", ReceiverAnswer::Kind::retry, true},
                                   {"UNAUTHENTICATED", ReceiverAnswer::Kind::refused, false, true}};

std::string answer_text(const std::string& code, const std::string& message) {
  return printable(message.empty() ? code : code + ": " + message, kMostRawText);
}

}  // namespace

ReceiverAnswer classify(const HttpAnswer& received, const ExportBody& sent) {
  if (received.status >= 200 && received.status < 300) {
    if (received.is_body_cut) return success({}, sent);
    if (received.body.empty()) return success(PartialSuccess(), sent);
    if (is_json(received.content_type)) return success(partial_success_of_json(received.body), sent);
    return success(is_protobuf(received.content_type) ? partial_success_of(received.body) : std::nullopt, sent);
  }
  ReceiverAnswer answer;
  answer.text = answer_text("HTTP " + std::to_string(received.status), error_text(received));
  switch (received.status) {
    case 413:
      answer.kind = ReceiverAnswer::Kind::too_large;
      break;
    case 502:
    case 504:
      answer.may_have_arrived = true;  // a proxy does not know what became of the request
      [[fallthrough]];
    case 429:
    case 503:
      answer.kind = ReceiverAnswer::Kind::retry;
      answer.retry_after = received.retry_after;
      break;
    default:
      answer.kind = ReceiverAnswer::Kind::refused;
      answer.may_be_mended = received.status == 401 || received.status == 403 || received.status == 404;
      if (received.status >= 300 && received.status < 400) {
        answer.text += " (redirects are not followed: use the address that it leads to)";
      }
  }
  return answer;
}

ReceiverAnswer classify(const GrpcAnswer& received, const ExportBody& sent) {
  if (received.http.status != 200) {
    const HttpAnswer& http = received.http;
    ReceiverAnswer answer = classify(HttpAnswer{http.status, "", "", false, http.retry_after}, sent);
    if (answer.kind == ReceiverAnswer::Kind::accepted) answer.kind = ReceiverAnswer::Kind::refused;
    return answer;
  }
  if (received.status.empty()) {
    const bool is_grpc = received.http.content_type.starts_with("application/grpc");
    return {.kind = is_grpc ? ReceiverAnswer::Kind::retry : ReceiverAnswer::Kind::refused,
            .may_have_arrived = is_grpc,
            .is_malformed = true,
            .text = is_grpc ? "the answer has no grpc-status" : "the receiver does not speak gRPC"};
  }
  unsigned code = 0;
  const char* const end = received.status.data() + received.status.size();
  const auto [at, error] = std::from_chars(received.status.data(), end, code);
  if (error != std::errc() || at != end || code >= std::size(kGrpcCodes)) {
    return {.kind = ReceiverAnswer::Kind::refused,
            .is_malformed = true,
            .text = "unknown grpc-status " + printable(received.status, 20)};
  }
  if (code == kGrpcOk) {
    return success(received.http.is_body_cut ? std::nullopt : partial_success_of_frame(received.http.body), sent);
  }
  const std::string message = percent_decoded(received.message).value_or(received.message);
  const GrpcCode& known = kGrpcCodes[code];
  const auto delay = retry_info_of(received.details);
  ReceiverAnswer answer{.kind = known.kind,
                        .may_have_arrived = known.may_have_arrived,
                        .may_be_mended = known.may_be_mended,
                        .retry_after = delay.value_or(std::chrono::milliseconds(0)),
                        .text = answer_text(std::string("gRPC ") + known.name, message)};
  if (code == kGrpcResourceExhausted && delay) {
    answer.kind = ReceiverAnswer::Kind::retry;
  } else if (code == kGrpcResourceExhausted && message.find("larger than max") != std::string::npos) {
    // Without RetryInfo, waiting does not help. Common servers answer so to a message that is too large.
    answer.kind = ReceiverAnswer::Kind::too_large;
  }
  return answer;
}

}  // namespace nopspan::collector
