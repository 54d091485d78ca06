// SPDX-License-Identifier: Apache-2.0
// `nopspan top` without a terminal: tables as text and JSON.
#include "top/top_print.h"

#include "invented_spans.h"
#include "kept_entry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

// Ten seconds with these spans: chat/m ten times with tokens, failing/m four times with two errors and one
// cancellation. In addition one retry and one gauge.
TopSnapshot snapshot(std::size_t rows = 10) {
  SpanTable table({Dimension::name, Dimension::model}, 60, rows);
  table.advance(kNoon);
  Entry chat = invented("chat", "m");
  chat.span_id = chat.root_id;
  chat.duration_ns = 40;
  chat.has_usage = chat.counts_tokens = chat.has_first_token = true;
  chat.usage.input = 100;
  chat.usage.output = 20;
  chat.first_token_ns = 30;
  for (int i = 0; i < 10; ++i) table.add(chat);
  Entry failing = invented("failing", "m");
  for (const std::uint8_t status : {kOk, kError, kException, kCancelled}) {
    failing.status = status;
    table.add(failing);
  }
  failing.kind = Kind::retry;
  table.add(failing);
  table.advance(kNoon + 10 * kSecond);

  TopSnapshot made;
  made.table = table.numbers();
  made.host = "host";
  made.processes = 2;
  made.all_processes = 3;
  made.events = 3;
  made.ledger.total.emitted = 20;
  made.ledger.total.delivered = 15;
  made.ledger.total.ring_full = 5;
  made.gauges.push_back({invented_process(100), "engine", "running", "", 3, 8, kNoon + 9 * kSecond});
  return made;
}

std::vector<std::string> table_lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

TEST(TopPrint, PrintsAlignedColumns) {
  setenv("TZ", "UTC", 1);
  tzset();
  const std::vector<std::string> lines = table_lines(top_text(snapshot(), {}, 0));
  ASSERT_THAT(lines, SizeIs(7));
  EXPECT_EQ(lines[0], "22:13:30.000  host  1.4 spans/s, 1 requests/s, 0.2 errors/s, 2 processes (10.0 s)");
  EXPECT_EQ(lines[1], "15 delivered, 5 lost (5 buffer full)");
  EXPECT_EQ(lines[2],
            "NAME     MODEL  SPANS/s      P50      P90      P99      MAX  ERR/s   ERR%  CANC/s  IN TOK/s  OUT TOK"
            "/s  TTFT P50  TTFT P99  RETRY/s");
  EXPECT_EQ(lines[3],
            "chat     m            1    40 ns    40 ns    40 ns    40 ns      0      0       0       100         "
            "20     30 ns     30 ns        0");
  EXPECT_EQ(lines[4],
            "failing  m          0.4   999 ns  1.00 us  1.00 us  1.00 us    0.2     50     0.1         0         "
            " 0         -         -      0.1");
  EXPECT_EQ(lines[5], "gauges of engine program 100: running 3/8");
  EXPECT_EQ(lines[6], "");
}

TEST(TopPrint, PrintsWhatEnginesCounted) {
  TopSnapshot made = snapshot();
  const auto add = [&](const char* name, const char* model, Kind kind,
                       const std::vector<std::pair<const char*, std::int64_t>>& numbers) {
    std::string attributes;
    for (const auto& number : numbers)
      attributes += integer_attribute(number.first, number.second, kind == Kind::event);
    Entry entry = invented(name, model);
    entry.kind = kind;
    entry.engine = "e";
    entry.attributes = attributes;
    made.facts.add(entry);
  };
  add("engine.request", "m", Kind::span, {{"nopspan.drafted_tokens", 8}, {"nopspan.accepted_tokens", 6}});
  add("engine.request", "n", Kind::span, {{"nopspan.recomputed_tokens", 7}});
  add("engine.prefix_cache", "m", Kind::event, {{"nopspan.queried_tokens", 40}, {"nopspan.hit_tokens", 10}});
  add("engine.evicted", "m", Kind::event, {{"nopspan.blocks", 3}});
  add("engine.evicted", "n", Kind::event, {{"nopspan.blocks", 4}});
  add("engine.preempted", "m", Kind::event, {});
  EXPECT_THAT(top_text(made, {}, 0), HasSubstr("facts of e: accepted 6 of 8 drafted tokens (75 %), cache hits 10 of 40 "
                                               "tokens (25 %), 1 preempted, 2 evicted (7 blocks), 7 tokens "
                                               "recomputed\ngauges of engine"));
}

TEST(TopPrint, PrintsTheFirstRowsAndHowManyMoreThereAre) {
  const std::string text = top_text(snapshot(), {}, 1);
  EXPECT_THAT(text, HasSubstr("chat"));
  EXPECT_THAT(text, Not(HasSubstr("failing")));
  EXPECT_THAT(text, HasSubstr("and 1 more rows\n"));
}

TEST(TopPrint, FitsATerminalAndPrintsHowManyColumnsDoNot) {
  TopSnapshot made = snapshot();
  made.ledger.damage.skipped_bytes = 1;
  for (int i = 0; i < 20; ++i) {
    made.gauges.push_back({made.gauges[0].process, "engine", "gauge-" + std::to_string(i), "", i, 100, kNoon});
  }
  for (std::size_t width = 48; width <= 200; ++width) {
    const std::string text = top_text(made, {}, 0, width);
    for (const std::string& line : table_lines(text)) EXPECT_LE(line.size(), width) << text;
    EXPECT_THAT(text, HasSubstr("gauge-19 19/100"));
  }
  EXPECT_THAT(top_text(made, {}, 0, 80), HasSubstr("and 5 more columns, for which the terminal is too narrow\n"));
  EXPECT_THAT(top_text(made, {}, 0, 200), Not(HasSubstr("more column")));
}

