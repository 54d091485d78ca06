// SPDX-License-Identifier: Apache-2.0
// Traces as text.
#include "trace/trace_tree.h"

#include "assembled_traces.h"
#include "base/text.h"
#include "kept_entry.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <ctime>

namespace nopspan::collector {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

// A span with times in milliseconds.
Entry timed(std::uint64_t id, std::uint64_t parent, std::uint64_t start_ms, std::uint64_t duration_ms,
            std::string_view name) {
  Entry entry = span_of(id, parent, name);
  entry.start_unix_ns = kBegin + start_ms * kMillisecond;
  entry.duration_ns = duration_ms * kMillisecond;
  return entry;
}

std::string drawn(const std::vector<Entry>& spans, const TreeStyle& style = {}, const TraceLimits& limits = {}) {
  Assembly assembly(limits);
  assembly.draws = true;
  assembly.style = style;
  for (const Entry& entry : spans) assembly.add(entry);
  assembly.assembler.finish();
  return assembly.seen.size() == 1 ? assembly.seen[0].text : "not one trace";
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    lines.push_back(text.substr(at, end - at));
    at = end == std::string::npos ? end : end + 1;
  }
  return lines;
}

class TraceTree : public testing::Test {
 protected:
  TraceTree() {
    setenv("TZ", "UTC", 1);
    tzset();
  }
};

std::vector<Entry> an_agents_request() {
  static const ProcessPointer server = process_number(8, "chat_server");
  Entry chat = timed(1, 0, 0, 1000, "llm.chat");
  chat.model = "tiny-1";
  chat.has_usage = true;
  chat.usage = {.input = 120, .output = 34, .cached = 80};
  Entry step = timed(2, 1, 10, 500, "llm.step");
  step.model = "tiny-1";
  step.has_first_token = true;
  step.first_token_ns = 20 * kMillisecond;
  Entry retry = event_of(2, "llm.adapter.retry");
  retry.kind = Kind::retry;
  retry.start_unix_ns = kBegin + 100 * kMillisecond;
  retry.number = 1;
  retry.value = 250 * kMillisecond;
  retry.error_type = "rate_limit";
  Entry sent = event_of(2, "gen_ai.prompt.sent");
  sent.start_unix_ns = kBegin + 11 * kMillisecond;
  Entry request = timed(3, 2, 400, 100, "engine.request");
  request.flags = NOPSPAN_FLAG_REMOTE_PARENT;
  request.process = &server;
  request.thread_id = 9;
  Entry tool = timed(4, 1, 600, 300, "llm.tool");
  tool.text = "calculator";
  tool.status = kException;
  tool.error_type = "std::domain_error";
  tool.thread_id = 12;
  return {request, sent, retry, tool, step, chat};
}

TEST_F(TraceTree, ShowsWhatIsKnown) {
  EXPECT_EQ(
      drawn(an_agents_request()),
      "AQAAAAAAAAAAAAAAAAAAAQ  22:13:20.000  1.00 s  4 spans, 1 error  service[7], chat_server[8]\n"
      "  1.00 s     +0 ns ▕████████████████▏ llm.chat  self 200 ms  tiny-1  120→34 tokens (80 cached)  service[7]\n"
      "  500 ms  +10.0 ms ▕████████        ▏ ├─ llm.step  self 400 ms  first 20.0 ms\n"
      "          +11.0 ms ▕•               ▏ │  ├─ • gen_ai.prompt.sent\n"
      "           +100 ms ▕ ◆              ▏ │  ├─ ◆ retry 1 in 250 ms: rate_limit\n"
      "  100 ms   +400 ms ▕      ██        ▏ │  └─ engine.request  chat_server[8] thread 9\n"
      "  300 ms   +600 ms ▕         █████  ▏ └─ llm.tool calculator  exception std::domain_error  thread 12\n");
}

