// SPDX-License-Identifier: Apache-2.0
// Steps in recordings: the round trip of every field, their size, and hostile bytes.
#include "kept_entry.h"
#include "temporary_file.h"

#include "recording/chunks.h"
#include "recording/recorded_steps.h"
#include "recording/recorder.h"
#include "recording/recording.h"

#include <nopspan/probes.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <deque>
#include <map>
#include <random>
#include <string>
#include <tuple>
#include <vector>

using namespace nopspan::collector;

namespace {

std::deque<KeptEntry> read_steps(std::string_view message, bool is_whole = true) {
  std::deque<KeptEntry> entries;
  OtlpReader processes;
  StepReader reader;
  EXPECT_EQ(reader.read(message, processes, [&](const Entry& entry) { entries.emplace_back(entry); }), is_whole);
  return entries;
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

// A large step: its first part, and the others.
std::vector<KeptEntry> step_with(const std::vector<nopspan_member>& members, std::uint64_t number,
                                 const ProcessPointer& process) {
  const std::string attributes = text_attribute("nopspan.engine", "llama.cpp") +
                                 integer_attribute("nopspan.batch_size", static_cast<std::int64_t>(members.size()));
  nopspan_step facts{};
  facts.size = offsetof(nopspan_step, reserved);
  facts.kind = NOPSPAN_STEP_DECODE;
  facts.instance = 3;
  facts.number = number;
  facts.members = facts.batch_size = static_cast<unsigned>(members.size());
  facts.decode_tokens = members.size();
  facts.budget_tokens = 8192;
  facts.host_ns = 300'000 + number * 7919 % 100'000;
  facts.device_ns = 4'000'000 + number * 104729 % 1'000'000;
  std::mt19937_64 random(number);  // NOLINT: the same in every run
  Entry entry;
  for (unsigned char& byte : entry.trace_id.bytes) byte = static_cast<unsigned char>(random());
  entry.span_id = entry.root_id = random();
  entry.start_unix_ns = 1'790'000'000'000'000'000U + number * 5'000'000 + random() % 100'000;
  entry.duration_ns = 4'500'000 + random() % 1'000'000;
  entry.sequence_id = 77;
  entry.thread_id = 12;
  entry.process = &process;
  std::vector<KeptEntry> entries;
  for (std::size_t at = 0; at == 0 || at < members.size(); at += NOPSPAN_MEMBERS_PER_ENTRY) {
    const std::size_t count = std::min<std::size_t>(members.size() - at, NOPSPAN_MEMBERS_PER_ENTRY);
    entry.sequence = number * 4 + at / NOPSPAN_MEMBERS_PER_ENTRY;
    entry.kind = at == 0 ? Kind::span : Kind::part;
    entry.step = at == 0 ? &facts : nullptr;
    entry.name = "engine.step";
    entry.engine = "llama.cpp";
    entry.model = "tiny";
    entry.flags = NOPSPAN_FLAG_STEP | 1U << NOPSPAN_FLAG_KIND_SHIFT;
    entry.attributes = at == 0 ? std::string_view(attributes) : "";
    entry.number = at;
    entry.members = {reinterpret_cast<const char*>(members.data() + at), count * sizeof(nopspan_member)};
    entries.emplace_back(entry);
  }
  return entries;
}

void advance(std::vector<nopspan_member>& members) {
  for (nopspan_member& member : members) member.context_tokens += member.prefill_tokens + member.decode_tokens;
}

TEST(RecordedSteps, OfUnchangedMembersHaveLessThan200Bytes) {
  const ProcessPointer process = make_process(12);
  for (const std::size_t count : {8U, 256U, 1024U, 3000U}) {
    StepEncoder encoder;
    std::vector<nopspan_member> members = decoding(count);
    for (const KeptEntry& entry : step_with(members, 1, process)) encoder.add(entry.entry());
    const std::size_t first = encoder.bytes();
    for (std::uint64_t number = 2; number < 102; ++number) {
      advance(members);
      for (const KeptEntry& entry : step_with(members, number, process)) encoder.add(entry.entry());
    }
    EXPECT_LE((encoder.bytes() - first) / 100, 200U) << count;
    std::string message;
    encoder.finish(message);
    EXPECT_EQ(read_steps(message).size(), 101 * ((count + 511) / 512));
  }
}

TEST(RecordedSteps, AreTheSameAfterwards) {
  const ProcessPointer process = make_process(12);
  StepEncoder encoder;
  std::vector<nopspan_member> members = decoding(1100);
  std::deque<KeptEntry> written;
  for (std::uint64_t number = 1; number < 50; ++number) {
    for (const KeptEntry& entry : step_with(members, number, process)) {
      written.push_back(entry);
      encoder.add(entry.entry());
    }
    advance(members);
    // A request ends, and another one begins: with its prompt it comes first.
    members.erase(members.begin() + static_cast<std::ptrdiff_t>(number * 17));
    for (nopspan_member& member : members) member.prefill_tokens = 0;
    nopspan_member begun{};
    begun.request = 0xfeed000000000000U + number;
    begun.prefill_tokens = 512;
    members.insert(members.begin(), begun);
    if (number % 3 == 0) std::rotate(members.begin(), members.begin() + 2, members.end());
  }
  std::string message;
  const auto shares = encoder.finish(message);
  ASSERT_EQ(shares.size(), 1U);
  EXPECT_EQ(shares[0].entries, written.size());
  const auto read = read_steps(message);
  ASSERT_EQ(read.size(), written.size());
  for (std::size_t i = 0; i < read.size(); ++i) ASSERT_EQ(written[i].difference(read[i].entry()), "");
}

TEST(RecordedSteps, OfAnyKindAndAnyThreadAreTheSameAfterwards) {
  std::mt19937_64 random(5);  // NOLINT: the same in every run
  const std::vector<ProcessPointer> processes = {make_process(1), make_process(2)};
  StepEncoder encoder;
  for (int round = 0; round < 20 && !testing::Test::HasFailure(); ++round) {
    std::deque<KeptEntry> written;
    std::vector<nopspan_member> members = decoding(20);
    for (int i = 0; i < 100; ++i) {
      written.push_back(any_step(random, processes, members));
      encoder.add(written.back().entry());
    }
    EXPECT_EQ(encoder.entries(), 100U);
    std::string message;
    encoder.finish(message);
    const auto read = read_steps(message);
    ASSERT_EQ(read.size(), written.size());
    for (std::size_t i = 0; i < read.size(); ++i) ASSERT_EQ(written[i].difference(read[i].entry()), "");
  }
}

TEST(RecordedSteps, MayBeAnyBytes) {
  std::mt19937_64 random(6);  // NOLINT: the same in every run
  const std::vector<ProcessPointer> processes = {make_process(1), make_process(2)};
  StepEncoder encoder;
  std::vector<nopspan_member> members = decoding(10);
  for (int i = 0; i < 20; ++i) encoder.add(any_step(random, processes, members).entry());
  std::string whole;
  encoder.finish(whole);
  OtlpReader known;
  StepReader reader;
  for (int round = 0; round < 20'000; ++round) {
    std::string damaged = whole;
    for (int i = 0; i < 1 + round % 4; ++i) damaged[random() % damaged.size()] = static_cast<char>(random());
    if (round % 2 == 0) damaged.resize(random() % damaged.size());
    reader.read(damaged, known, [](const Entry& entry) {
      EXPECT_TRUE(entry.kind == Kind::part || entry.members.size() / sizeof(nopspan_member) <= entry.step->members);
    });
  }
}

// Each entry of a few bytes repeats the 2,000 members of the one before.
TEST(RecordedSteps, OfAHostileFileAreBounded) {
  const ProcessPointer process = make_process(12);
  StepEncoder encoder;
  std::vector<nopspan_member> members = decoding(500);
  std::string message;
  std::uint64_t entries = 0;
  for (std::uint64_t number = 1; encoder.bytes() != SIZE_MAX; ++number, ++entries) {
    for (const KeptEntry& entry : step_with(members, number, process)) encoder.add(entry.entry());
    advance(members);
  }
  encoder.finish(message);
  EXPECT_EQ(read_steps(message).size(), entries) << "a recorder's chunk is within the limit";
  const std::string twice = message + message + message + message + message;
  EXPECT_LT(read_steps(twice, false).size(), 5 * entries);
}

// Each entry of a few bytes repeats the texts of the one before, as a step or as a part.
TEST(RecordedSteps, OfAHostileFileRepeatNoTextWithoutEnd) {
  const ProcessPointer process = make_process(12);
  const std::string text(60'000, 'x');
  for (const char head : {'\0', '\1'}) {
    StepEncoder encoder;
    const std::vector<KeptEntry> step = step_with({}, 1, process);
    Entry first = step.front().entry();
    first.name = text;
    encoder.add(first);
    std::string message;
    encoder.finish(message);
    const char as_expected[] = {0x12, 5, head, 0, 0, 0, 0};
    for (int i = 0; i < 10'000; ++i) message.append(as_expected, sizeof(as_expected));
    OtlpReader processes;
    StepReader reader;
    std::size_t entries = 0, bytes = 0;
    EXPECT_FALSE(reader.read(message, processes, [&](const Entry& entry) {
      ++entries;
      bytes += entry.name.size();
    }));
    EXPECT_GT(entries, 1000U);
    EXPECT_LE(bytes, StepEncoder::kMostExpanded);
  }
}

TEST(RecordedSteps, AreInAFileWithTheOtherEntries) {
  const TemporaryFile file;
  const ProcessPointer process = make_process(12);
  std::map<std::tuple<std::uint64_t, std::uint64_t, Kind>, KeptEntry> written;
  {
    RecorderOptions options;
    options.path = file.path();
    options.force = true;
    Recorder recorder(options);
    std::vector<nopspan_member> members = decoding(1024);
    for (std::uint64_t number = 1; number < 20; ++number) {
      recorder.on_tick(1'790'000'000'000'000'000U + number * 400'000'000);
      std::vector<KeptEntry> entries = step_with(members, number, process);
      KeptEntry chat = chat_span(process);
      Entry other = chat.entry();
      other.sequence = number;
      entries.emplace_back(other);
      for (const KeptEntry& entry : entries) {
        recorder.on_entry(entry.entry());
        written.emplace(std::tuple(entry.entry().sequence_id, entry.entry().sequence, entry.entry().kind), entry);
      }
      advance(members);
    }
    recorder.finish();
    EXPECT_EQ(recorder.totals().entries.all(), written.size());
  }
  Recording recording(file.path());
  KeptEntries read;
  Deadline none;
  recording.run(read, none);
  EXPECT_EQ(recording.remark(), "");
  EXPECT_EQ(read.spans.size(), written.size());
  for (const KeptEntry& entry : read.spans) {
    const auto found = written.find({entry.entry().sequence_id, entry.entry().sequence, entry.entry().kind});
    ASSERT_NE(found, written.end());
    Entry same = entry.entry();
    same.before_attach = found->second.entry().before_attach;
    EXPECT_EQ(found->second.difference(same), "");
  }
}

class Delivered : public Source {
 public:
  explicit Delivered(std::uint64_t entries) {
    ledger_.others_processes = 1;
    ledger_.others.emitted = ledger_.others.delivered = entries;
    ledger_.total = ledger_.others;
  }
  void run(Sink& /*sink*/, Deadline& /*until*/) override {}
  [[nodiscard]] Ledger ledger() const override { return ledger_; }

 private:
  Ledger ledger_;
};

TEST(RecordedSteps, AreSkippedAndCountedByAReaderThatDoesNotKnowThem) {
  const TemporaryFile file, as_seen;
  const ProcessPointer process = make_process(12);
  {
    RecorderOptions options;
    options.path = file.path();
    Recorder recorder(options);
    const Delivered source(2);
    recorder.set_source(source);
    recorder.on_tick(1'790'000'000'000'000'000U);
    recorder.on_entry(step_with(decoding(3), 1, process).front().entry());
    recorder.on_entry(chat_span(process).entry());
    EXPECT_TRUE(recorder.finish());
  }
  {
    ChunkReader reader(file.open(), "file");
    ChunkWriter writer(as_seen.open(O_WRONLY | O_CREAT));
    for (Chunk chunk; reader.next(chunk);) {
      if (chunk.kind == ChunkKind::steps) chunk.kind = static_cast<ChunkKind>(99);
      ASSERT_TRUE(writer.write(chunk));
    }
  }
  Recording recording(as_seen.path());
  KeptEntries read;
  Deadline none;
  recording.run(read, none);
  EXPECT_EQ(read.spans.size(), 1U);
  EXPECT_EQ(recording.ledger().total.not_in_file, 1U);
  EXPECT_NE(recording.remark().find("1 recorded entries are not in it"), std::string::npos) << recording.remark();
}

}  // namespace
