// SPDX-License-Identifier: Apache-2.0
// The queue of requests, with a transport whose answers are chosen.
#include "export/export_queue.h"

#include "export/export_bodies.h"
#include "invented_spans.h"
#include "scripted_transport.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <string>
#include <utility>

namespace nopspan::collector {
namespace {

using namespace std::chrono_literals;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr auto kPatience = 60s;  // far longer than any test takes

ExportBody body_of(Signal signal, std::uint64_t items, const std::string& bytes = "x") {
  ExportBody body{signal, bytes, {}};
  (signal == Signal::traces ? body.items.spans : signal == Signal::logs ? body.items.logs : body.items.points) = items;
  return body;
}

// A body that can be split.
ExportBody real_spans(std::uint64_t count) {
  ExportBody made;
  ExportBodies feed({}, [&made](ExportBody body) { made = std::move(body); });
  for (std::uint64_t i = 0; i < count; ++i) {
    Entry entry = invented("span", "");
    entry.span_id = i + 1;
    feed.add(entry);
  }
  feed.finish();
  return made;
}

class ExportQueueTest : public testing::Test {
 protected:
  ExportQueueTest() {
    options.back_off = {1ms, 2ms};
    options.say = [this](const std::string& message) { said.push_back(message); };
  }
  [[nodiscard]] SignalAccount signal(std::size_t index) const { return account.totals().signals[index]; }
  ~ExportQueueTest() override {
    EXPECT_TRUE(account.totals().is_balanced());
    EXPECT_EQ(account.totals().total().in_flight, 0U);
    EXPECT_EQ(account.totals().total().queued, 0U);
  }