TEST_F(TraceTree, DrawsWithAsciiWhereTheLocaleHasNoMore) {
  EXPECT_EQ(
      drawn(an_agents_request(), {.utf8 = false}),
      "AQAAAAAAAAAAAAAAAAAAAQ  22:13:20.000  1.00 s  4 spans, 1 error  service[7], chat_server[8]\n"
      "  1.00 s     +0 ns [################] llm.chat  self 200 ms  tiny-1  120->34 tokens (80 cached)  service[7]\n"
      "  500 ms  +10.0 ms [########        ] |- llm.step  self 400 ms  first 20.0 ms\n"
      "          +11.0 ms [.               ] |  |- . gen_ai.prompt.sent\n"
      "           +100 ms [ *              ] |  |- * retry 1 in 250 ms: rate_limit\n"
      "  100 ms   +400 ms [      ##        ] |  `- engine.request  chat_server[8] thread 9\n"
      "  300 ms   +600 ms [         #####  ] `- llm.tool calculator  exception std::domain_error  thread 12\n");
}

TEST_F(TraceTree, ColorsOnlyWhenItMay) {
  EXPECT_THAT(drawn(an_agents_request()), Not(HasSubstr("\x1b")));
  const std::string colored = drawn(an_agents_request(), {.color = true});
  EXPECT_THAT(colored, HasSubstr("\x1b[31mllm.tool\x1b[0m"));
  EXPECT_THAT(colored, HasSubstr("\x1b[1mllm.chat\x1b[0m"));
}

TEST_F(TraceTree, CutsLinesToTheTerminal) {
  for (const std::size_t width : {20U, 60U, 80U, 200U}) {
    for (const bool color : {false, true}) {
      std::string text = drawn(an_agents_request(), {.utf8 = false, .color = color, .width = width});
      for (std::size_t at = 0; (at = text.find('\x1b')) != std::string::npos;) {
        text.erase(at, text.find('m', at) - at + 1);
      }
      for (const std::string& line : lines_of(text)) EXPECT_LE(line.size(), width) << line;
    }
  }
}

TEST_F(TraceTree, ShowsTheTimeThatNoChildExplains) {
  // The children overlap, and one ends after the span.
  const std::string text = drawn({timed(1, 0, 0, 1000, "root"), timed(2, 1, 100, 300, "a"), timed(3, 1, 200, 100, "b"),
                                  timed(4, 1, 300, 200, "c"), timed(5, 1, 900, 500, "d")});
  EXPECT_THAT(text, HasSubstr("root  self 500 ms  service[7]\n"));
  EXPECT_THAT(text, HasSubstr("─ a\n")) << "a span without children explains itself";
  Entry early = timed(2, 1, 0, 100, "early");
  early.start_unix_ns -= 50 * kMillisecond;  // another host's clock
  EXPECT_THAT(drawn({timed(1, 0, 0, 1000, "root"), early}), HasSubstr("self 950 ms  "));
  // Less than a tenth of the request comes last.
  EXPECT_THAT(drawn({timed(1, 0, 0, 1000, "root"), timed(2, 1, 0, 901, "a")}),
              HasSubstr("root  service[7]  self 99.0 ms\n"));
}

TEST_F(TraceTree, ShowsAFewAttributesOfWhatItWaitedFor) {
  const std::string query = text_attribute("db.system.name", "postgresql") + text_attribute("db.operation", "SELECT") +
                            text_attribute("db.table", "orders") + text_attribute("item", "17");
  const std::string call = integer_attribute("http.response.status_code", 503);
  const std::string old_call = integer_attribute("http.status_code", 404);
  Entry a = timed(2, 1, 0, 1, "a"), b = timed(3, 1, 0, 1, "b"), c = timed(4, 1, 0, 1, "c");
  a.attributes = query;
  b.attributes = call;
  c.attributes = old_call;
  const std::string text = drawn({timed(1, 0, 0, 1, "root"), a, b, c});
  EXPECT_THAT(text, HasSubstr("─ a  db postgresql SELECT orders\n"));
  EXPECT_THAT(text, HasSubstr("─ b  http 503\n"));
  EXPECT_THAT(text, HasSubstr("─ c  http 404\n"));
}

TEST_F(TraceTree, ShowsAllAttributesWhenAsked) {
  const std::string of_root = text_attribute("tenant", "acme\x1b") + integer_attribute("item", 17);
  const std::string of_event = text_attribute("cause", "x", true);
  Entry root = timed(1, 0, 0, 1000, "root"), said = event_of(2);
  root.attributes = of_root;
  said.attributes = of_event;
  EXPECT_THAT(drawn({root, timed(2, 1, 0, 1000, "child"), said}, {.attributes = true}),
              HasSubstr("service[7]  self 0 ns\n"
                        "                                      │  tenant=acme\\x1b\n"
                        "                                      │  item=17\n"
                        "  1.00 s     +0 ns ▕████████████████▏ └─ child\n"
                        "             +2 ns ▕•               ▏    └─ • said\n"
                        "                                               cause=x\n"));
}

