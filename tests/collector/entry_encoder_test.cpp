// SPDX-License-Identifier: Apache-2.0
// Entries in the chunks of a recording: the round trip of every field, whole batches, steps, and hostile bytes.
#include "batch_builder.h"
#include "kept_entry.h"

#include "base/gzip.h"
#include "model/sampling.h"
#include "model/steps.h"
#include "recording/entry_encoder.h"
#include "recording/recorded_batches.h"

#include <nopspan/probes.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <malloc.h>

#include <algorithm>
#include <cstddef>
#include <deque>
#include <random>
#include <string>
#include <string_view>
#include <vector>

using namespace nopspan::collector;

namespace {

std::deque<KeptEntry> read_back(const std::string& payload) {
  std::deque<KeptEntry> entries;
  RecordedBatches reader;
  EXPECT_TRUE(reader.read(payload, [&](const Entry& entry) { entries.emplace_back(entry); }));
  return entries;
}

std::string payload_of(EntryEncoder& encoder) {
  std::string payload;
  encoder.finish(payload);
  return payload;
}

std::deque<KeptEntry> there_and_back(const Entry& entry) {
  EntryEncoder encoder;
  encoder.add(entry);
  return read_back(payload_of(encoder));
}

void expect_unchanged(const Entry& entry) {
  const KeptEntry before(entry);
  const auto after = there_and_back(entry);
  ASSERT_EQ(after.size(), 1U);
  EXPECT_EQ(before.difference(after.front().entry()), "");
}

TEST(EntryEncoder, KeepsAnEntryThatHasNothing) {
  const ProcessPointer process = std::make_shared<const Process>();
  Entry entry;
  entry.process = &process;
  for (const Kind kind : {Kind::span, Kind::event, Kind::retry, Kind::gauge, Kind::part}) {
    entry.kind = kind;
    expect_unchanged(entry);
  }
}

TEST(EntryEncoder, KeepsAnyEntryOfAnyKind) {
  std::mt19937_64 random(1);  // NOLINT: the same in every run
  const std::vector<ProcessPointer> processes = {make_process(1), make_process(2), make_process(15, "")};
  std::vector<nopspan_member> members(20);
  for (int i = 0; i < 3'000 && !testing::Test::HasFailure(); ++i) {
    expect_unchanged(any_span(random, processes).entry());
    expect_unchanged(any_step(random, processes, members).entry());
  }
}

// Spans of one thread, with and without others between them.
TEST(EntryEncoder, SharesWhatEntriesHaveInCommon) {
  const ProcessPointer process = make_process(1);
  for (const std::uint64_t every : {1U, 3U}) {
    EntryEncoder encoder;
    for (std::uint64_t i = 0; i < 1600; ++i) {
      Entry entry;
      entry.process = &process;
      entry.name = i % 2 == 0 ? "llm.chat" : "llm.tool";
      entry.trace_id.bytes[15] = static_cast<unsigned char>(i / 16);
      entry.root_id = 1 + i / 16;
      entry.span_id = i;
      entry.start_unix_ns = 1'790'000'000'000'000'000U + i;
      entry.sequence = i * every;
      encoder.add(entry);
    }
    const std::string payload = payload_of(encoder);
    EXPECT_LE(payload.size() / 1600, 40U + 8 * (every - 1));
    const auto after = read_back(payload);
    ASSERT_EQ(after.size(), 1600U);
    EXPECT_EQ(after.back().entry().sequence, 1599 * every);
  }
}

TEST(EntryEncoder, SaysThatAttributesDoNotFit) {
  const ProcessPointer process = make_process(1);
  const std::string large = text_attribute("large", std::string(40'000, 'x'));
  Entry entry;
  entry.process = &process;
  entry.attributes = large;
  const auto after = there_and_back(entry);
  ASSERT_EQ(after.size(), 1U);
  EXPECT_EQ(after.front().entry().attributes, "");
  EXPECT_EQ(after.front().entry().flags, NOPSPAN_FLAG_ATTRIBUTES_DROPPED);
}

// A whole batch, as a thread wrote it.
class WholeBatch : public testing::Test {
 protected:
  void add_to(EntryEncoder& encoder) {
    EntryBatch whole;
    whole.process = &process;
    whole.thread_id = 7;
    whole.sequence_id = 70;
    whole.first = 100;
    whole.entries = static_cast<std::uint32_t>(batch.count());
    whole.bytes = batch.bytes();
    whole.clocks = &clocks;
    encoder.add(whole);
  }
  std::string written() {
    EntryEncoder encoder;
    add_to(encoder);
    EXPECT_EQ(encoder.entries(), batch.count());
    return payload_of(encoder);
  }

  ProcessPointer process = make_process(1);
  ClockSamples clocks{{.monotonic_ns = 500, .offset_ns = 1'000'000}};
  BatchBuilder batch;
};

TEST_F(WholeBatch, HasItsEntriesWithTheTimeOfTheWallClock) {
  clocks.add({.monotonic_ns = 900, .offset_ns = 2'000'000});
  batch.span("one", 1);
  batch.request().start_ns = 600;
  batch.span("two", 2);
  batch.request().start_ns = 1000;
  const auto entries = read_back(written());
  ASSERT_EQ(entries.size(), 2U);
  EXPECT_EQ(entries[0].entry().name, "one");
  EXPECT_EQ(entries[0].entry().start_unix_ns, 1'000'600U);
  EXPECT_EQ(entries[0].entry().thread_id, 7U);
  EXPECT_EQ(entries[0].entry().sequence_id, 70U);
  EXPECT_EQ(entries[0].entry().sequence, 100U);
  EXPECT_EQ((**entries[0].entry().process).comm, process->comm);
  EXPECT_EQ(entries[1].entry().start_unix_ns, 2'001'000U);
  EXPECT_EQ(entries[1].entry().sequence, 101U);
}

TEST_F(WholeBatch, HasTheClockThatWasSetSinceTheOneBefore) {
  EntryEncoder encoder;
  Entry single;
  single.process = &process;
  single.start_unix_ns = 7;
  encoder.add(single);
  batch.span("one", 1);
  batch.request().start_ns = 600;
  add_to(encoder);
  for (std::uint64_t i = 1; i <= 1100; ++i) {  // a chunk keeps the last 1,024
    clocks.add({.monotonic_ns = 600 + i, .offset_ns = 1'000'000 * (1 + i)});
  }
  batch = BatchBuilder();
  batch.span("two", 2);
  batch.request().start_ns = 5000;
  add_to(encoder);
  for (int chunk = 0; chunk < 2; ++chunk) {
    const auto entries = read_back(payload_of(encoder));
    ASSERT_EQ(entries.size(), chunk == 0 ? 3U : 1U);
    EXPECT_EQ(entries.back().entry().start_unix_ns, 1'101'005'000U);
    if (chunk == 0) {
      EXPECT_EQ(entries[0].entry().start_unix_ns, 7U);
      EXPECT_EQ(entries[1].entry().start_unix_ns, 1'000'600U);
      add_to(encoder);
    }
  }
}

TEST_F(WholeBatch, OfATimeNamespaceHasTheTimeOfTheWallClock) {
  Process inside = *process;
  inside.clock_offset_ns = 100;
  process = std::make_shared<const Process>(inside);
  batch.span("one", 1);
  batch.request().start_ns = 1000;
  const auto entries = read_back(written());
  ASSERT_EQ(entries.size(), 1U);
  EXPECT_EQ(entries[0].entry().start_unix_ns, 1'000'900U);
}

// What a program that records itself writes if an earlier batch has the first entries.
class Pieces : public WholeBatch {
 protected:
  struct Piece {
    std::size_t begin, end;
  };
  // Of the batch. `entries` are in the last piece.
  std::string payload_of(const std::vector<Piece>& pieces, std::uint32_t entries) {
    const std::string bytes(batch.bytes());
    std::string all;
    for (const auto& [begin, end] : pieces) {
      const RecordedPiece head{static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end - begin)};
      all.append(reinterpret_cast<const char*>(&head), sizeof(head));
      all += bytes.substr(begin, end - begin);
      all.resize((all.size() + 7) / 8 * 8);
    }
    BatchChunk chunk;
    chunk.add(RecordedClock{0, 0});
    chunk.add(RecordedProcess{}, {"", "", "", "", "", "", "", "", "", ""});
    RecordedBatch recorded;
    recorded.first = 7;
    recorded.entries = entries;
    recorded.flags = kRecordedPieces;
    chunk.add(recorded, all);
    return std::string(chunk.payload());
  }
  bool read(const std::string& payload) {
    names.clear();
    return reader.read(payload, [&](const Entry& entry) {
      names.emplace_back(entry.name);
      EXPECT_EQ(entry.sequence, 7U);
    });
  }

  RecordedBatches reader;
  std::vector<std::string> names;
};

TEST_F(Pieces, OfABatchHaveTheEntriesOfTheLastOne) {
  batch.span("one", 1);
  const std::size_t second = batch.bytes().size();
  batch.span("two", 2);
  const std::size_t end = batch.bytes().size();
  EXPECT_TRUE(read(payload_of({{second, end}}, 1)));
  EXPECT_THAT(names, testing::ElementsAre("two"));
  EXPECT_TRUE(read(payload_of({{0, 8}, {second, end}}, 1)));
  EXPECT_THAT(names, testing::ElementsAre("two"));
  // Nothing of a batch before is left.
  batch = BatchBuilder();
  batch.span("three", 3);
  const std::string whole(batch.bytes());
  EXPECT_TRUE(read(payload_of({{0, whole.size()}}, 1)));
  EXPECT_THAT(names, testing::ElementsAre("three"));
  EXPECT_FALSE(read(payload_of({{whole.size() - 40, whole.size()}}, 1)));
  EXPECT_THAT(names, testing::IsEmpty());
}

TEST_F(Pieces, ThatCannotBeAreMalformed) {
  batch.span("one", 1);
  const std::size_t at = batch.bytes().size();
  batch.span("two", 2);
  const std::size_t end = batch.bytes().size();
  const std::string good = payload_of({{0, at}, {at, end}}, 1);
  ASSERT_TRUE(read(good));
  const std::size_t second = good.size() - (end - at + 7) / 8 * 8 - sizeof(RecordedPiece);
  for (const std::uint32_t place : {1U, 8U, 1U << 20U, ~7U}) {
    std::string bad = good;
    std::memcpy(bad.data() + second, &place, sizeof(place));
    EXPECT_FALSE(read(bad)) << place;
  }
  EXPECT_FALSE(read(payload_of({}, 1)));
}

TEST_F(WholeBatch, IsNotWholeIfAnEntryIsMalformed) {
  batch.span("one", 1).span("two", 2);
  batch.form().entry_kind = NOPSPAN_ENTRY_EVENT;
  batch.span("three", 3);
  std::vector<std::string> names;
  EXPECT_FALSE(RecordedBatches().read(written(), [&](const Entry& entry) { names.emplace_back(entry.name); }));
  EXPECT_THAT(names, testing::ElementsAre("one", "three"));
}

TEST_F(WholeBatch, WithEntriesOfALaterKindIsWhole) {
  batch.span("one", 1);
  batch.entry(NOPSPAN_ENTRY_LEFT_OUT);
  EXPECT_EQ(read_back(written()).size(), 1U);
}

std::vector<nopspan_member> decoding(std::size_t count) {
  std::vector<nopspan_member> members(count);
  for (std::size_t i = 0; i < count; ++i) {
    members[i].request = 0x123456789abcdefU * (i + 1);
    members[i].context_tokens = static_cast<unsigned>(1000 * i);
    members[i].decode_tokens = 1;
  }
  return members;
}

void advance(std::vector<nopspan_member>& members) {
  for (nopspan_member& member : members) member.context_tokens += member.prefill_tokens + member.decode_tokens;
}

// A step, and its parts.
void add_step(EntryEncoder& encoder, const std::vector<nopspan_member>& members, std::uint64_t number,
              const ProcessPointer& process) {
  const std::string attributes = text_attribute("nopspan.engine", "llama.cpp") +
                                 integer_attribute("nopspan.batch_size", static_cast<std::int64_t>(members.size()));
  std::mt19937_64 random(number);  // NOLINT: the same in every run
  nopspan_step facts{};
  facts.size = offsetof(nopspan_step, reserved);
  facts.kind = NOPSPAN_STEP_DECODE;
  facts.number = number;
  facts.members = facts.batch_size = static_cast<unsigned>(members.size());
  facts.decode_tokens = members.size();
  facts.host_ns = 300'000 + random() % 100'000;
  facts.device_ns = 4'000'000 + random() % 1'000'000;
  facts.kv_used = 30'000 + random() % 5'000;
  Entry entry;
  for (unsigned char& byte : entry.trace_id.bytes) byte = static_cast<unsigned char>(random());
  entry.span_id = entry.root_id = random();
  entry.start_unix_ns = 1'790'000'000'000'000'000U + number * 5'000'000 + random() % 100'000;
  entry.duration_ns = 4'500'000 + random() % 1'000'000;
  entry.sequence_id = 77;
  entry.process = &process;
  for (std::size_t at = 0; at == 0 || at < members.size(); at += NOPSPAN_MEMBERS_PER_ENTRY) {
    const std::size_t count = std::min<std::size_t>(members.size() - at, NOPSPAN_MEMBERS_PER_ENTRY);
    entry.sequence = number * 8 + at / NOPSPAN_MEMBERS_PER_ENTRY;
    entry.kind = at == 0 ? Kind::span : Kind::part;
    entry.step = at == 0 ? &facts : nullptr;
    entry.name = "engine.step";
    entry.engine = "llama.cpp";
    entry.flags = NOPSPAN_FLAG_STEP | 1U << NOPSPAN_FLAG_KIND_SHIFT;
    entry.attributes = at == 0 ? std::string_view(attributes) : "";
    entry.number = at;
    entry.members = {reinterpret_cast<const char*>(members.data() + at), count * sizeof(nopspan_member)};
    encoder.add(entry);
  }
}

std::string shortened(std::string payload) {
  shorten_steps(payload);
  return payload;
}
std::string restored(std::string payload) {
  restore_steps(payload);
  return payload;
}

TEST(StepDifferences, OfTheSameRequestsHaveAtMost200Bytes) {
  const ProcessPointer process = make_process(12);
  for (const std::size_t count : {8U, 256U, 1024U}) {
    EntryEncoder encoder;
    std::vector<nopspan_member> members = decoding(count);
    std::string first;
    for (std::uint64_t number = 1; number <= 101; ++number, advance(members)) {
      add_step(encoder, members, number, process);
      if (number == 1) first = payload_of(encoder);
    }
    const std::string all = payload_of(encoder);
    const std::size_t compressed = gzipped(shortened(all), 1).size() - gzipped(shortened(first), 1).size();
    EXPECT_LE(compressed / 100, 200U) << count;
    EXPECT_EQ(restored(shortened(all)), all);
  }
}

// Members that are not in their own record may be a part of what is read first.
TEST(StepDifferences, AreNotMadeOfMembersElsewhere) {
  const ProcessPointer process = make_process(12);
  BatchBuilder batch;
  const std::vector<nopspan_member> members = decoding(8);
  batch.step(1, members, members.size());
  batch.step(2, members, members.size());
  batch.step(3, members, members.size()).text_at(NOPSPAN_PART_LINKS, {0, 48});
  const std::string bytes(batch.bytes());
  EntryEncoder encoder;
  const ClockSamples clocks{ClockSample()};
  encoder.add(EntryBatch{&process, 0, 77, 0, static_cast<std::uint32_t>(batch.count()), bytes, &clocks, {}});
  const std::string payload = payload_of(encoder);
  const std::string short_one = shortened(payload);
  EXPECT_NE(short_one, payload);
  EXPECT_EQ(restored(short_one), payload);
}

TEST(StepDifferences, AreRestoredWhenRequestsComeAndGo) {
  const ProcessPointer process = make_process(12);
  std::mt19937_64 random(4);  // NOLINT: the same in every run
  EntryEncoder encoder;
  std::vector<nopspan_member> members = decoding(700);
  for (std::uint64_t number = 1; number < 100; ++number, advance(members)) {
    add_step(encoder, members, number, process);
    if (number % 3 == 0) members.erase(members.begin() + static_cast<std::ptrdiff_t>(random() % members.size()));
    if (number % 4 == 0) {
      nopspan_member added{};
      added.request = random() % 5;  // also one that is there
      added.prefill_tokens = 1 + static_cast<unsigned>(random() % 100);
      members.insert(members.begin(), added);
    }
    if (number % 10 == 0) std::shuffle(members.begin(), members.end(), random);
  }
  const std::string payload = payload_of(encoder);
  const std::string changed = shortened(payload);
  EXPECT_NE(changed, payload);
  EXPECT_EQ(restored(changed), payload);
}

// A process whose batches are anything must not change what is restored of another one.
TEST(StepDifferences, OfAHostileProcessAffectItsOwnBatchesOnly) {
  std::mt19937_64 random(5);  // NOLINT: the same in every run
  const ProcessPointer process = make_process(12), hostile = make_process(13);
  const ClockSamples clocks{ClockSample()};
  BatchBuilder batch;
  batch.step(4, std::vector<nopspan_member>(30), 50).members(4, std::vector<nopspan_member>(20), 30).span("span", 5);
  const std::string good(batch.bytes());
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = good;
    for (int i = 0; i < 1 + round % 6; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    EntryEncoder encoder;
    std::vector<nopspan_member> members = decoding(40);
    add_step(encoder, members, 1, process);
    encoder.add(EntryBatch{&hostile, 0, 77, 0, static_cast<std::uint32_t>(batch.count()), bytes, &clocks, {}});
    advance(members);
    add_step(encoder, members, 2, process);
    const std::string payload = payload_of(encoder);
    const auto of_process = [&](const std::string& from) {
      std::deque<KeptEntry> entries;
      static_cast<void>(RecordedBatches().read(from, [&](const Entry& entry) {
        if ((**entry.process).pid == process->pid) entries.emplace_back(entry);
      }));
      return entries;
    };
    const auto before = of_process(payload), after = of_process(restored(shortened(payload)));
    ASSERT_EQ(before.size(), 2U);
    ASSERT_EQ(after.size(), 2U);
    for (std::size_t i = 0; i < 2; ++i) ASSERT_EQ(before[i].difference(after[i].entry()), "");
  }
}

TEST(RecordedBatches, KeepLittleOfHugeProcesses) {
  const auto memory = [] { return mallinfo2().uordblks + mallinfo2().hblkhd; };
  constexpr std::size_t kMiB = 1U << 20U;
  RecordedBatches reader;
  std::vector<ProcessPointer> processes;
  const std::size_t before = memory();
  for (std::uint32_t pid = 1; pid <= 64; ++pid) {
    Process process = *make_process(pid);
    process.resource_attributes.assign(kMiB, 'x');
    const ProcessPointer pointer = std::make_shared<const Process>(std::move(process));
    Entry entry;
    entry.process = &pointer;
    EntryEncoder encoder;
    encoder.add(entry);
    EXPECT_TRUE(reader.read(payload_of(encoder), [&](const Entry& each) { processes.push_back(*each.process); }));
  }
  ASSERT_EQ(processes.size(), 64U);
  EXPECT_LT(memory(), before + 16 * kMiB);
}

}  // namespace