  ExportQueueOptions options;
  ReceiverAccount account;
  ScriptedTransport transport;
  std::vector<std::string> said;  // by the queue's thread, read after finish()
};

TEST_F(ExportQueueTest, SendsEverythingInOrder) {
  ExportQueue queue(options, transport, account);
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(queue.post(body_of(Signal::traces, 3, std::to_string(i))));
  EXPECT_TRUE(queue.finish(kPatience));
  const auto posted = transport.posted();
  ASSERT_EQ(posted.size(), 100U);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(posted[static_cast<std::size_t>(i)].bytes, std::to_string(i));
  EXPECT_EQ(signal(kTracesRow).accepted, 300U);
  EXPECT_EQ(account.totals().requests, 100U);
}

TEST_F(ExportQueueTest, TriesAgainUntilTheReceiverAccepts) {
  int attempts = 0;
  transport.set_reply([&](const ExportBody&) {
    ++attempts;
    // 503, timeout, 503: from the third attempt on, an earlier one may have arrived.
    return attempts < 4 ? answer_of(AnswerKind::retry, attempts == 2) : answer_of(AnswerKind::accepted);
  });
  ExportQueue queue(options, transport, account);
  queue.post(body_of(Signal::logs, 5));
  EXPECT_TRUE(queue.finish(kPatience));
  EXPECT_EQ(signal(kLogsRow).accepted, 5U);
  EXPECT_EQ(signal(kLogsRow).resent, 10U);
  EXPECT_THAT(said, Contains(StartsWith("receiver: no; trying again")));
  EXPECT_THAT(said, Contains("receiver: accepts requests again after 3 failed attempts"));
}

TEST_F(ExportQueueTest, ReportsAtTheEndHowLongItStillTries) {
  int attempts = 0;
  transport.set_reply(
      [&](const ExportBody&) { return answer_of(++attempts < 200 ? AnswerKind::retry : AnswerKind::accepted, false); });
  ExportQueue queue(options, transport, account);
  queue.post(body_of(Signal::logs, 5));
  transport.wait_for(1);
  EXPECT_TRUE(queue.finish(kPatience));
  EXPECT_THAT(said, Contains("receiver: no; trying again for at most 60 s"));
}

TEST_F(ExportQueueTest, LeavesOutLogRecordsThatAreNotWanted) {
  options.logs = false;
  ExportQueue queue(options, transport, account);
  EXPECT_TRUE(queue.post(body_of(Signal::logs, 5)));
  EXPECT_TRUE(queue.post(body_of(Signal::traces, 3)));
  EXPECT_TRUE(queue.finish(kPatience));
  EXPECT_EQ(transport.posted().size(), 1U);
  EXPECT_EQ(signal(kLogsRow).left_out, 5U);
  EXPECT_EQ(signal(kTracesRow).accepted, 3U);
}

TEST_F(ExportQueueTest, DropsWhatTheQueueCannotHold) {
  options.capacity_bytes = 10;
  transport.hold(true);
  ExportQueue queue(options, transport, account);
  EXPECT_TRUE(queue.has_space(Signal::traces));
  EXPECT_TRUE(queue.post(body_of(Signal::traces, 1, std::string(9, 'x'))));
  transport.wait_for(1);
  EXPECT_TRUE(queue.post(body_of(Signal::traces, 1, std::string(9, 'x')))) << "the last one may exceed the capacity";
  EXPECT_FALSE(queue.has_space(Signal::traces));
  EXPECT_FALSE(queue.post(body_of(Signal::traces, 7)));
  EXPECT_EQ(signal(kTracesRow).dropped[static_cast<std::size_t>(DropReason::queue_full)], 7U);
  transport.hold(false);
  EXPECT_TRUE(queue.finish(kPatience));
  EXPECT_EQ(signal(kTracesRow).accepted, 2U);
}

TEST_F(ExportQueueTest, HasRoomForASignalIfAnotherOneFails) {
  options.capacity_bytes = 100;
  transport.hold(true);
  ExportQueue queue(options, transport, account);
  EXPECT_TRUE(queue.post(body_of(Signal::logs, 1, std::string(100, 'x'))));
  EXPECT_FALSE(queue.has_space(Signal::logs));
  EXPECT_TRUE(queue.post(body_of(Signal::traces, 1, std::string(25, 'x'))));
  EXPECT_FALSE(queue.has_space(Signal::traces));
  transport.hold(false);
  EXPECT_TRUE(queue.finish(kPatience));
  EXPECT_TRUE(queue.has_space(Signal::traces));
}

TEST_F(ExportQueueTest, DoesNotWaitForAReceiverThatAsksForALongerPause) {
  transport.set_reply([](const ExportBody&) {
    ReceiverAnswer answer = answer_of(AnswerKind::retry);
    answer.retry_after = 1h;
    return answer;
  });
  options.retry_time = 2h;
  ExportQueue queue(options, transport, account);
  queue.post(body_of(Signal::traces, 2));
  transport.wait_for(1);
  const auto began = std::chrono::steady_clock::now();
  EXPECT_FALSE(queue.finish(10min));
  EXPECT_LT(std::chrono::steady_clock::now() - began, 5min);
  EXPECT_EQ(transport.posted().size(), 1U) << "it does not want another attempt before";
  EXPECT_THAT(said, Contains(HasSubstr("no: asks to wait for 1h")));
}

TEST_F(ExportQueueTest, GivesUpAtTheDeadline) {
  transport.set_reply([](const ExportBody& body) { return answer_of(AnswerKind::retry, body.signal == Signal::logs); });
  ExportQueue queue(options, transport, account);
  queue.post(body_of(Signal::traces, 2));
  queue.post(body_of(Signal::logs, 3));
  transport.wait_for(4);
  EXPECT_FALSE(queue.finish(0s));
  EXPECT_EQ(signal(kTracesRow).dropped[static_cast<std::size_t>(DropReason::no_time)], 2U);
  EXPECT_EQ(signal(kLogsRow).unconfirmed, 3U);
  EXPECT_FALSE(queue.post(body_of(Signal::traces, 4)));
  EXPECT_EQ(signal(kTracesRow).dropped[static_cast<std::size_t>(DropReason::no_time)], 6U);
}

TEST_F(ExportQueueTest, EndsWhileTheReceiverHangsIfTheUserHurries) {
  options.is_hurried = [] { return true; };
  transport.hold(true);
  ExportQueue queue(options, transport, account);
  queue.post(body_of(Signal::traces, 2));
  transport.wait_for(1);
  EXPECT_FALSE(queue.finish(kPatience));
  EXPECT_EQ(signal(kTracesRow).unconfirmed, 2U);
  EXPECT_THAT(said, ElementsAre("receiver: no"));  // there is no next attempt
}

TEST_F(ExportQueueTest, GivesUpABodyAfterTheRetryTime) {
  options.retry_time = 1ns;
  transport.set_reply([](const ExportBody&) { return answer_of(AnswerKind::retry); });
  ExportQueue queue(options, transport, account);
  queue.post(body_of(Signal::traces, 2));
  queue.post(body_of(Signal::traces, 3));
  transport.wait_for(2);
  EXPECT_FALSE(queue.finish(kPatience));
  EXPECT_EQ(transport.posted().size(), 2U);
  EXPECT_EQ(signal(kTracesRow).dropped[static_cast<std::size_t>(DropReason::no_time)], 5U);
  EXPECT_THAT(said, Contains(HasSubstr("gave up 2 spans")));
}

TEST_F(ExportQueueTest, DoesNotSendARefusedBodyAgain) {
  transport.set_reply([](const ExportBody&) { return answer_of(AnswerKind::refused); });
  ExportQueue queue(options, transport, account);
  queue.post(body_of(Signal::traces, 2));
  EXPECT_TRUE(queue.finish(kPatience));
  EXPECT_EQ(transport.posted().size(), 1U);
  EXPECT_EQ(signal(kTracesRow).refused, 2U);
  EXPECT_THAT(said, Contains("receiver: refused 2 spans: no"));
}

TEST_F(ExportQueueTest, CountsRejectedItemsAndMalformedAnswers) {
  transport.set_reply([](const ExportBody&) {
    ReceiverAnswer answer = answer_of(AnswerKind::accepted);
    answer.rejected = 1;
    answer.is_malformed = true;
    return answer;
  });
  ExportQueue queue(options, transport, account);
  queue.post(body_of(Signal::logs, 5));
  EXPECT_TRUE(queue.finish(kPatience));
  EXPECT_EQ(signal(kLogsRow).accepted, 4U);
  EXPECT_EQ(signal(kLogsRow).rejected, 1U);
  EXPECT_EQ(account.totals().malformed_answers, 1U);
}

TEST_F(ExportQueueTest, HalvesABodyThatIsTooLarge) {
  // The receiver accepts at most 3 spans in a request.
  transport.set_reply([](const ExportBody& body) {
    return answer_of(body.items.spans > 3 ? AnswerKind::too_large : AnswerKind::accepted);
  });
  ExportQueue queue(options, transport, account);
  queue.post(real_spans(100));
  EXPECT_TRUE(queue.finish(kPatience));
  EXPECT_EQ(signal(kTracesRow).accepted, 100U);
  EXPECT_EQ(signal(kTracesRow).resent, 0U);
}

// The answer of a proxy can be lost if it comes before the whole request was sent.
TEST_F(ExportQueueTest, HalvesABodyWhoseAnswerMayBeLost) {
  transport.set_reply([](const ExportBody& body) {
    ReceiverAnswer answer = answer_of(body.items.spans > 3 ? AnswerKind::retry : AnswerKind::refused);
    answer.may_be_too_large = body.items.spans > 3;
    return answer;
  });
  ExportQueue queue(options, transport, account);
  queue.post(real_spans(100));
  EXPECT_TRUE(queue.finish(kPatience));
  EXPECT_EQ(signal(kTracesRow).refused, 100U) << "the refusal is known";
}

TEST_F(ExportQueueTest, RefusesASingleItemThatIsTooLarge) {
  transport.set_reply([](const ExportBody&) { return answer_of(AnswerKind::too_large); });
  ExportQueue queue(options, transport, account);
  queue.post(real_spans(5));
  queue.post(body_of(Signal::traces, 5, "malformed"));
  EXPECT_TRUE(queue.finish(kPatience));
  EXPECT_EQ(signal(kTracesRow).refused, 10U);
}

TEST_F(ExportQueueTest, DoesNotClaimThatARefusedBodyIsNotThereIfItMayHaveArrived) {
  int attempts = 0;
  transport.set_reply([&](const ExportBody&) {
    return ++attempts % 2 == 1 ? answer_of(AnswerKind::retry, true) : answer_of(AnswerKind::refused);
  });
  ExportQueue queue(options, transport, account);
  queue.post(body_of(Signal::traces, 2));
  EXPECT_FALSE(queue.finish(kPatience));
  EXPECT_EQ(signal(kTracesRow).unconfirmed, 2U);
  EXPECT_EQ(signal(kTracesRow).refused, 0U);
}

TEST_F(ExportQueueTest, DoesNotLetOneSignalWaitForAnother) {
  options.back_off = {1h, 1h};
  transport.set_reply([](const ExportBody& body) {
    return answer_of(body.signal == Signal::traces ? AnswerKind::retry : AnswerKind::accepted);
  });
  ExportQueue queue(options, transport, account);
  queue.post(body_of(Signal::traces, 1));
  transport.wait_for(1);
  queue.post(body_of(Signal::logs, 1));
  queue.post_metrics({body_of(Signal::metrics, 1)});
  transport.wait_for(3);
  transport.set_reply([](const ExportBody&) { return answer_of(AnswerKind::accepted); });
  // The end does not wait for an hour.
  EXPECT_TRUE(queue.finish(kPatience));
  EXPECT_EQ(signal(kTracesRow).accepted, 1U);
}

// An interval that is shorter than the time without an answer.
// Each difference is sent, or counted if there is no room.
TEST_F(ExportQueueTest, KeepsMetricsThatAreDifferences) {
  transport.hold(true);
  options.has_deltas = true;
  options.capacity_bytes = 8;
  ExportQueue queue(options, transport, account);
  queue.post_metrics({body_of(Signal::metrics, 1, "first")});
  transport.wait_for(1);
  for (int i = 0; i < 9; ++i) queue.post_metrics({body_of(Signal::metrics, 1, "other")});
  transport.hold(false);
  EXPECT_TRUE(queue.finish(kPatience));
  const SignalAccount metrics = signal(kMetricsRow);
  const std::uint64_t dropped = metrics.dropped[static_cast<std::size_t>(DropReason::queue_full)];
  EXPECT_GE(metrics.accepted, 2U) << "the ones that waited are not replaced";
  EXPECT_GE(dropped, 1U);
  EXPECT_EQ(metrics.accepted + dropped, 10U);
}

TEST_F(ExportQueueTest, SaysWhyNoMetricsArrive) {
  transport.hold(true);
  ExportQueue queue(options, transport, account);
  queue.post_metrics({body_of(Signal::metrics, 1, "first")});
  transport.wait_for(1);
  queue.post_metrics({body_of(Signal::metrics, 1, "second")});
  transport.set_reply([](const ExportBody& body) {
    return answer_of(body.bytes == "first" ? AnswerKind::retry : AnswerKind::accepted);
  });
  transport.hold(false);
  EXPECT_TRUE(queue.finish(kPatience));
  EXPECT_THAT(said, Contains(StartsWith("receiver: no")));
}

TEST_F(ExportQueueTest, ReplacesMetricsThatWait) {
  transport.hold(true);
  ExportQueue queue(options, transport, account);
  queue.post_metrics({body_of(Signal::metrics, 1, "first"), body_of(Signal::metrics, 2, "also first")});
  transport.wait_for(1);
  queue.post_metrics({body_of(Signal::metrics, 4, "second")});
  transport.set_reply([](const ExportBody& body) {
    return answer_of(body.bytes == "first" ? AnswerKind::retry : AnswerKind::accepted, true);
  });
  transport.hold(false);
  EXPECT_FALSE(queue.finish(kPatience));
  const SignalAccount metrics = signal(kMetricsRow);
  EXPECT_EQ(metrics.accepted, 4U);
  EXPECT_EQ(metrics.unconfirmed, 1U);
  EXPECT_EQ(metrics.dropped[static_cast<std::size_t>(DropReason::replaced)], 2U);
}

// For any answers, the receiver's spans and duplicates are within the bounds of the account.
TEST_F(ExportQueueTest, KeepsItsPromisesWithAnyReceiver) {
  for (unsigned seed = 0; seed < 10; ++seed) {
    ReceiverAccount own;
    std::mt19937_64 random(seed);
    std::vector<unsigned> times(200);  // how often the receiver has each span
    ScriptedTransport receiver([&](const ExportBody& body) {
      const auto store = [&] { ++times[std::stoul(body.bytes)]; };
      switch (random() % 8) {
        case 0:
          return answer_of(AnswerKind::retry);
        case 1:
          store();
          return answer_of(AnswerKind::retry, true);
        case 2:
          return answer_of(AnswerKind::retry, true);
        case 3:
          return answer_of(AnswerKind::refused);
        default:
          store();
          return answer_of(AnswerKind::accepted);
      }
    });
    options.say = [](const std::string&) {};
    options.back_off = {10us, 100us};
    {
      ExportQueue queue(options, receiver, own);
      for (std::size_t i = 0; i < times.size(); ++i) queue.post(body_of(Signal::traces, 1, std::to_string(i)));
      if (seed % 2 == 0) receiver.wait_for(50);
      queue.finish(seed % 2 == 0 ? std::chrono::nanoseconds(0) : kPatience);
    }
    std::uint64_t distinct = 0, duplicates = 0;
    for (const unsigned each : times) {
      distinct += each > 0 ? 1 : 0;
      duplicates += each > 1 ? each - 1 : 0;
    }
    const SignalAccount traces = own.totals().signals[kTracesRow];
    EXPECT_TRUE(own.totals().is_balanced());
    EXPECT_EQ(traces.taken, times.size());
    EXPECT_LE(duplicates, traces.resent);
    EXPECT_GE(distinct, traces.accepted);
    EXPECT_LE(distinct, traces.accepted + traces.unconfirmed) << "seed " << seed;
  }
}

TEST(BackOff, GrowsWithJitterUpToItsLimit) {
  BackOff back_off({1s, 8s}, 1);
  for (const auto interval : {1s, 2s, 4s, 8s, 8s, 8s}) {
    const auto pause = back_off.next();
    EXPECT_GE(pause, interval / 2);
    EXPECT_LE(pause, interval + interval / 2);
  }
  back_off.reset();
  EXPECT_LE(back_off.next(), 1500ms);
  EXPECT_NE(BackOff({1s, 8s}, 1).next(), BackOff({1s, 8s}, 2).next());
}

}  // namespace
}  // namespace nopspan::collector
