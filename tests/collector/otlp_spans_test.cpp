// SPDX-License-Identifier: Apache-2.0
// Spans as OTLP messages: the round trip of every field, and hostile attributes.
#include "kept_entry.h"

#include "recording/otlp_reader.h"
#include "recording/otlp_spans.h"

#include <nopspan/probes.h>

#include <gtest/gtest.h>

#include <malloc.h>

#include <deque>
#include <map>
#include <random>
#include <string>
#include <tuple>
#include <vector>

using namespace nopspan::collector;

namespace {

std::deque<KeptEntry> read_back(Signal signal, const std::string& message) {
  std::deque<KeptEntry> spans;
  OtlpReader reader;
  EXPECT_TRUE(reader.read(signal, message, [&](const Entry& entry) { spans.emplace_back(entry); }));
  return spans;
}

std::deque<KeptEntry> there_and_back(const Entry& entry) {
  OtlpEncoder encoder(signal_of(entry.kind));
  encoder.add(entry);
  std::string message;
  encoder.finish(message);
  return read_back(signal_of(entry.kind), message);
}

void expect_unchanged(const Entry& entry) {
  const KeptEntry before(entry);
  const auto after = there_and_back(entry);
  ASSERT_EQ(after.size(), 1U);
  EXPECT_EQ(before.difference(after.front().entry()), "");
}

TEST(OtlpSpans, RestoresAChat) { expect_unchanged(chat_span(make_process(12)).entry()); }

TEST(OtlpSpans, RestoresASpanThatHasNothing) {
  const ProcessPointer process = std::make_shared<const Process>();
  Entry entry;
  entry.process = &process;
  for (const Kind kind : {Kind::span, Kind::event, Kind::retry, Kind::gauge}) {
    entry.kind = kind;
    expect_unchanged(entry);
  }
}

TEST(OtlpSpans, RestoresAnySpanOfAnyKind) {
  std::mt19937_64 random(1);
  const std::vector<ProcessPointer> processes = {make_process(1), make_process(2), make_process(15, "")};
  for (int i = 0; i < 20000 && !testing::Test::HasFailure(); ++i) expect_unchanged(any_span(random, processes).entry());
}

TEST(OtlpSpans, RestoresManySpansOfManyProcessesAndThreadsEachThreadInItsOrder) {
  std::mt19937_64 random(2);
  std::vector<ProcessPointer> processes;
  for (std::uint32_t pid = 1; pid <= 20; ++pid) processes.push_back(make_process(pid));
  OtlpEncoder encoder(Signal::traces);
  using ThreadKey = std::tuple<std::uint32_t, std::uint64_t, std::uint32_t>;
  std::map<ThreadKey, std::deque<KeptEntry>> before, after;
  const auto thread_of = [](const Entry& entry) {
    return ThreadKey((**entry.process).pid, entry.sequence_id, entry.thread_id);
  };
  std::string message;
  for (int round = 0; round < 3; ++round) {  // the encoder is reused
    for (int i = 0; i < 2000; ++i) {
      const KeptEntry kept = any_span(random, processes);
      const Entry& entry = kept.entry();
      if (entry.kind != Kind::span) continue;
      encoder.add(entry);
      before[thread_of(entry)].emplace_back(entry);
    }
    encoder.finish(message);
    for (const KeptEntry& entry : read_back(Signal::traces, message))
      after[thread_of(entry.entry())].emplace_back(entry);
  }
  ASSERT_EQ(before.size(), after.size());
  for (const auto& [thread, spans] : before) {
    const auto& found = after[thread];
    ASSERT_EQ(spans.size(), found.size());
    for (std::size_t i = 0; i < spans.size(); ++i) ASSERT_EQ(spans[i].difference(found[i].entry()), "");
  }
}

TEST(OtlpSpans, LeavesOutWhatIsNotSaidToBeThere) {
  const ProcessPointer process = make_process(1);
  Entry entry, left;
  entry.process = left.process = &process;
  entry.usage = {1, 2, 3, 4};
  entry.engine_times.queue_ns = entry.first_token_ns = entry.number = 5;
  entry.value = 6;
  for (const Kind kind : {Kind::span, Kind::event}) {
    entry.kind = left.kind = kind;
    const auto after = there_and_back(entry);
    ASSERT_EQ(after.size(), 1U);
    EXPECT_EQ(KeptEntry(left).difference(after.front().entry()), "");
  }
}

TEST(OtlpSpans, SaysWhoseEntriesAMessageHas) {
  const ProcessPointer one = make_process(1), two = make_process(2);
  OtlpEncoder encoder(Signal::traces);
  Entry entry;
  entry.process = &one;
  encoder.add(entry);
  encoder.add(entry);
  entry.process = &two;
  encoder.add(entry);
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
  KeptEntry chat = chat_span(make_process(1));
  Entry entry = chat.entry();
  entry.attributes = attributes;
  const auto after = there_and_back(entry);
  ASSERT_EQ(after.size(), 1U);
  const std::string_view kept = after.front().entry().attributes;
  EXPECT_TRUE(kept == good + better || kept == good) << kept;
  entry.attributes = kept;
  entry.flags |= NOPSPAN_FLAG_ATTRIBUTES_DROPPED;
  EXPECT_EQ(KeptEntry(entry).difference(after.front().entry()), "");
}

TEST(OtlpSpans, MarkEntriesOfEachKindThatLackMalformedAttributes) {
  for (const Kind kind : {Kind::span, Kind::event, Kind::retry, Kind::gauge}) {
    const std::string malformed(kind == Kind::span ? "\x4a\x03\x0a\x01\xff" : "\x1a\x03\x0a\x01\xff");
    const ProcessPointer process = make_process(1);
    Entry entry;
    entry.kind = kind;
    entry.attributes = malformed;
    entry.process = &process;
    const auto after = there_and_back(entry);
    ASSERT_EQ(after.size(), 1U);
    EXPECT_EQ(after.front().entry().attributes, "");
    EXPECT_EQ(after.front().entry().flags, NOPSPAN_FLAG_ATTRIBUTES_DROPPED);
    expect_unchanged(after.front().entry());
  }
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

INSTANTIATE_TEST_SUITE_P(
    OtlpSpans, HostileAttributes,
    testing::Values(std::string("\x4a\x7f rest", 6),                 // longer than the data
                    std::string("\x4a\x03\x0a\x01\xff", 5),          // a key that is not UTF-8
                    std::string("\x4a\x05\x12\x03\x0a\x01\xc0", 7),  // a value that is not UTF-8
                    std::string("\x4a\x02\x12\x7f", 4),              // a value that is too long
                    std::string("\x4a\x03\x12\x01\x1b", 5),          // a group
                    std::string("\x2a\x04more", 6),                  // another field: the name
                    // Tags and lengths that are longer than they may be, and a number beyond 64 bits.
                    std::string("\x4a\x0c\x8a\x80\x80\x80\x80\x00\x01k\x12\x02\x0a\x00", 14),
                    std::string("\x4a\x0c\x0a\x81\x80\x80\x80\x80\x00k\x12\x02\x0a\x00", 14),
                    std::string("\xca\x80\x80\x80\x80\x00\x07\x0a\x01k\x12\x02\x0a\x00", 14),
                    std::string("\x4a\x10\x0a\x01k\x12\x0b\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 18),
                    std::string("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11), deep_attribute(60)));

TEST(OtlpSpans, KeepsAsDeepAttributesAsReceiversTake) {
  KeptEntry chat = chat_span(make_process(1));
  Entry entry = chat.entry();
  const std::string deep = deep_attribute(40);
  entry.attributes = deep;
  entry.model = entry.engine = "";
  entry.usage = {};
  entry.has_usage = entry.counts_tokens = false;
  entry.flags &= ~std::uint32_t{NOPSPAN_FLAG_HAS_USAGE};
  expect_unchanged(entry);
}

TEST(OtlpSpans, MendsTextThatIsNotUtf8) {
  const ProcessPointer process = make_process(1,
                                              "a\xff"
                                              "b");
  Entry entry;
  entry.name = "na\xffme";
  entry.model = "\xed\xa0\x80";
  entry.process = &process;
  const auto after = there_and_back(entry);
  ASSERT_EQ(after.size(), 1U);
  EXPECT_EQ(after.front().entry().name, "na?me");
  EXPECT_EQ(after.front().entry().model, "???");
  EXPECT_EQ((**after.front().entry().process).comm, "a?b");
}

TEST(OtlpReader, PassesOnAttributesThatOthersRepair) {
  const std::string good = text_attribute("good", "1"), bad("\x4a\x0b\x0a\x01k\x12\x06\x0a\x04v\xff\xffx", 13);
  std::string span, long_length("\x4a\x8b\x00", 3);
  append_bytes(span, 5, "name");
  span += good + bad + long_length + bad.substr(2);
  append_fixed64(span, 7, 1000);
  std::string scope, resource, message;
  append_bytes(scope, 2, span);
  append_bytes(resource, 2, scope);
  append_bytes(message, 1, resource);
  std::size_t entries = 0;
  EXPECT_TRUE(OtlpReader().read(Signal::traces, message, [&](const Entry& entry) {
    ++entries;
    EXPECT_EQ(entry.attributes, good + bad + bad) << "with lengths that each decoder takes";
    EXPECT_FALSE(entry.has_checked_attributes);
  }));
  EXPECT_EQ(entries, 1U);
}

TEST(OtlpReader, KeepsLittleOfHugeResources) {
  const auto memory = [] { return mallinfo2().uordblks + mallinfo2().hblkhd; };
  constexpr std::size_t kMiB = 1U << 20U;
  OtlpReader reader;
  std::vector<ProcessPointer> processes;
  const std::size_t before = memory();
  for (std::uint32_t pid = 1; pid <= 64; ++pid) {
    Process process = *make_process(pid);
    process.resource_attributes.assign(kMiB, 'x');
    const ProcessPointer pointer = std::make_shared<const Process>(std::move(process));
    Entry entry;
    entry.process = &pointer;
    OtlpEncoder encoder(Signal::traces);
    encoder.add(entry);
    std::string message;
    encoder.finish(message);
    EXPECT_TRUE(reader.read(Signal::traces, message, [&](const Entry& each) { processes.push_back(*each.process); }));
  }
  ASSERT_EQ(processes.size(), 64U);
  EXPECT_LT(memory(), before + 16 * kMiB);
}

TEST(OtlpReader, TakesAnyBytes) {
  std::mt19937_64 random(3);
  const std::vector<ProcessPointer> processes = {make_process(1)};
  for (const Signal signal : {Signal::traces, Signal::logs, Signal::metrics}) {
    OtlpEncoder encoder(signal);
    for (int i = 0; i < 40; ++i) {
      const KeptEntry entry = any_span(random, processes);
      if (signal_of(entry.entry().kind) == signal) encoder.add(entry.entry());
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
      reader.read(signal, broken, [&](const Entry& entry) { seen += entry.name.size() + (**entry.process).pid; });
      reader.read(signal, std::string_view(message).substr(0, random() % message.size()),
                  [&](const Entry&) { ++seen; });
    }
    EXPECT_GT(seen, 0U);
  }
}

}  // namespace
