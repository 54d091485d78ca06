// SPDX-License-Identifier: Apache-2.0
// The account of a receiver: its sums hold, whatever happens.
#include "export/receiver_account.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <functional>
#include <iterator>
#include <random>
#include <string>

namespace nopspan::collector {
namespace {

using testing::HasSubstr;

constexpr ItemCounts kTenSpans = {10, 4, 0, 0}, kSevenLogs = {0, 0, 7, 0};

TEST(ReceiverAccount, FollowsARequestThatIsAccepted) {
  ReceiverAccount account;
  account.add(kTenSpans, &SignalAccount::queued);
  EXPECT_EQ(account.totals().signals[kTracesRow].queued, 10U);
  account.send(kTenSpans, &SignalAccount::queued, false);
  EXPECT_EQ(account.totals().signals[kTracesRow].in_flight, 10U);
  account.accept(kTenSpans);
  const AccountTotals totals = account.totals();
  EXPECT_EQ(totals.signals[kTracesRow].accepted, 10U);
  EXPECT_EQ(totals.signals[kSpanEventsRow].accepted, 4U);
  EXPECT_EQ(totals.signals[kTracesRow].resent, 0U);
  EXPECT_EQ(totals.requests, 1U);
  EXPECT_TRUE(totals.is_balanced());
}

TEST(ReceiverAccount, DoesNotKnowWhichEventsBelongToRejectedSpans) {
  ReceiverAccount account;
  account.add(kTenSpans, &SignalAccount::queued);
  account.send(kTenSpans, &SignalAccount::queued, false);
  account.accept(kTenSpans, 3);
  SignalAccount traces = account.totals().signals[kTracesRow], events = account.totals().signals[kSpanEventsRow];
  EXPECT_EQ(traces.accepted, 7U);
  EXPECT_EQ(traces.rejected, 3U);
  EXPECT_EQ(events.unconfirmed, 4U);

  account.add(kTenSpans, &SignalAccount::queued);
  account.send(kTenSpans, &SignalAccount::queued, false);
  account.accept(kTenSpans, 10);
  events = account.totals().signals[kSpanEventsRow];
  EXPECT_EQ(events.rejected, 4U);
  EXPECT_TRUE(account.totals().is_balanced());
}

TEST(ReceiverAccount, CountsWhatIsSentAgain) {
  ReceiverAccount account;
  account.add(kSevenLogs, &SignalAccount::queued);
  account.send(kSevenLogs, &SignalAccount::queued, false);
  account.move(kSevenLogs, &SignalAccount::in_flight, &SignalAccount::queued);
  account.send(kSevenLogs, &SignalAccount::queued, true);
  account.move(kSevenLogs, &SignalAccount::in_flight, &SignalAccount::queued);
  account.move(kSevenLogs, &SignalAccount::queued, &SignalAccount::unconfirmed);
  const SignalAccount logs = account.totals().signals[kLogsRow];
  EXPECT_EQ(logs.resent, 7U);
  EXPECT_EQ(logs.unconfirmed, 7U);
  EXPECT_TRUE(logs.is_balanced());
}

TEST(ReceiverAccount, DoesNotCountReplacedMetricsAsLosses) {
  ReceiverAccount account;
  account.drop_new({0, 0, 0, 5}, DropReason::replaced);
  EXPECT_FALSE(account.totals().has_losses());
  account.drop_new({0, 0, 0, 1}, DropReason::no_time);
  EXPECT_TRUE(account.totals().has_losses());
}

TEST(ReceiverAccount, StaysBalancedIfACallerMovesTooMuch) {
  ReceiverAccount account;
  account.add(kSevenLogs, &SignalAccount::queued);
  account.send({0, 0, 100, 0}, &SignalAccount::queued, false);
  account.move({0, 0, 200, 0}, &SignalAccount::in_flight, &SignalAccount::refused);
  EXPECT_EQ(account.totals().signals[kLogsRow].refused, 7U);
  EXPECT_TRUE(account.totals().is_balanced());
}

TEST(ReceiverAccount, StaysBalancedAfterRandomMoves) {
  std::mt19937_64 random(7);
  ReceiverAccount account;
  const auto any = [&](std::uint64_t most) { return random() % (most + 1); };
  for (int i = 0; i < 20'000; ++i) {
    const ItemCounts items = {any(5), any(5), any(5), any(5)};
    const ReceiverAccount::Count place = any(1) == 0 ? &SignalAccount::queued : &SignalAccount::spooled;
    const auto reason = static_cast<DropReason>(any(kDropReasons.size() - 1));
    const std::function<void()> moves[] = {
        [&] { account.add(items, &SignalAccount::queued); },
        [&] { account.add(items, &SignalAccount::spooled); },
        [&] { account.add(items, &SignalAccount::left_out); },
        [&] { account.drop_new(items, reason); },
        [&] { account.add(items, &SignalAccount::spooled, &SignalAccount::found); },
        [&] { account.send(items, place, any(1) == 0); },
        [&] { account.accept(items, any(20)); },
        [&] { account.move(items, &SignalAccount::in_flight, &SignalAccount::refused); },
        [&] { account.move(items, &SignalAccount::in_flight, place); },
        [&] { account.drop(items, place, reason); },
        [&] { account.move(items, place, &SignalAccount::unconfirmed); },
        [&] { account.move(items, &SignalAccount::queued, &SignalAccount::spooled); },
    };
    moves[any(std::size(moves) - 1)]();
    ASSERT_TRUE(account.totals().is_balanced()) << "after move " << i;
  }
}

TEST(ReceiverAccount, IsPrintedWithEveryCount) {
  ReceiverAccount account;
  account.add(kTenSpans, &SignalAccount::queued);
  account.send(kTenSpans, &SignalAccount::queued, true);
  account.accept(kTenSpans, 10);
  account.drop_new({2, 0, 0, 0}, DropReason::spool_full);
  account.add(kSevenLogs, &SignalAccount::spooled, &SignalAccount::found);
  const auto json = to_json(account.totals());
  EXPECT_EQ(json["balanced"], true);
  EXPECT_EQ(json["signals"]["traces"]["rejected"], 10);
  EXPECT_EQ(json["signals"]["traces"]["dropped"]["spool_full"], 2);
  EXPECT_EQ(json["signals"]["traces"]["resent"], 10);
  EXPECT_EQ(json["signals"]["logs"]["found"], 7);
  const std::string text = to_text(account.totals(), "http://host");
  EXPECT_THAT(text, HasSubstr("http://host: traces: 12 taken = 10 rejected + 2 dropped (spool full); 10 resent\n"));
  EXPECT_THAT(text, HasSubstr("http://host: logs: 0 taken + 7 found in the spool = 7 spooled\n"));
}

}  // namespace
}  // namespace nopspan::collector
