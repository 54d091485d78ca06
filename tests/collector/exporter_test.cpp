// SPDX-License-Identifier: Apache-2.0
// What the exporter passes to a receiver: whole requests, the steps that serve wanted ones, and an account of all
// items.
#include "export/exporter.h"

#include "assembled_traces.h"
#include "export/export_bodies.h"
#include "export/otlp_receiver.h"
#include "scripted_transport.h"
#include "temporary_folder.h"

#include <nopspan/probes.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

class ExporterTest : public testing::Test {
 protected:
  // Exports to a receiver whose answers wait until `release`.
  Exporter& export_to(OtlpReceiverOptions options, const Filter& filter = {}, const TraceStageOptions& stage = {}) {
    options.queue.back_off = {1ms, 2ms};
    auto transport = std::make_unique<ScriptedTransport>();
    transport_ = transport.get();
    transport_->hold(true);
    exporter_ = std::make_unique<Exporter>(filter, stage, Exporter::Signals());
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
  [[nodiscard]] OtlpReceiverOptions with_spool() const {
    OtlpReceiverOptions options;
    options.spool.emplace();
    options.spool->folder = folder_ / "spool";
    return options;
  }
  // What is in the spool when the exporter is killed now.
  void kill() { std::filesystem::copy(folder_ / "spool", killed_ / "spool", std::filesystem::copy_options::recursive); }
  // The account of the next run after kill().
  [[nodiscard]] SignalAccount next_run() const {
    ReceiverAccount account;
    SpoolOptions options;
    options.folder = killed_ / "spool";
    const Spool spool(std::move(options), account);
    return account.totals().total();
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

  const TemporaryFolder folder_, killed_;
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

TEST_F(ExporterTest, SendsEveryHalfSecondAndWhatIsThereWhenTheClockStandsStill) {
  Exporter& exporter = export_to({});
  transport_->hold(false);
  exporter.on_tick(kBegin);
  exporter.on_entry(span_of(1, 0));
  for (std::uint64_t tick = 1; tick <= 4; ++tick) exporter.on_tick(kBegin + tick * kSecond / 10);
  exporter.on_entry(span_of(2, 0));
  exporter.on_tick(kBegin + kSecond / 2);
  transport_->wait_for(1);
  exporter.on_entry(span_of(3, 0));
  exporter.on_tick(kBegin + kSecond * 6 / 10);
  exporter.on_tick(kBegin + kSecond * 6 / 10);  // of a recording whose pipe is silent
  transport_->wait_for(2);
  exporter.on_entry(span_of(4, 0));
  exporter.on_tick(kBegin - 60 * kSecond);  // the clock was set back
  transport_->wait_for(3);
  EXPECT_EQ(transport_->posted().size(), 3U);
  EXPECT_EQ(transport_->posted()[0].items.spans, 2U);
}

TEST_F(ExporterTest, NotesWhatIsLeftInMemoryWhileItSendsTheEnd) {
  Exporter& exporter = export_to(with_spool());
  exporter.on_entry(span_of(1, 0));
  Entry log = event_of(1);
  log.span_id = 0;
  exporter.on_entry(log);
  exporter.on_tick(kBegin);
  int requests = 0;
  transport_->set_reply([&](const ExportBody& /*body*/) {
    if (++requests == 2) kill();
    return answer_of(AnswerKind::accepted);
  });
  finish();
  EXPECT_EQ(next_run().missing, 1U) << "one of two requests had its answer";
}

TEST_F(ExporterTest, NotesNothingThatIsInTheSpool) {
  OtlpReceiverOptions options = with_spool();
  options.queue.capacity_bytes = 0;
  Exporter& exporter = export_to(options);
  exporter.on_entry(event_of(1));
  exporter.on_tick(kBegin);  // the event waits for its span
  exporter.on_entry(span_of(1, 0));
  exporter.on_tick(kBegin + kSecond / 2);
  transport_->wait_for(1);  // nothing changes until it is answered
  kill();
  const SignalAccount next = next_run();
  EXPECT_EQ(next.found, 2U);
  EXPECT_EQ(next.missing, 0U);
  finish();
}

TEST_F(ExporterTest, NotesEventsThatWaitForTheirSpan) {
  Exporter& exporter = export_to(with_spool());
  exporter.on_entry(event_of(1));
  exporter.on_tick(kBegin);
  kill();
  EXPECT_EQ(next_run().missing, 1U);
  finish();
}

TEST_F(ExporterTest, HasEventsOfOpenSpansInTheSpoolWhileTheReceiverFails) {
  Exporter& exporter = export_to(with_spool());
  transport_->set_reply([](const ExportBody&) { return answer_of(AnswerKind::retry); });
  transport_->hold(false);
  exporter.on_entry(span_of(1, 0));
  exporter.on_tick(kBegin);
  transport_->wait_for(2);  // the first one has failed
  exporter.on_entry(event_of(2));
  const ReceiverAccount& account = exporter.receivers().front()->account();
  // The source's clock stands still, as that of a recording whose writer is silent.
  while (account.totals().signals[kLogsRow].spooled == 0) {
    exporter.on_tick(kBegin);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  kill();
  EXPECT_EQ(next_run().found, 2U);
  transport_->set_reply([](const ExportBody&) { return answer_of(AnswerKind::accepted); });
  finish();
}

// A log record that nobody wants would only be left out.
TEST_F(ExporterTest, KeepsEventsOfOpenSpansInMemoryIfLogRecordsAreNotWanted) {
  OtlpReceiverOptions options = with_spool();
  options.queue.logs = false;
  Exporter& exporter = export_to(options);
  exporter.on_tick(kBegin);
  exporter.on_entry(event_of(2));
  transport_->set_reply([](const ExportBody&) { return answer_of(AnswerKind::retry); });
  transport_->hold(false);
  exporter.on_entry(span_of(1, 0));
  exporter.on_tick(kBegin);
  transport_->wait_for(2);  // the first one has failed
  std::this_thread::sleep_for(std::chrono::seconds(1));
  exporter.on_tick(kBegin + kSecond);
  exporter.on_entry(span_of(2, 0));
  exporter.on_tick(kBegin + kSecond);
  transport_->set_reply([](const ExportBody&) { return answer_of(AnswerKind::accepted); });
  const AccountTotals totals = finish();
  EXPECT_EQ(totals.signals[kSpanEventsRow].accepted, 1U);
  EXPECT_EQ(totals.signals[kLogsRow].left_out, 0U);
}

TEST_F(ExporterTest, NotesHowMuchIsInMemoryBetweenTicks) {
  Exporter& exporter = export_to(with_spool());
  exporter.on_tick(kBegin);
  for (std::uint64_t id = 1; id <= 400; ++id) exporter.on_entry(span_of(id, 0));
  kill();
  EXPECT_GE(next_run().missing, 256U);
  finish();
}

TEST_F(ExporterTest, CountsWhatATraceHasNoRoomForAsLost) {
  TraceStageOptions stage;
  stage.limits.entries_per_trace = 10;
  export_to({}, kRoots, stage);
  add_request(100);
  const AccountTotals totals = finish();
  const SignalAccount all = totals.total();
  EXPECT_GT(all.dropped[static_cast<std::size_t>(DropReason::request_too_large)], 200U);
  EXPECT_EQ(all.left_out, 0U);
  EXPECT_TRUE(totals.has_losses());
}

TEST_F(ExporterTest, CountsRequestsThatTheMemoryHasNoRoomForAsLost) {
  TraceStageOptions stage;
  stage.limits.bytes = 100'000;
  Exporter& exporter = export_to({}, kRoots, stage);
  for (std::uint8_t trace = 1; trace <= 20; ++trace) {
    for (std::uint64_t id = 2; id <= 100; ++id) {
      Entry entry = span_of(id, 1);
      entry.trace_id = trace_number(trace);
      exporter.on_entry(entry);
    }
  }
  exporter.on_tick(kBegin);
  const AccountTotals totals = finish();
  EXPECT_GT(totals.total().dropped[static_cast<std::size_t>(DropReason::memory_full)], 500U);
  EXPECT_TRUE(totals.has_losses());
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

// Passes on what it receives.
class EachEntry : public Receiver {
 public:
  using Write = std::function<void(const Entry&)>;
  explicit EachEntry(Write write) : Receiver("test", {}, {}), write_(std::move(write)) {}
  void add(const Entry& entry) override { write_(entry); }
  void on_tick(std::uint64_t /*now_unix_ns*/) override {}
  void add_metrics(std::vector<ExportBody> /*bodies*/) override {}
  void finish(std::chrono::nanoseconds /*time*/) override {}

 private:
  const Write write_;
};

Entry root_of(std::uint8_t trace, std::uint64_t id) {
  Entry entry = span_of(id, 0, "engine.request");
  entry.trace_id = trace_number(trace);
  return entry;
}

// The ids of the spans that are exported, of two requests with the ids 1 and 2, and of the steps 11 to 13.
std::vector<std::uint64_t> exported(const Filter& filter) {
  std::vector<std::uint64_t> ids;
  Exporter exporter(filter, {}, {});
  exporter.add(std::make_unique<EachEntry>([&](const Entry& entry) { ids.push_back(entry.span_id); }));
  exporter.on_entry(root_of(1, 1));
  exporter.on_entry(root_of(2, 2));
  const nopspan_step facts{};
  nopspan_member one{}, two{}, own_key{};
  one.request = 1;
  two.request = 2;
  own_key.request = 1;
  own_key.flags = NOPSPAN_MEMBER_OWN_KEY;
  std::uint8_t id = 11;
  for (const nopspan_member* member : {&one, &two, &own_key}) {
    Entry step = root_of(id, id);
    step.step = &facts;
    step.members = std::string_view(reinterpret_cast<const char*>(member), sizeof(*member));
    exporter.on_entry(step);
    ++id;
  }
  return ids;
}

TEST(ExporterOfSteps, PassesEverythingWithoutAFilter) { EXPECT_THAT(exported({}), ElementsAre(1, 2, 11, 12, 13)); }

TEST(ExporterOfSteps, PassesTheStepsThatServeTheWantedRequest) {
  Filter filter;
  filter.request = "01000000000000000000000000000001";
  EXPECT_THAT(exported(filter), ElementsAre(1, 11));
}

TEST(ExporterOfSteps, LeavesStepsOutThatServeNoRequestOfTheSample) {
  Filter filter;
  filter.sample_one_in = 4'000'000'000;
  EXPECT_THAT(exported(filter), ElementsAre());
}

using Ids = std::vector<std::uint64_t>;

// Exports spans of one process, and returns the ids of those that are marked as partial, and the number of all.
std::pair<Ids, int> partial(const Filter& filter, const std::vector<Entry>& spans) {
  Ids ids;
  int all = 0;
  Exporter exporter(filter, {}, {});
  exporter.add(std::make_unique<EachEntry>([&](const Entry& entry) {
    ++all;
    if ((entry.flags & kPartialEntry) != 0) ids.push_back(entry.span_id);
  }));
  for (const Entry& span : spans) exporter.on_entry(span);
  for (const std::uint64_t seconds : {0U, 60U, 120U}) exporter.on_tick(kBegin + seconds * kSecond);
  return {ids, all};
}

// Host B: the parent of its root span is on host A. The process that calls itself has both sides.
TEST(ExporterOfParts, MarksWhereAPartOfARequestHasItsParentElsewhere) {
  Entry served = span_of(2, 1, "served"), again = span_of(4, 3, "served");
  for (Entry* span : {&served, &again}) {
    span->root_id = span->span_id;
    span->flags = NOPSPAN_FLAG_REMOTE_PARENT;
  }
  const std::vector<Entry> spans = {span_of(3, 2, "query"), again, served};
  EXPECT_EQ(partial({.name = "served"}, spans), std::pair(Ids{2}, 3));
  EXPECT_EQ(partial({.slower_than_ns = 1}, spans), std::pair(Ids{2}, 3));
  EXPECT_EQ(partial({.name = "nobody's"}, spans), std::pair(Ids(), 0));
  // Each host decides these in the same way.
  EXPECT_EQ(partial({}, spans), std::pair(Ids(), 3));
  EXPECT_EQ(partial({.request = "01000000000000000000000000000001"}, spans), std::pair(Ids(), 3));
}

TEST(ExporterOfParts, DoesNotMarkARequestThatBeganHere) {
  EXPECT_EQ(partial({.name = "root"}, {span_of(2, 1), span_of(1, 0, "root")}), std::pair(Ids(), 2));
}

// The decisions and thresholds of hosts with samples of their own.
TEST(ExporterOfSamples, KeepsTheRequestsOfALargerSampleAmongThoseOfASmallerOne) {
  const auto sampled_by = [](const Filter& filter) {
    std::map<std::uint64_t, std::string> tracestates;  // by span id
    Exporter exporter(filter, {}, {});
    exporter.add(std::make_unique<EachEntry>(
        [&](const Entry& entry) { tracestates.emplace(entry.span_id, std::string(entry.tracestate)); }));
    for (std::uint64_t id = 1; id <= 255; ++id) {
      Entry span = span_of(id, 0);
      span.trace_id.bytes[9] = static_cast<unsigned char>(id);
      if (id % 2 == 0) span.flags |= NOPSPAN_FLAG_SAMPLED;
      exporter.on_entry(span);
    }
    return tracestates;
  };
  const auto half = sampled_by({.sample_one_in = 2}), quarter = sampled_by({.sample_one_in = 4});
  EXPECT_EQ(half.size(), 128U);
  EXPECT_EQ(quarter.size(), 64U);
  for (const auto& [id, tracestate] : quarter) {
    EXPECT_EQ(half.count(id), 1U);
    EXPECT_EQ(tracestate, "ot=th:c");
  }
  EXPECT_EQ(half.begin()->second, "ot=th:8");
  EXPECT_EQ(sampled_by({.sample_one_in = 2, .sampled_only = true}).size(), 64U);
  EXPECT_EQ(sampled_by({.sampled_only = true}).size(), 127U);
  EXPECT_EQ(sampled_by({}).begin()->second, "");
}

}  // namespace
}  // namespace nopspan::collector
