// SPDX-License-Identifier: Apache-2.0
// Answers of receivers: all statuses, and arbitrary bytes.
#include "export/answer.h"

#include "base/gzip.h"
#include "scripted_transport.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <protozero/pbf_writer.hpp>

#include <random>
#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

const ExportBody kSent = {Signal::traces, "", {10, 3, 0, 0}};

std::string response(std::int64_t rejected, const std::string& message) {
  std::string partial, bytes;
  protozero::pbf_writer inner(partial);
  inner.add_int64(1, rejected);
  inner.add_string(2, message);
  protozero::pbf_writer(bytes).add_message(1, partial);
  return bytes;
}

ReceiverAnswer http(long status, const std::string& body = "", const std::string& type = "application/x-protobuf") {
  HttpAnswer answer;
  answer.status = status;
  answer.body = body;
  answer.content_type = type;
  answer.retry_after = milliseconds(3000);
  return classify(answer, kSent);
}

std::string frame(const std::string& message, bool is_compressed = false) {
  std::string head(1, is_compressed ? '\1' : '\0');
  for (const unsigned shift : {24U, 16U, 8U, 0U}) head += static_cast<char>(message.size() >> shift & 0xffU);
  return head + message;
}

ReceiverAnswer grpc(const std::string& status, const std::string& body = "", const std::string& details = "",
                    const std::string& message = "") {
  return classify(GrpcAnswer{status, message, details, {200, "application/grpc", body}}, kSent);
}

TEST(ReceiverAnswer, OfSuccessAcceptsEverything) {
  for (const std::string& body : {std::string(), response(0, "")}) {
    const ReceiverAnswer answer = http(200, body);
    EXPECT_EQ(answer.kind, AnswerKind::accepted);
    EXPECT_EQ(answer.rejected, 0U);
    EXPECT_FALSE(answer.is_malformed);
    EXPECT_EQ(answer.text, "");
  }
  EXPECT_EQ(grpc("0", frame("")).kind, AnswerKind::accepted);
  EXPECT_FALSE(grpc("0", frame("")).is_malformed);
  EXPECT_FALSE(grpc("0", frame("", true)).is_malformed);
  EXPECT_FALSE(grpc("0", frame(gzipped("", 1), true)).is_malformed);
}

