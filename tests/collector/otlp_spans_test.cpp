// SPDX-License-Identifier: Apache-2.0
// Spans as OTLP messages: the round trip of every field, and hostile attributes.
#include "kept_span.h"

#include "recording/otlp_reader.h"
#include "recording/otlp_spans.h"

#include <nopspan/probes.h>

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <random>
#include <string>
#include <tuple>
#include <vector>

using namespace nopspan::collector;

namespace {

std::deque<KeptSpan> read_back(Signal signal, const std::string& message) {
  std::deque<KeptSpan> spans;
  OtlpReader reader;
  EXPECT_TRUE(reader.read(signal, message, [&](const Span& span) { spans.emplace_back(span); }));
  return spans;
}

std::deque<KeptSpan> there_and_back(const Span& span) {
  OtlpEncoder encoder(signal_of(span.kind));
  encoder.add(span);
  std::string message;
  encoder.finish(message);
  return read_back(signal_of(span.kind), message);
}

void expect_unchanged(const Span& span) {
  const KeptSpan before(span);
  const auto after = there_and_back(span);
  ASSERT_EQ(after.size(), 1U);
  EXPECT_EQ(before.difference(after.front().span()), "");
}

TEST(OtlpSpans, RestoresAChat) { expect_unchanged(chat_span(make_process(12)).span()); }

TEST(OtlpSpans, RestoresASpanThatHasNothing) {
  const ProcessPointer process = std::make_shared<const Process>();
  Span span;
  span.process = &process;
  for (const Kind kind : {Kind::span, Kind::event, Kind::retry, Kind::gauge}) {
    span.kind = kind;
    expect_unchanged(span);
  }
}

TEST(OtlpSpans, RestoresAnySpanOfAnyKind) {
  std::mt19937_64 random(1);
  const std::vector<ProcessPointer> processes = {make_process(1), make_process(2), make_process(15, "")};
  for (int i = 0; i < 20000 && !testing::Test::HasFailure(); ++i) expect_unchanged(any_span(random, processes).span());
}

TEST(OtlpSpans, RestoresManySpansOfManyProcessesAndThreadsEachStreamInItsOrder) {
  std::mt19937_64 random(2);
  std::vector<ProcessPointer> processes;
  for (std::uint32_t pid = 1; pid <= 20; ++pid) processes.push_back(make_process(pid));
  OtlpEncoder encoder(Signal::traces);
  using Stream = std::tuple<std::uint32_t, std::uint64_t, std::uint32_t>;
  std::map<Stream, std::deque<KeptSpan>> before, after;
  const auto stream_of = [](const Span& span) {
    return Stream((**span.process).pid, span.sequence_id, span.thread_id);
  };
  std::string message;
  for (int round = 0; round < 3; ++round) {  // the encoder is reused
    for (int i = 0; i < 2000; ++i) {
      const KeptSpan kept = any_span(random, processes);
      const Span& span = kept.span();
      if (span.kind != Kind::span) continue;
      encoder.add(span);
      before[stream_of(span)].emplace_back(span);
    }
    encoder.finish(message);
    for (const KeptSpan& span : read_back(Signal::traces, message)) after[stream_of(span.span())].emplace_back(span);
  }
  ASSERT_EQ(before.size(), after.size());
  for (const auto& [stream, spans] : before) {
    const auto& found = after[stream];
    ASSERT_EQ(spans.size(), found.size());
    for (std::size_t i = 0; i < spans.size(); ++i) ASSERT_EQ(spans[i].difference(found[i].span()), "");
  }
}

TEST(OtlpSpans, LeavesOutWhatIsNotSaidToBeThere) {
  const ProcessPointer process = make_process(1);
  Span span, left;
  span.process = left.process = &process;
  span.usage = {1, 2, 3, 4};
  span.engine_times.queue_ns = span.first_token_ns = span.number = 5;
  span.value = 6;
  for (const Kind kind : {Kind::span, Kind::event}) {
    span.kind = left.kind = kind;
    const auto after = there_and_back(span);
    ASSERT_EQ(after.size(), 1U);
    EXPECT_EQ(KeptSpan(left).difference(after.front().span()), "");
  }
}

TEST(OtlpSpans, SaysWhoseEntriesAMessageHas) {
  const ProcessPointer one = make_process(1), two = make_process(2);
  OtlpEncoder encoder(Signal::traces);
  Span span;
  span.process = &one;
  encoder.add(span);
  encoder.add(span);
  span.process = &two;
  encoder.add(span);
  EXPECT_EQ(encoder.entries(), 3U);
  std::string message;
  const auto shares = encoder.finish(message);
  ASSERT_EQ(shares.size(), 2U);
  EXPECT_EQ(shares[0].process, one);
  EXPECT_EQ(shares[0].entries, 2U);
  EXPECT_EQ(shares[1].process, two);
  EXPECT_EQ(shares[1].entries, 1U);
  EXPECT_EQ(encoder.entries(), 0U);
}

// Attributes that a message must not contain. A receiver would refuse the whole message, with the spans of all other
// processes in it.
class HostileAttributes : public testing::TestWithParam<std::string> {};

TEST_P(HostileAttributes, AreLeftOutAndCountedAndNothingElseIs) {
  const std::string good = text_attribute("good", "1"), better = text_attribute("better", "2");
  const std::string attributes = good + GetParam() + better;
  KeptSpan chat = chat_span(make_process(1));
  Span span = chat.span();
  span.attributes = attributes;
  span.flags |= NOPSPAN_FLAG_ATTRIBUTES_DROPPED;
  const auto after = there_and_back(span);
  ASSERT_EQ(after.size(), 1U);
  const std::string_view kept = after.front().span().attributes;
  EXPECT_TRUE(kept == good + better || kept == good) << kept;
  span.attributes = kept;
  EXPECT_EQ(KeptSpan(span).difference(after.front().span()), "");
}

std::string deep_attribute(int levels) {
  std::string value;
  for (int i = 0; i < levels; ++i) {
    std::string outer;
    append_bytes(outer, 1, value);
    value.clear();
    append_bytes(value, 5, outer);
  }
  std::string key_value, run;
  append_bytes(key_value, 1, "deep");
  append_bytes(key_value, 2, value);
  append_bytes(run, kSpanAttributes, key_value);
  return run;
}

INSTANTIATE_TEST_SUITE_P(OtlpSpans, HostileAttributes,
                         testing::Values(std::string("\x4a\x7f rest", 6),                 // longer than the data
                                         std::string("\x4a\x03\x0a\x01\xff", 5),          // a key that is not UTF-8
                                         std::string("\x4a\x05\x12\x03\x0a\x01\xc0", 7),  // a value that is not UTF-8
                                         std::string("\x4a\x02\x12\x7f", 4),              // a value that is too long
                                         std::string("\x4a\x03\x12\x01\x1b", 5),          // a group
                                         std::string("\x2a\x04more", 6),                  // another field: the name
                                         std::string("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11),
                                         deep_attribute(60)));

TEST(OtlpSpans, KeepsAsDeepAttributesAsReceiversTake) {
  KeptSpan chat = chat_span(make_process(1));
  Span span = chat.span();
  const std::string deep = deep_attribute(40);
  span.attributes = deep;
  span.model = span.engine = "";
  span.usage = {};
  span.has_usage = span.tells_tokens = false;
  span.flags &= ~std::uint32_t{NOPSPAN_FLAG_HAS_USAGE};
  expect_unchanged(span);
}

TEST(OtlpSpans, MendsTextThatIsNotUtf8) {
  const ProcessPointer process = make_process(1,
                                              "a\xff"
                                              "b");
  Span span;
  span.name = "na\xffme";
  span.model = "\xed\xa0\x80";
  span.process = &process;
  const auto after = there_and_back(span);
  ASSERT_EQ(after.size(), 1U);
  EXPECT_EQ(after.front().span().name, "na?me");
  EXPECT_EQ(after.front().span().model, "???");
  EXPECT_EQ((**after.front().span().process).command, "a?b");
}

TEST(OtlpReader, TakesAnyBytes) {
  std::mt19937_64 random(3);
  const std::vector<ProcessPointer> processes = {make_process(1)};
  for (const Signal signal : {Signal::traces, Signal::logs, Signal::metrics}) {
    OtlpEncoder encoder(signal);
    for (int i = 0; i < 40; ++i) {
      const KeptSpan span = any_span(random, processes);
      if (signal_of(span.span().kind) == signal) encoder.add(span.span());
    }
    std::string message;
    encoder.finish(message);
    OtlpReader reader;
    std::uint64_t seen = 0;
    for (int i = 0; i < 3000; ++i) {
      std::string broken = message;
      for (std::uint64_t flips = random() % 4 + 1; flips > 0; --flips) {
        broken[random() % broken.size()] = static_cast<char>(random());
      }
      reader.read(signal, broken, [&](const Span& span) { seen += span.name.size() + (**span.process).pid; });
      reader.read(signal, std::string_view(message).substr(0, random() % message.size()), [&](const Span&) { ++seen; });
    }
    EXPECT_GT(seen, 0U);
  }
}

}  // namespace
