// SPDX-License-Identifier: Apache-2.0
// The feed of `nopspan hist`: which entries count, in which row.
#include "hist/hist_feed.h"

#include "hist/hist_table.h"
#include "invented_spans.h"
#include "kept_entry.h"
#include "model/otlp_wire.h"

#include <nopspan/probes.h>
#include <nlohmann/json.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

HistOptions options_of(const char* of, const std::string& by = "name") {
  HistOptions options;
  options.of = find_quantity(of);
  options.by = parse_grouping(by);
  return options;
}

class HistFeedTest : public testing::Test {
 protected:
  // The only row's key.
  HistTable::Key key_of(const Entry& entry, const HistOptions& options) {
    HistFeed feed(source_, options, {});
    feed.on_entry(entry);
    const HistTable& table = feed.table();
    return table.rows.size() == 1 ? table.rows.begin()->first : HistTable::Key{};
  }

  // An entry of the process in a feed.
  static void add(HistFeed& feed, const ProcessPointer& process, const std::string& name, Kind kind = Kind::span) {
    Entry entry = invented(name, "", kind);
    entry.process = &process;
    feed.on_entry(entry);
  }

  LedgerSource source_;
};

TEST_F(HistFeedTest, CountsAsFilteredWhatIsInNoHistogramByProcess) {
  const ProcessPointer first = invented_process(1), second = invented_process(2), third = invented_process(3);
  HistOptions options = options_of("duration");
  options.filter.name = "wanted";
  HistFeed feed(source_, options, {});
  const std::vector<std::pair<ProcessPointer, std::string>> spans = {
      {first, "wanted"}, {second, "wanted"}, {first, "unwanted"}, {first, "wanted"}, {third, "unwanted"}};
  for (const auto& [process, name] : spans) add(feed, process, name);
  add(feed, second, "wanted", Kind::event);
  source_.now.processes = {{first, {.emitted = 8, .delivered = 3, .filtered = 1, .ring_full = 4}},
                           {second, {.emitted = 4, .delivered = 2, .missed = 2}}};
  source_.now.others = {.emitted = 4, .delivered = 1, .discarded = 3};
  source_.now.others_processes = 6;  // the third process is one of the six
  source_.now.total = {.emitted = 16, .delivered = 6, .filtered = 1, .ring_full = 4, .missed = 2, .discarded = 3};

  const HistTable& table = feed.table();
  const Ledger ledger = table.ledger.ledger();
  ASSERT_EQ(ledger.processes.size(), 2U);
  const Counts of_first = {.emitted = 8, .delivered = 2, .filtered = 2, .ring_full = 4};
  const Counts of_second = {.emitted = 4, .delivered = 1, .filtered = 1, .missed = 2};
  const Counts of_others = {.emitted = 4, .filtered = 1, .discarded = 3};
  EXPECT_EQ(ledger.processes[0].counts, of_first);
  EXPECT_EQ(ledger.processes[1].counts, of_second);
  EXPECT_EQ(ledger.others, of_others);
  EXPECT_EQ(ledger.others_processes, 6U);
  EXPECT_TRUE(ledger.total.is_balanced());
  EXPECT_EQ(ledger.total.delivered, table.rows.at({"wanted"}).times.count());
  EXPECT_EQ(table.hosts, std::vector<std::string>{"host"});
}

TEST_F(HistFeedTest, CountsTimesOfSpansThatTheFilterSelects) {
  const std::string attributes = text_attribute("route", "/chat");
  Entry entry = invented("a", "m");
  entry.tenant = "acme";
  entry.attributes = attributes;
  entry.status = kError;
  entry.error_type = "timeout";
  const Filter wanted[] = {{.tenant = "acme"}, {.where = {{"route", "/chat"}}}, {.error_type = "timeout"}};
  const Filter unwanted[] = {{.tenant = "x"}, {.where = {{"route", "/"}}}, {.error_type = "x"}, {.model = "x"}};
  HistOptions options = options_of("duration");
  const auto count = [&](const Filter& filter) {
    options.filter = filter;
    return key_of(entry, options).size();
  };
  for (const Filter& filter : wanted) EXPECT_EQ(count(filter), 1U) << to_text(filter);
  for (const Filter& filter : unwanted) EXPECT_EQ(count(filter), 0U) << to_text(filter);
}