TEST(ReceiverAnswer, OfPartialSuccessRejectsAtMostWhatWasSent) {
  const std::string json = R"({"partialSuccess":{"rejectedSpans":"4","errorMessage":"no \u001b[1m"}})";
  for (const ReceiverAnswer& answer :
       {http(200, response(4, "no \x1b[1m")), http(200, json, "application/json; charset=utf-8"),
        grpc("0", frame(response(4, "no \x1b[1m"))), grpc("0", frame(gzipped(response(4, "no \x1b[1m"), 1), true))}) {
    EXPECT_EQ(answer.kind, AnswerKind::accepted);
    EXPECT_EQ(answer.rejected, 4U);
    EXPECT_EQ(answer.text, "no \\x1b[1m");
    EXPECT_FALSE(answer.is_malformed);
  }
  EXPECT_EQ(http(200, response(11, "")).rejected, 10U) << "events of spans cannot be rejected";
  EXPECT_TRUE(http(200, response(11, "")).is_malformed);
  for (const std::string number :
       {"11", "\"9223372036854775808\"", "18446744073709551615", "\"99999999999999999999\""}) {
    const ReceiverAnswer absurd =
        http(200, R"({"partialSuccess":{"rejectedSpans":)" + number + "}}", "application/json");
    EXPECT_EQ(absurd.rejected, 10U) << number;
    EXPECT_TRUE(absurd.is_malformed) << number;
  }
  EXPECT_EQ(http(200, response(-1, "")).rejected, 0U);
  EXPECT_TRUE(http(200, response(-1, "")).is_malformed);
  EXPECT_EQ(http(200, response(0, "a warning")).text, "a warning");
}

TEST(ReceiverAnswer, OfSuccessWithGarbageIsMalformedAndAccepted) {
  const std::vector<ReceiverAnswer> answers = {
      http(200, "<html>", "text/html"),
      http(200, "\xff\xff"),
      http(200, "{", "application/json"),
      http(200, "[]", "application/json"),
      http(200, R"({"partialSuccess":{"rejectedSpans":{}}})", "application/json"),
      http(200, R"({"partialSuccess":{"rejectedSpans":""}})", "application/json"),
      grpc("0", "x"),
      grpc("0", frame("\xff\xff")),
      grpc("0", frame("\xff\xff", true)),
      grpc("0", frame(gzipped(response(4, std::string(kMostAnswerBytes, 'x')), 1), true)),
      grpc("0", "")};
  for (const ReceiverAnswer& answer : answers) {
    EXPECT_EQ(answer.kind, AnswerKind::accepted);
    EXPECT_EQ(answer.rejected, 0U);
    EXPECT_TRUE(answer.is_malformed);
    EXPECT_NE(answer.text, "");
  }
}

TEST(ReceiverAnswer, IsRetriedForTheSpecificationsHttpCodesOnly) {
  for (long status = 100; status < 600; ++status) {
    const ReceiverAnswer answer = http(status);
    const bool is_retried = status == 429 || status == 502 || status == 503 || status == 504;
    if (status >= 200 && status < 300) {
      EXPECT_EQ(answer.kind, AnswerKind::accepted);
    } else if (status == 413) {
      EXPECT_EQ(answer.kind, AnswerKind::too_large);
    } else {
      EXPECT_EQ(answer.kind, is_retried ? AnswerKind::retry : AnswerKind::refused) << status;
    }
    EXPECT_EQ(answer.may_have_arrived, status == 502 || status == 504) << status;
    EXPECT_EQ(answer.may_be_mended, status == 401 || status == 403 || status == 404) << status;
    EXPECT_EQ(answer.retry_after, is_retried ? milliseconds(3000) : milliseconds(0));
  }
  EXPECT_THAT(http(302).text, HasSubstr("redirects are not followed"));
}

TEST(ReceiverAnswer, HasTheReceiversMessage) {
  std::string status;
  protozero::pbf_writer writer(status);
  writer.add_int32(1, 3);
  writer.add_string(2, "bad\nspan");
  EXPECT_EQ(http(400, status).text, "HTTP 400: bad\\x0aspan");
  EXPECT_EQ(http(400, R"({"message":"bad"})", "application/json").text, "HTTP 400: bad");
  EXPECT_EQ(http(401, "go away\nnow", "text/plain").text, "HTTP 401: go away");
  EXPECT_EQ(http(400, "\xff").text, "HTTP 400");
  EXPECT_EQ(http(400, "{", "application/json").text, "HTTP 400");
  EXPECT_EQ(grpc("3", "", "", "a%20b").text, "gRPC INVALID_ARGUMENT: a b");
  EXPECT_LE(http(400, std::string(60'000, 'x'), "text/plain").text.size(), 4200U) << "a secret is searched in it";
}

TEST(ReceiverAnswer, IsRetriedForTheSpecificationsGrpcCodesOnly) {
  for (unsigned code = 1; code < 17; ++code) {
    const ReceiverAnswer answer = grpc(std::to_string(code));
    const bool is_retried = code == 1 || code == 4 || code == 10 || code == 11 || code == 14 || code == 15;
    EXPECT_EQ(answer.kind, is_retried ? AnswerKind::retry : AnswerKind::refused) << code;
    EXPECT_EQ(answer.may_have_arrived, is_retried && code != 14) << code;
    EXPECT_EQ(answer.may_be_mended, code == 5 || code == 7 || code == 12 || code == 16) << code;
    EXPECT_FALSE(answer.is_malformed);
  }
  for (const char* const status : {"17", "-1", "x", "0x1", "99999999999999999999"}) {
    EXPECT_EQ(grpc(status).kind, AnswerKind::refused);
    EXPECT_TRUE(grpc(status).is_malformed);
  }
}

TEST(ReceiverAnswer, OfAnExhaustedGrpcReceiverIsRetriedIfItSaysWhen) {
  // google.rpc.Status {8, "slow", [Any {type.googleapis.com/google.rpc.RetryInfo, {Duration {2, 500000000}}}]}
  const std::string details = "CAgSBHNsb3caNgoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIKCggIAhCAyrXuAQ";
  ReceiverAnswer answer = grpc("8", "", details);
  EXPECT_EQ(answer.kind, AnswerKind::retry);
  EXPECT_EQ(answer.retry_after, milliseconds(2500));
  EXPECT_EQ(grpc("14", "", details + "==").retry_after, milliseconds(2500));
  EXPECT_EQ(grpc("8").kind, AnswerKind::refused);
  EXPECT_EQ(grpc("8", "", "!!!").kind, AnswerKind::refused);
  EXPECT_EQ(grpc("8", "", "", "Received message larger than max (5 vs. 4)").kind, AnswerKind::too_large);
}

TEST(ReceiverAnswer, WithoutAGrpcStatusDoesNotCount) {
  ReceiverAnswer answer = grpc("");
  EXPECT_EQ(answer.kind, AnswerKind::retry);
  EXPECT_TRUE(answer.may_have_arrived);
  EXPECT_TRUE(answer.is_malformed);
  answer = classify(GrpcAnswer{"", "", "", {200, "text/html"}}, kSent);
  EXPECT_EQ(answer.kind, AnswerKind::refused);
  answer = classify(GrpcAnswer{"", "", "", {503, "text/html"}}, kSent);
  EXPECT_EQ(answer.kind, AnswerKind::retry);
  answer = classify(GrpcAnswer{"", "", "", {404, ""}}, kSent);
  EXPECT_EQ(answer.kind, AnswerKind::refused);
  answer = classify(GrpcAnswer{"", "", "", {204, ""}}, kSent);
  EXPECT_EQ(answer.kind, AnswerKind::refused);
}

TEST(ReceiverAnswer, MayBeAnyBytes) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes(random() % 40, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    const std::string type = random() % 2 == 0 ? "application/json" : "";
    EXPECT_LE(http(200, bytes, type).rejected, 10U);
    EXPECT_NE(http(500, bytes, type).text, "");
    EXPECT_LE(grpc("0", frame(bytes)).rejected, 10U);
    EXPECT_EQ(grpc("14", bytes, bytes, bytes).kind, AnswerKind::retry);
  }
}

}  // namespace
}  // namespace nopspan::collector
