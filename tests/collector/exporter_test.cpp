// SPDX-License-Identifier: Apache-2.0
// What the exporter passes to a receiver: whole requests, and an account of all items.
#include "export/exporter.h"

#include "assembled_traces.h"
#include "export/otlp_receiver.h"
#include "scripted_transport.h"
#include "temporary_folder.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <utility>

namespace nopspan::collector {
namespace {

using namespace std::chrono_literals;

class ExporterTest : public testing::Test {
 protected:
  // Exports to a receiver whose answers wait until `release`.
  Exporter& export_to(OtlpReceiverOptions options, const Filter& filter = {}) {
    options.queue.back_off = {1ms, 2ms};
    auto transport = std::make_unique<ScriptedTransport>();
    transport_ = transport.get();
    transport_->hold(true);
    exporter_ = std::make_unique<Exporter>(filter, TraceStageOptions(), Exporter::Signals());
    exporter_->add(std::make_unique<OtlpReceiver>(std::move(options), std::move(transport)));
    return *exporter_;
  }
  // Returns the account of everything.
  AccountTotals finish() {
    transport_->hold(false);
    const std::unique_ptr<Receiver>& receiver = exporter_->receivers().front();
    receiver->finish(60s);
    AccountTotals totals = receiver->account().totals();
    EXPECT_TRUE(totals.is_balanced());
    return totals;
  }
  // A request of `spans` spans with two events each, all of which arrive after the spans.
  void add_request(std::uint64_t spans) {
    for (std::uint64_t id = 2; id <= spans; ++id) exporter_->on_entry(span_of(id, 1));
    exporter_->on_entry(span_of(1, 0, "root"));
    for (const char* name : {"asked", "answered"}) {
      for (std::uint64_t id = 1; id <= spans; ++id) exporter_->on_entry(event_of(id, name));
    }
    exporter_->on_tick(kBegin);
    exporter_->on_tick(kBegin + 60 * kSecond);
    exporter_->on_tick(kBegin + 120 * kSecond);
  }

  const TemporaryFolder folder_;
  std::unique_ptr<Exporter> exporter_;
  ScriptedTransport* transport_ = nullptr;
};

const Filter kRoots{.name = "root"};

TEST_F(ExporterTest, PassesTheEventsOfARequestBeforeTheirSpans) {
  export_to({}, kRoots);
  add_request(100);
  const AccountTotals totals = finish();
  EXPECT_EQ(totals.signals[kTracesRow].accepted, 100U);
  EXPECT_EQ(totals.signals[kSpanEventsRow].accepted, 200U);
  EXPECT_EQ(totals.signals[kLogsRow].taken, 0U);
}

TEST_F(ExporterTest, PutsEventsAndTheirSpanIntoTheSameGroupOfTheSpool) {
  OtlpReceiverOptions options;
  options.queue.capacity_bytes = 1;
  options.spool.emplace();
  options.spool->folder = folder_ / "spool";
  options.spool->group_bytes = 1000;
  Exporter& exporter = export_to(options, kRoots);
  Entry first = span_of(1000, 0, "root");
  first.trace_id = trace_number(2);
  exporter.on_entry(first);
  exporter.on_tick(kBegin);
  exporter.on_tick(kBegin + 60 * kSecond);
  exporter.on_tick(kBegin + 120 * kSecond);
  transport_->wait_for(1);  // the queue is full until it is answered
  add_request(100);
  const AccountTotals totals = finish();
  EXPECT_EQ(totals.signals[kTracesRow].accepted, 101U);
  EXPECT_EQ(totals.signals[kSpanEventsRow].accepted, 200U);
  EXPECT_EQ(totals.signals[kLogsRow].taken, 0U);
  EXPECT_GT(totals.requests, 10U);
}

TEST_F(ExporterTest, CountsSpansThatCannotBeEncodedAsDropped) {
  Exporter& exporter = export_to({});
  Entry without_trace = span_of(1, 0), without_id = span_of(0, 0);
  without_trace.trace_id = TraceId();
  for (const Entry& entry : {without_trace, without_id, span_of(1, 0)}) exporter.on_entry(entry);
  const AccountTotals totals = finish();
  EXPECT_EQ(totals.signals[kTracesRow].taken, 3U);
  EXPECT_EQ(totals.signals[kTracesRow].accepted, 1U);
  EXPECT_EQ(totals.signals[kTracesRow].dropped[static_cast<std::size_t>(DropReason::not_encodable)], 2U);
}

}  // namespace
}  // namespace nopspan::collector