TEST_F(HistFeedTest, HasARowForEachKey) {
  Entry entry = invented("llm.tool", "tiny");
  entry.tenant = "acme";
  entry.engine = "llama.cpp";
  EXPECT_EQ(key_of(entry, options_of("duration", "name,model,tenant,engine")),
            (HistTable::Key{"llm.tool", "tiny", "acme", "llama.cpp"}));
  EXPECT_EQ(key_of(entry, options_of("duration", "model,process")), (HistTable::Key{"tiny", "program 100 on host"}));
  const std::string attributes = text_attribute("route", "/chat");
  entry.attributes = attributes;
  EXPECT_EQ(key_of(entry, options_of("duration", "route,error")), (HistTable::Key{"/chat", ""}));
  entry.counts_tool = true;
  entry.text = "calculator";
  EXPECT_EQ(key_of(entry, options_of("duration", "tool")), HistTable::Key{"calculator"});
  EXPECT_EQ(key_of(entry, options_of("tool")), HistTable::Key{"calculator"});
}

TEST_F(HistFeedTest, PutsWhatFindsNoRowIntoOther) {
  HistOptions options = options_of("duration");
  options.most_rows = 2;
  HistFeed feed(source_, options, {});
  for (const char* name : {"a", "b", "c", "a", "c", "d"}) feed.on_entry(invented(name, ""));
  const HistTable& table = feed.table();
  ASSERT_EQ(table.rows.size(), 2U);
  EXPECT_EQ(table.rows.at({"a"}).times.count(), 2U);
  EXPECT_EQ(table.rows.at({"b"}).times.count(), 1U);
  EXPECT_EQ(table.other.times.count(), 3U);
}

TEST_F(HistFeedTest, HasARowForAProcessThatCreatedFewerThanAnother) {
  HistOptions options = options_of("duration");
  options.most_rows = 100;
  HistFeed feed(source_, options, {});
  const ProcessPointer steady = invented_process(1), flood = invented_process(2);
  for (int i = 0; i < 1000; ++i) add(feed, flood, "flood " + std::to_string(i));
  for (int i = 0; i < 100; ++i) {
    add(feed, steady, "steady " + std::to_string(i));
    add(feed, steady, "steady 0");
    add(feed, flood, "flood " + std::to_string(i));
  }
  const HistTable& table = feed.table();
  EXPECT_EQ(table.rows.size(), 100U);
  EXPECT_EQ(table.rows.at({"steady 0"}).times.count(), 101U);
  EXPECT_EQ(table.rows.count({"steady 49"}), 1U);
  EXPECT_EQ(table.rows.at({"flood 49"}).times.count(), 2U);
  std::uint64_t all = table.other.times.count();
  for (const auto& row : table.rows) all += row.second.times.count();
  EXPECT_EQ(all, 1300U);
}

// Their row has one key, because the start of a process is not in it.
TEST_F(HistFeedTest, SharesARowWithAFormerProcessOfTheSamePid) {
  HistOptions options = options_of("duration", "process");
  options.most_rows = 2;
  HistFeed feed(source_, options, {});
  const ProcessPointer former = invented_process(1, 1), later = invented_process(1, 2), third = invented_process(3);
  for (const ProcessPointer& process : {former, later, later, third, former}) add(feed, process, "a");
  EXPECT_EQ(feed.table().rows.at({"program 1 on host"}).times.count(), 4U);
}

TEST_F(HistFeedTest, ForgetsEndedProcessesBeforeItKnowsTooMany) {
  HistOptions options = options_of("duration");
  options.filter.name = "wanted";
  HistFeed feed(source_, options, {});
  const ProcessPointer early = invented_process(1), late = invented_process(2);
  constexpr std::uint64_t kEnded = LedgerSum::kMostProcesses + 10;
  source_.now.processes = {{early, {.emitted = 2, .delivered = 2}}};
  add(feed, early, "unwanted");
  for (std::uint32_t i = 0; i < kEnded; ++i) {
    add(feed, invented_process(100 + i), "unwanted");
    if (i % 1000 == 0) feed.on_tick(kNoon);
  }
  add(feed, early, "unwanted");
  add(feed, late, "unwanted");
  source_.now.processes.push_back({late, {.emitted = 1, .delivered = 1}});
  source_.now.others = {.emitted = kEnded, .delivered = kEnded};
  source_.now.others_processes = kEnded;
  source_.now.total = {.emitted = kEnded + 3, .delivered = kEnded + 3};
  const Ledger ledger = feed.ledger();
  EXPECT_EQ(ledger.processes[0].counts.filtered, 2U);
  EXPECT_EQ(ledger.processes[1].counts.filtered, 1U);
  EXPECT_EQ(ledger.others.filtered, kEnded);
  EXPECT_EQ(ledger.total.filtered, kEnded + 3);
}