TEST_F(TraceTree, ShowsEachStatus) {
  Entry failed = timed(2, 1, 0, 1, "a");
  failed.status = kError;
  failed.error_type = "timeout";
  Entry cancelled = timed(3, 1, 0, 1, "b");
  cancelled.status = kCancelled;
  cancelled.error_type = "client_closed";
  Entry abandoned = timed(4, 1, 0, 1, "c");
  abandoned.status = kCancelled;
  abandoned.flags = NOPSPAN_FLAG_ABANDONED;
  Entry strange = timed(5, 1, 0, 1, "d");
  strange.status = 77;
  const std::string text = drawn({timed(1, 0, 0, 1, "root"), failed, cancelled, abandoned, strange});
  EXPECT_THAT(text, HasSubstr("a  error timeout\n"));
  EXPECT_THAT(text, HasSubstr("b  cancelled client_closed\n"));
  EXPECT_THAT(text, HasSubstr("c  abandoned\n"));
  EXPECT_THAT(text, HasSubstr("1 error "));
}

TEST_F(TraceTree, SaysWhyASpanHasNoParentHere) {
  Entry orphan = timed(10, 0, 1, 1, "a");
  orphan.flags = NOPSPAN_FLAG_ORPHAN;
  Entry remote = timed(11, 77, 2, 1, "b");
  remote.flags = NOPSPAN_FLAG_REMOTE_PARENT;
  const std::string text = drawn({orphan, remote, timed(12, 78, 3, 1, "c"), timed(13, 13, 4, 1, "d")});
  EXPECT_THAT(
      text,
      HasSubstr("a  service[7]  (may have a parent that began before the attach: wait a second after an attach)\n"));
  EXPECT_THAT(text, HasSubstr("b  service[7]  (parent in another process, not seen)\n"));
  EXPECT_THAT(text, HasSubstr("c  service[7]  (parent missing)\n"));
  EXPECT_THAT(text, HasSubstr("d  service[7]  (its own ancestor)\n"));
  EXPECT_THAT(lines_of(text)[0], HasSubstr("incomplete"));
}

TEST_F(TraceTree, SaysThatATraceBeganBeforeTheAttach) {
  Entry root = timed(1, 0, 0, 1, "root");
  root.before_attach = true;
  EXPECT_THAT(lines_of(drawn({root}))[0], HasSubstr("incomplete: began before the attach"));
}

TEST_F(TraceTree, ShowsWhatBeganBeforeItsParent) {
  EXPECT_THAT(drawn({timed(1, 0, 100, 10, "root"), timed(2, 1, 80, 10, "early")}), HasSubstr("-20.0 ms"));
}

TEST_F(TraceTree, ShowsEventsWithoutASpan) {
  Entry event = event_of(0, "alone");
  const std::string text = drawn({event});
  EXPECT_THAT(text, HasSubstr("0 spans"));
  EXPECT_THAT(text, HasSubstr("• alone"));
}

TEST_F(TraceTree, ShowsAForeignIdAsItWasGiven) {
  Entry entry = timed(1, 0, 0, 1, "root");
  entry.foreign_id = "order-4711";
  EXPECT_THAT(drawn({entry}), testing::StartsWith("order-4711  "));
}

// ---- Folding

std::vector<Entry> siblings(std::size_t count, std::uint64_t first_id = 2) {
  std::vector<Entry> spans = {timed(1, 0, 0, 1000, "root")};
  for (std::size_t i = 0; i < count; ++i) spans.push_back(timed(first_id + i, 1, i, 10 + i, "tool.call"));
  return spans;
}