TEST(TopPrint, HasTheRatesOfTheNumbersBelow) {
  TopSnapshot made = snapshot();
  made.table.window = {};
  made.early_requests = 4;
  const auto headline = [&](bool total) { return table_lines(top_text(made, {.total = total}, 0))[0]; };
  EXPECT_THAT(headline(false), HasSubstr("  0 spans/s, 0 requests/s, 0 errors/s, 2 processes, 4 requests"));
  made.table.window_ns = kSecond;
  made.all_early_requests = 1;
  EXPECT_EQ(headline(true),
            "22:13:30.000  host  1.4 spans/s, 1 requests/s, 0.2 errors/s, 3 processes, 1 request known from steps only "
            "(total of 10.0 s)");
}

TEST(TopPrint, PrintsWhatHasNoRow) {
  const std::vector<std::string> lines = table_lines(top_text(snapshot(1), {.total = true}, 0));
  EXPECT_THAT(lines[4], testing::MatchesRegex("other +4 .*"));
}

TEST(TopPrint, PrintsWhatTheTableLeavesOut) {
  TopSnapshot made = snapshot();
  made.table.evicted = 2;
  made.table.total.unplaced = 1;
  made.gauges_dropped = 3;
  made.early_dropped = 4;
  EXPECT_THAT(top_text(made, {}, 0),
              HasSubstr("2 rows merged into other; out of memory: 1 time missing in quantiles; "
                        "3 gauge values over the limit of 256 dropped; 4 members of steps over the limit of "
                        "65536 requests known from steps only dropped"));
  EXPECT_EQ(top_json(made, {}, 0)["members_before_attach_dropped"], 4);
}

TEST(TopPrint, NeverSaysThatADamagedRecordingLostNothing) {
  TopSnapshot made = snapshot();
  made.ledger.total = {.emitted = 20, .delivered = 20};
  EXPECT_FALSE(top_json(made, {}, 0)["ledger"].contains("damage"));
  made.ledger.damage.skipped_bytes = 1000;
  EXPECT_EQ(table_lines(top_text(made, {}, 0))[1], "20 delivered, losses unknown");
  EXPECT_EQ(top_json(made, {}, 0)["ledger"]["damage"]["skipped_bytes"], 1000);
  made.ledger.total = {.emitted = 20, .delivered = 15, .not_in_file = 5};
  EXPECT_EQ(table_lines(top_text(made, {}, 0))[1], "15 delivered, 5 lost (5 not in the file)");
}

TEST(TopPrint, PrintsNothingThatATerminalWouldObey) {
  TopSnapshot made = snapshot();
  made.host = "\x1b[2J";
  made.gauges[0].engine = "\x1b[2J";
  made.gauges[0].name = "\r\n";
  made.table.rows[0].texts = {"\x1b]0;title\x07", "\xc2\x9b"};
  const std::string text = top_text(made, {}, 0);
  for (const char c : text) EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20) << static_cast<int>(c);
  EXPECT_THAT(text, Not(HasSubstr("\xc2\x9b")));
  EXPECT_THAT(table_lines(text), SizeIs(7));
}

TEST(TopPrint, WritesJsonWithUnitsInItsNames) {
  TopSnapshot made = snapshot();
  made.is_last = true;
  const Json json = top_json(made, {}, 0);
  EXPECT_EQ(json["time_unix_ns"], kNoon + 10 * kSecond);
  EXPECT_EQ(json["window_ns"], 10 * kSecond);
  EXPECT_EQ(json["last"], true);
  EXPECT_EQ(json["all_processes"], 3);
  EXPECT_EQ(json["window"]["spans_per_s"], 1.4);
  EXPECT_EQ(json["total"]["spans"], 14);
  EXPECT_EQ(json["ledger"]["ring_full"], 5);
  ASSERT_THAT(json["rows"], SizeIs(2));
  const Json& chat = json["rows"][0];
  EXPECT_EQ(chat["name"], "chat");
  EXPECT_EQ(chat["model"], "m");
  EXPECT_EQ(chat["total"]["input_tokens"], 1000);
  EXPECT_EQ(chat["window"]["output_tokens_per_s"], 20);
  EXPECT_EQ(chat["window"]["duration_p50_ns"], 40);
  EXPECT_EQ(chat["total"]["duration_sum_ns"], 400);
  EXPECT_EQ(chat["window"]["ttft_max_ns"], 30);
  EXPECT_EQ(chat["window"]["requests"], 10);
  const Json& failing = json["rows"][1];
  EXPECT_EQ(failing["window"]["errors"], 2);
  EXPECT_EQ(failing["window"]["error_ratio"], 0.5);
  EXPECT_EQ(failing["window"]["cancelled"], 1);
  EXPECT_EQ(failing["window"]["retries_per_s"], 0.1);
  EXPECT_TRUE(failing["window"]["ttft_p50_ns"].is_null());
  EXPECT_EQ(json["gauges"][0]["value"], 3);
  EXPECT_EQ(json["gauges"][0]["maximum"], 8);
  EXPECT_EQ(json["gauges"][0]["age_ns"], kSecond);
}

TEST(TopPrint, WritesJsonOfWhateverAProcessWrote) {
  TopSnapshot made = snapshot();
  made.table.rows[0].texts = {"\xff\xfe", std::string("\0\n", 2)};
  const std::string text = top_json(made, {}, 0).dump(-1, ' ', false, Json::error_handler_t::replace);
  EXPECT_THAT(text, Not(HasSubstr("\n")));
  EXPECT_TRUE(Json::accept(text));
}

}  // namespace
}  // namespace nopspan::collector