TEST_F(HistFeedTest, CountsTimesOfAtLeastWhatIsAskedFor) {
  HistOptions options = options_of("duration");
  for (const auto& [slower_than_ns, count] : {std::pair(1000U, 1U), std::pair(1001U, 0U)}) {
    options.filter.slower_than_ns = slower_than_ns;
    HistFeed feed(source_, options, {});
    feed.on_entry(invented("a", ""));  // 1000 ns
    EXPECT_EQ(feed.table().rows.size(), count);
  }
}

TEST_F(HistFeedTest, LetsTheSourceDropNothingThatItWouldCount) {
  HistOptions options = options_of("tool");
  options.filter.name = "calculator";
  options.filter.model = "tiny";
  options.filter.slower_than_ns = 5;
  const Filter filter = filter_for_source(options);
  EXPECT_EQ(filter.name, "");
  EXPECT_EQ(filter.model, "tiny");
  EXPECT_EQ(filter.slower_than_ns, 0U);
  options.of = find_quantity("duration");
  EXPECT_EQ(filter_for_source(options).name, "calculator");
}

TEST_F(HistFeedTest, CountsTokensAndRequestsOfSteps) {
  nopspan_step facts{};
  facts.members = 5;
  facts.batch_size = 6;
  facts.prefill_tokens = 30;
  facts.decode_tokens = 4;
  Entry step = invented("engine.step", "");
  step.step = &facts;
  const std::pair<const char*, std::uint64_t> quantities[] = {
      {"step-tokens", 34}, {"step-prefill", 30}, {"step-decode", 4}, {"batch-size", 6}};
  for (const auto& [of, value] : quantities) {
    HistFeed feed(source_, options_of(of), {});
    feed.on_entry(step);
    feed.on_entry(invented("engine.step", ""));  // without the facts of a step
    ASSERT_EQ(feed.table().rows.size(), 1U) << of;
    EXPECT_EQ(feed.table().rows.begin()->second.times.maximum(), value) << of;
    EXPECT_EQ(feed.table().rows.begin()->second.times.count(), 1U) << of;
    EXPECT_EQ(to_json(feed.table())["rows"][0]["histogram"]["unit"], find_quantity(of)->unit);
  }
  facts.prefill_tokens = UINT64_MAX;
  HistFeed feed(source_, options_of("step-tokens"), {});
  feed.on_entry(step);
  EXPECT_EQ(feed.table().rows.begin()->second.times.maximum(), UINT64_MAX) << "a sum that overflows is the largest one";
}

TEST_F(HistFeedTest, CountsTheGapsOfSpans) {
  const std::string one = list_attribute("nopspan.gaps_ns", {50, 2, 1000, 1});
  const std::string two = list_attribute("gaps_ns", {50, 3}) + list_attribute("token_gaps_ns", {7, 4, 50, 2});
  const std::tuple<const char*, std::uint64_t, std::uint64_t, std::uint64_t> expected[] = {{"gap", 6, 50, 1000},
                                                                                           {"token-gap", 9, 7, 1000}};
  for (const auto& [of, count, least, most] : expected) {
    HistFeed feed(source_, options_of(of), {});
    for (const std::string& attributes : {one, two, std::string()}) {
      Entry entry = invented("engine.request", "");
      entry.attributes = attributes;
      entry.status = kError;
      feed.on_entry(entry);
    }
    const HistTable& table = feed.table();
    ASSERT_EQ(table.rows.size(), 1U) << of;
    const HistRow& row = table.rows.begin()->second;
    EXPECT_EQ(row.times.count(), count) << of;
    EXPECT_EQ(row.times.minimum(), least) << of;
    EXPECT_EQ(row.times.maximum(), most) << of;
    EXPECT_EQ(row.errors, 0U);
    EXPECT_EQ(table.malformed, 0U);
  }
}