TEST_F(TraceTree, NamesTheTenantAndWhatAllSpansHave) {
  const std::string labels = text_attribute("route", "/chat") + integer_attribute("shard", 4);
  const std::string of_root = text_attribute("item", "17") + text_attribute("gen_ai.operation.name", "chat") + labels;
  const std::string of_child = text_attribute("gen_ai.operation.name", "chat") + text_attribute("item", "18") + labels;
  Entry root = timed(1, 0, 0, 1000, "root"), child = timed(2, 1, 0, 1000, "child");
  root.engine = "llama.cpp";
  root.model = child.model = "tiny-1";
  child.tenant = "acme\x1b";
  root.attributes = of_root;
  child.attributes = of_child;
  EXPECT_THAT(drawn({root, child}), HasSubstr("  2 spans  tenant=acme\\x1b  route=/chat  shard=4  service[7]\n"));
  root.tenant = "globex";
  EXPECT_THAT(drawn({root, child, timed(3, 1, 0, 1, "other")}),
              HasSubstr("  3 spans  tenant=globex  tenant=acme\\x1b  service[7]\n"));
  EXPECT_THAT(drawn({root}), HasSubstr("  1 span  tenant=globex  service[7]\n"));
  EXPECT_THAT(drawn({root, child}, {.attributes = true}),
              HasSubstr("│  engine=llama.cpp\n"
                        "                                      │  model=tiny-1\n"
                        "                                      │  tenant=globex\n"
                        "                                      │  item=17\n"));
}

TEST_F(TraceTree, FoldsManySiblingsOfOneName) {
  const std::string text = drawn(siblings(23));
  EXPECT_THAT(lines_of(text), SizeIs(3));
  EXPECT_THAT(text, HasSubstr("└─ 23 × tool.call, total 483 ms, max 32.0 ms\n"));
}

TEST_F(TraceTree, ShowsAFewSiblingsEach) { EXPECT_THAT(lines_of(drawn(siblings(5))), SizeIs(7)); }

TEST_F(TraceTree, ShowsAllSpansWhenAsked) {
  EXPECT_THAT(lines_of(drawn(siblings(23), {.all_spans = true})), SizeIs(25));
}

// ---- Linked spans

std::vector<Entry> an_engines_steps(std::string_view links) {
  static const ProcessPointer engine = process_number(9, "engine");
  std::vector<Entry> spans = {timed(1, 0, 0, 1000, "root"), timed(2, 1, 10, 900, "engine.request")};
  for (std::uint64_t i = 0; i < 20; ++i) {
    Entry step = linked_span(100 + i, links);
    step.start_unix_ns = kBegin + (10 + 40 * i) * kMillisecond;
    step.duration_ns = (i == 19 ? 30 : 10) * kMillisecond;
    step.process = &engine;
    if (i == 3) step.status = kError;
    spans.push_back(step);
  }
  return spans;
}

TEST_F(TraceTree, FoldsLinkedSpansBelowTheSpanThatTheyLinkTo) {
  EXPECT_THAT(lines_of(drawn(an_engines_steps(links_to({{trace_number(1), 2}, {trace_number(2), 1}})))),
              testing::ElementsAre(
                  HasSubstr("1.00 s  2 spans  service[7]"), HasSubstr(" root"), HasSubstr("└─ engine.request"),
                  HasSubstr(" +10.0 ms ▕█████████████   ▏    └─ 20 × engine.step, linked, total 220 ms, p50 10.1 ms, "
                            "max 30.0 ms, 1 error  engine[9]")));
}

TEST_F(TraceTree, ShowsEachLinkedSpanWhenAsked) {
  const std::string text = drawn(an_engines_steps(links_to({{trace_number(1), 2}, {trace_number(2), 1}})),
                                 {.all_spans = true}, {.linked_kept = 15});
  EXPECT_THAT(lines_of(text), SizeIs(3 + 15 + 1)) << "nothing more is known about the others";
  EXPECT_THAT(text, HasSubstr("├─ engine.step, linked to 2 requests  error  engine[9]\n"));
  EXPECT_THAT(text, HasSubstr("└─ 20 × engine.step, linked, "));
}

TEST_F(TraceTree, ShowsLinkedSpansThatLinkToASpanThatIsNotHere) {
  const std::vector<std::string> lines = lines_of(drawn(an_engines_steps(links_to({{trace_number(1), 77}}))));
  ASSERT_THAT(lines, SizeIs(4));
  EXPECT_THAT(lines[3], HasSubstr("▏ 20 × engine.step, linked, "));
}

TEST_F(TraceTree, FoldsWithWhatIsInThem) {
  std::vector<Entry> spans = siblings(23);
  for (std::uint64_t i = 0; i < 23; ++i) spans.push_back(timed(100 + i, 2 + i, i, 1, "inner"));
  const std::string text = drawn(spans);
  EXPECT_THAT(text, HasSubstr("max 32.0 ms, 23 spans inside\n"));
  EXPECT_THAT(text, Not(HasSubstr("inner")));
}