TEST_F(HistFeedTest, CountsOnlyLongGapsIfTheFilterSaysSo) {
  const std::string attributes = list_attribute("nopspan.gaps_ns", {50, 2, 1000, 1});
  Entry entry = invented("a", "");
  entry.attributes = attributes;
  HistOptions options = options_of("gap");
  options.filter.slower_than_ns = 60;
  HistFeed feed(source_, options, {});
  feed.on_entry(entry);
  ASSERT_EQ(feed.table().rows.size(), 1U);
  EXPECT_EQ(feed.table().rows.begin()->second.times.count(), 1U);
  options.filter.slower_than_ns = 2000;
  EXPECT_TRUE(key_of(entry, options).empty());
}

TEST_F(HistFeedTest, CountsMalformedListsOfGapsAndNothingInThem) {
  std::vector<std::int64_t> too_long;
  for (std::int64_t i = 0; i <= static_cast<std::int64_t>(kMostGaps); ++i) too_long.insert(too_long.end(), {i, 1});
  const std::string malformed[] = {
      list_attribute("nopspan.gaps_ns", {5, 1, 5, 1}),  // does not ascend
      list_attribute("nopspan.gaps_ns", {6, 1, 5, 1}),  // descends
      list_attribute("nopspan.gaps_ns", {5, 1, 6}),     // without a count
      list_attribute("nopspan.gaps_ns", {5, 0}),        // no gap
      list_attribute("nopspan.gaps_ns", {5, -1}),       // negative
      list_attribute("nopspan.gaps_ns", {-5, 1}),       // negative
      list_attribute("nopspan.gaps_ns", {5, std::int64_t{1} << 32}),
      list_attribute("nopspan.gaps_ns", too_long),
      integer_attribute("nopspan.gaps_ns", 7),
      text_attribute("nopspan.gaps_ns", "5, 1"),
  };
  HistFeed feed(source_, options_of("gap"), {});
  for (const std::string& attributes : malformed) {
    Entry entry = invented("a", "");
    entry.attributes = attributes;
    feed.on_entry(entry);
  }
  EXPECT_TRUE(feed.table().rows.empty());
  EXPECT_EQ(feed.table().malformed, std::size(malformed));
  EXPECT_EQ(to_json(feed.table())["malformed"], std::size(malformed));
  EXPECT_NE(ledger_text(feed.table()).find("10 spans had a malformed list of gaps"), std::string::npos);
}

TEST_F(HistFeedTest, CountsStepsThatAcceptedNoDraft) {
  nopspan_step facts{};
  Entry step = invented("engine.step", "");
  step.step = &facts;
  HistFeed shares(source_, options_of("acceptance"), {}), tokens(source_, options_of("accepted_tokens"), {});
  for (const auto& [drafted, accepted] : {std::pair(0U, 0U), std::pair(4U, 0U), std::pair(4U, 2U)}) {
    facts.drafted_tokens = drafted;
    facts.accepted_tokens = accepted;
    shares.on_entry(step);
    tokens.on_entry(step);
  }
  const LogLinear& percents = shares.table().rows.begin()->second.times;
  EXPECT_EQ(percents.count(), 2U);
  EXPECT_EQ(percents.minimum(), 0U);
  EXPECT_EQ(percents.maximum(), 50U);
  EXPECT_EQ(tokens.table().rows.begin()->second.times.count(), 2U);
}

TEST_F(HistFeedTest, PublishesEverythingAfterEachInterval) {
  std::vector<std::uint64_t> counts;
  HistOptions options = options_of("duration");
  options.interval_ns = 100;
  HistFeed feed(source_, options,
                [&](const HistTable& table) { counts.push_back(table.rows.at({"a"}).times.count()); });
  const auto tick = [&](std::uint64_t now) {
    feed.on_tick(now);
    feed.on_entry(invented("a", ""));
    return counts;
  };
  using Counts = std::vector<std::uint64_t>;
  tick(1000);
  EXPECT_EQ(tick(1099), Counts());
  EXPECT_EQ(tick(1110), Counts({2}));
  EXPECT_EQ(tick(1199), Counts({2}));
  EXPECT_EQ(tick(1200), Counts({2, 4}));
  EXPECT_EQ(tick(1510), Counts({2, 4, 5}));  // three intervals have passed, and one document covers them
  EXPECT_EQ(tick(1599), Counts({2, 4, 5}));
  EXPECT_EQ(tick(500), Counts({2, 4, 5}));  // the clock was set back
  EXPECT_EQ(tick(600), Counts({2, 4, 5, 8}));
  EXPECT_EQ(feed.table().began_unix_ns, 500U);
  EXPECT_EQ(feed.table().ended_unix_ns, 1599U);
}

}  // namespace
}  // namespace nopspan::collector