TEST_F(TraceTree, ShowsTheFirstSiblingsThatFailed) {
  std::vector<Entry> spans = siblings(100);
  for (std::size_t i = 11; i <= 100; i += 10) spans[i].status = kError;
  spans.push_back(timed(200, 40, 1, 1, "inner"));
  spans.back().status = kError;
  const std::string text = drawn(spans);
  EXPECT_THAT(text, HasSubstr("90 × tool.call, "));
  EXPECT_THAT(text, HasSubstr("inner  error"));
  EXPECT_THAT(text, HasSubstr("5 × tool.call, "));
  EXPECT_THAT(text, HasSubstr(", with errors\n"));
  EXPECT_THAT(lines_of(text), SizeIs(2 + 1 + 5 + 1 + 1));
}

TEST_F(TraceTree, SaysHowManyMoreThereWere) {
  TraceLimits limits;
  limits.entries_per_trace = 10;
  std::vector<Entry> spans = siblings(100);
  spans.back().status = kError;
  EXPECT_THAT(drawn(spans, {}, limits),
              HasSubstr("too large: 91 more spans and events were not kept, including 1 error\n"));
}

TEST_F(TraceTree, SaysHowManyDuplicatesThereWere) {
  const Entry entry = timed(1, 0, 0, 1, "root");
  EXPECT_THAT(drawn({entry, entry, entry}), HasSubstr("2 duplicates removed\n"));
}

// ---- Hostile processes

TEST_F(TraceTree, PrintsNothingThatATerminalObeys) {
  static const ProcessPointer evil = process_number(9, "\x1b]0;evil\x07");
  Entry entry = timed(1, 0, 0, 1, "na\x1b[2Jme\n");
  entry.text = "\x1b[31m";
  entry.model = "\r\xff\xfe";
  entry.error_type = "\xe2\x80\xae";  // U+202E, which reverses the direction of text
  entry.status = kError;
  entry.foreign_id = "id\x1b[A";
  entry.process = &evil;
  Entry event = event_of(1, "\x1b[1A");
  Entry retry = event_of(1, "retry");
  retry.kind = Kind::retry;
  retry.error_type = "\x9b";
  const std::string text = drawn({entry, event, retry});
  EXPECT_THAT(lines_of(text), SizeIs(4));
  for (const char c : text) EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20) << text;
  EXPECT_THAT(text, Not(HasSubstr("\x7f")));
  EXPECT_THAT(text, Not(HasSubstr("\xe2\x80\xae")));
  EXPECT_THAT(text, Not(HasSubstr("\xff")));
}

TEST_F(TraceTree, DrawsAHundredThousandLevelsInBoundedLines) {
  TraceLimits limits;
  limits.entries_per_trace = 200'000;
  limits.bytes_per_trace = 64U << 20U;
  std::vector<Entry> spans;
  for (std::uint64_t id = 1; id <= 100'000; ++id) spans.push_back(timed(id, id - 1, 0, 1, "deep"));
  const std::string text = drawn(spans, {}, limits);
  std::size_t longest = 0;
  std::size_t lines = 0;
  for (const std::string& line : lines_of(text)) {
    longest = std::max(longest, line.size());
    ++lines;
  }
  EXPECT_EQ(lines, 100'001U);
  EXPECT_LT(longest, 250U);
  EXPECT_THAT(text, HasSubstr("⋯ 99975 "));
}

TEST_F(TraceTree, PutsABarInItsPlaceWhateverTheTimes) {
  Entry early = timed(1, 0, 0, 1, "early");
  early.start_unix_ns = 0;
  early.duration_ns = 0;
  Entry late = timed(2, 1, 0, 1, "late");
  late.start_unix_ns = UINT64_MAX;
  late.duration_ns = UINT64_MAX;
  const std::vector<std::string> lines = lines_of(drawn({early, late}, {.utf8 = false}));
  ASSERT_THAT(lines, SizeIs(3));
  EXPECT_THAT(lines[1], HasSubstr("[|               ]"));
  EXPECT_THAT(lines[2], HasSubstr("[               |]"));
}

}  // namespace
}  // namespace nopspan::collector
