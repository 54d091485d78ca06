// SPDX-License-Identifier: Apache-2.0
// Recording and replaying: what comes back, parts, ticks, and damaged files.
#include "recording/recording.h"

#include "base/text.h"
#include "full_disk.h"
#include "kept_entry.h"
#include "recording/recorder.h"
#include "temporary_file.h"
#include "top/top_feed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

using namespace nopspan::collector;
using testing::HasSubstr;

namespace {

constexpr std::uint64_t kBegin = 1'790'000'000 * kSecond;

struct Replayed {
  KeptEntries sink;
  Ledger ledger;
  std::string remark;
  std::uint64_t bytes = 0;  // that were read or skipped
};

Replayed replay(const std::string& path, const Filter& filter = {}) {
  Recording recording(path, filter);
  Replayed replayed;
  Deadline never;
  recording.run(replayed.sink, never);
  replayed.ledger = recording.ledger();
  replayed.remark = recording.remark();
  replayed.bytes = recording.state().bytes;
  return replayed;
}

std::string text_of(const Ledger& ledger) { return to_json(ledger).dump(2); }

// Records `count` spans, one hundred per second.
std::vector<KeptEntry> record(RecorderOptions options, std::size_t count, LedgerSource& source,
                              std::uint64_t begin_unix_ns = kBegin) {
  std::mt19937_64 random(count);
  const std::vector<ProcessPointer> processes = {make_process(1), make_process(2), make_process(3)};
  std::vector<KeptEntry> spans;
  Recorder recorder(std::move(options), source);
  std::uint64_t now = begin_unix_ns;
  for (std::size_t i = 0; i < count; ++i) {
    if (i % 10 == 0) recorder.on_tick(now += kSecond / 10);
    spans.push_back(any_span(random, processes));
    source.count(*spans.back().entry().process);
    recorder.on_entry(spans.back().entry());
  }
  recorder.on_tick(now + kSecond);
  EXPECT_TRUE(recorder.finish());
  EXPECT_EQ(recorder.totals().entries.all(), count);
  return spans;
}

class RecordedFile : public testing::Test {
 protected:
  std::vector<KeptEntry> record_spans(std::size_t count) { return record({file.path()}, count, source); }

  TemporaryFile file;
  LedgerSource source;
};

using Key = std::tuple<std::uint32_t, std::uint64_t, std::uint32_t, Kind>;
Key key_of(const Entry& entry) { return {(**entry.process).pid, entry.sequence_id, entry.thread_id, entry.kind}; }

void expect_same(const std::vector<KeptEntry>& before, const std::deque<KeptEntry>& after) {
  ASSERT_EQ(before.size(), after.size());
  std::map<Key, std::vector<const KeptEntry*>> expected;
  for (const KeptEntry& entry : before) expected[key_of(entry.entry())].push_back(&entry);
  std::map<Key, std::size_t> seen;
  for (const KeptEntry& entry : after) {
    const Key key = key_of(entry.entry());
    const std::size_t i = seen[key]++;
    ASSERT_LT(i, expected[key].size());
    ASSERT_EQ(expected[key][i]->difference(entry.entry()), "");
  }
}

TEST_F(RecordedFile, GivesBackAllSpansEachThreadInItsOrderAndTheLedger) {
  source.now.total += {.emitted = 3, .ring_full = 3};
  const auto spans = record_spans(5000);
  const Replayed replayed = replay(file.path());
  EXPECT_EQ(replayed.remark, "");
  expect_same(spans, replayed.sink.spans);
  EXPECT_EQ(replayed.ledger.total, (Counts{.emitted = 5003, .delivered = 5000, .ring_full = 3}));
  EXPECT_EQ(text_of(replayed.ledger), text_of(source.ledger()));
}

// 9.9 s of spans that take 1 ms, one hundred per second.
TEST_F(RecordedFile, SkipsToATimeWithoutReadingWhatIsBefore) {
  constexpr std::uint64_t kSince = kBegin + 6 * kSecond, kUntil = kBegin + 8 * kSecond, kEvery = kSecond / 100;
  {
    const KeptEntry kept = chat_span(make_process(1));
    Entry entry = kept.entry();
    entry.duration_ns = kSecond / 1000;
    Recorder recorder({file.path()}, source);
    for (std::uint64_t i = 0; i < 1000; ++i) {
      if (i % 10 == 0) recorder.on_tick(kBegin + i * kEvery);
      entry.sequence = i;
      entry.start_unix_ns = kBegin + i * kEvery;
      source.count(*entry.process);
      recorder.on_entry(entry);
    }
    EXPECT_TRUE(recorder.finish());
  }
  std::string bytes = file.bytes();
  Filter filter;
  filter.since = "3900ms";  // before its end
  filter.until = "1900ms";
  const auto check = [&] {
    file.set_bytes(bytes);
    const Replayed replayed = replay(file.path(), filter);
    EXPECT_EQ(replayed.remark, "");
    EXPECT_EQ(replayed.bytes, bytes.size());
    ASSERT_EQ(replayed.sink.spans.size(), 200U);
    EXPECT_EQ(replayed.sink.ticks.front(), kSince) << "rates are of this time";
    EXPECT_EQ(replayed.sink.ticks.back(), kUntil);
    for (const KeptEntry& one : replayed.sink.spans) {
      EXPECT_GE(one.entry().start_unix_ns, kSince);
      EXPECT_LT(one.entry().start_unix_ns, kUntil);
      EXPECT_FALSE(one.entry().before_attach);
    }
    EXPECT_EQ(replayed.ledger.total, (Counts{.emitted = 1000, .delivered = 200, .filtered = 800}));
    ASSERT_EQ(replayed.ledger.processes.size(), 1U);
    EXPECT_EQ(replayed.ledger.processes[0].counts, replayed.ledger.total);
  };
  check();
  // A chunk that is not read may have any content.
  const std::size_t first = bytes.find(std::string("NSPF\x0a\0\0\0", 8));
  ASSERT_LT(first, bytes.size());
  bytes[first + kChunkHeaderBytes + 4] ^= 1;
  check();
  // What was running then lacks what was before.
  filter.since = "3899.5ms";
  EXPECT_TRUE(replay(file.path(), filter).sink.spans.front().entry().before_attach);
}

TEST_F(RecordedFile, TicksWhereItBeganOnceForEachSecondOfItAndAtItsEnd) {
  record_spans(1000);  // ten seconds, and the tick at the end
  const auto ticks = replay(file.path()).sink.ticks;
  ASSERT_GE(ticks.size(), 10U);
  EXPECT_LE(ticks.size(), 12U);
  EXPECT_TRUE(std::is_sorted(ticks.begin(), ticks.end()));
  EXPECT_EQ(ticks.front(), kBegin + kSecond / 10);
  EXPECT_EQ(ticks.back(), kBegin + 11 * kSecond);
}

// Closes the pipe at the third tick with the same time.
class ThreeTicks : public KeptEntries {
 public:
  explicit ThreeTicks(OpenFile& pipe) : pipe_(pipe) {}
  void on_tick(std::uint64_t now_unix_ns) override {
    KeptEntries::on_tick(now_unix_ns);
    if (std::count(ticks.begin(), ticks.end(), now_unix_ns) == 3) pipe_.reset();
  }

 private:
  OpenFile& pipe_;
};

TEST_F(RecordedFile, TicksWhileNothingIsWrittenToItsPipe) {
  record_spans(5);
  const std::string bytes = file.bytes();
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  OpenFile reader(ends[0]), writer(ends[1]);
  ASSERT_EQ(write(writer.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  ThreeTicks sink(writer);
  Recording recording(ChunkReader(std::move(reader), "pipe"));
  Deadline patience(60 * kSecond);
  recording.run(sink, patience);
  EXPECT_EQ(sink.spans.size(), 5U);
  EXPECT_FALSE(writer);
  EXPECT_TRUE(std::is_sorted(sink.ticks.begin(), sink.ticks.end()));
  EXPECT_EQ(recording.remark(), "");
}

TEST_F(RecordedFile, HasRatesOfTheTimeThatItTook) {
  record_spans(500);
  Recording recording(file.path());
  TopSnapshotPointer last;
  TopFeed feed(recording, {}, 10, 100, {.interval_ns = 3600 * kSecond}, false,
               [&last](TopSnapshotPointer snapshot) { last = std::move(snapshot); });
  Deadline never;
  recording.run(feed, never);
  feed.finish();
  EXPECT_EQ(last->table.since_ns, 6 * kSecond - kSecond / 10);
}

TEST_F(RecordedFile, GoesOnWhenTheClockIsSetBack) {
  Recorder recorder({file.path()}, source);
  const KeptEntry entry = chat_span(make_process(1));
  constexpr std::uint64_t kAfter = kBegin - 7200 * kSecond;
  for (const std::uint64_t now : {kBegin, kAfter, kAfter + kSecond, kAfter + 2 * kSecond}) {
    recorder.on_tick(now);
    recorder.on_entry(entry.entry());
  }
  recorder.wait_until_written();
  // The file has no end chunk yet. Replay must still deliver all that was recorded, without waiting for the clock.
  const Replayed replayed = replay(file.path());
  EXPECT_EQ(replayed.sink.spans.size(), 3U);
  EXPECT_EQ(replayed.sink.ticks.back(), kAfter + 2 * kSecond);
  EXPECT_TRUE(recorder.finish());
}

TEST_F(RecordedFile, TicksAFewTimesForAYearInWhichNothingCame) {
  {
    Recorder recorder({file.path()}, source);
    const KeptEntry entry = chat_span(make_process(1));
    recorder.on_tick(kBegin);
    recorder.on_entry(entry.entry());
    recorder.on_tick(kBegin + kSecond);
    recorder.on_entry(entry.entry());
    recorder.on_tick(kBegin + 365 * 86400 * kSecond);
    EXPECT_TRUE(recorder.finish());
  }
  const auto ticks = replay(file.path()).sink.ticks;
  EXPECT_LE(ticks.size(), 70U);
  EXPECT_EQ(ticks.back(), kBegin + 365 * 86400 * kSecond);
}

TEST_F(RecordedFile, ThatWasCutAnywhereGivesWhatIsWholeAndALedgerOfIt) {
  const TemporaryFile part;
  record_spans(100);
  const std::string whole = file.bytes();
  std::size_t before = 0;
  for (std::size_t size = kFileHeaderBytes; size < whole.size(); size += whole.size() / 199) {
    part.set_bytes(whole.substr(0, size));
    const Replayed replayed = replay(part.path());
    ASSERT_GE(replayed.sink.spans.size(), before);
    before = replayed.sink.spans.size();
    ASSERT_EQ(replayed.ledger.total.delivered, before);
    ASSERT_TRUE(replayed.ledger.total.is_balanced());
    std::uint64_t sum = replayed.ledger.others.delivered;
    for (const ProcessLedger& one : replayed.ledger.processes) sum += one.counts.delivered;
    ASSERT_EQ(sum, before);
    ASSERT_NE(replayed.remark, "");
  }
  EXPECT_GT(before, 50U);
}

TEST_F(RecordedFile, TellsWhatItsFilterLeavesOut) {
  const auto spans = record_spans(1000);
  Filter filter;
  filter.pids = {2};
  const Replayed replayed = replay(file.path(), filter);
  const auto wanted = static_cast<std::uint64_t>(std::count_if(
      spans.begin(), spans.end(), [](const KeptEntry& each) { return (**each.entry().process).pid == 2; }));
  EXPECT_EQ(replayed.sink.spans.size(), wanted);
  EXPECT_EQ(replayed.ledger.total.delivered, wanted);
  EXPECT_EQ(replayed.ledger.total.filtered, 1000 - wanted);
  EXPECT_TRUE(replayed.ledger.total.is_balanced());
  for (const ProcessLedger& one : replayed.ledger.processes) EXPECT_TRUE(one.counts.is_balanced());
}

TEST(TwoRecordedFiles, HaveTheSpansAndLedgersOfBoth) {
  const TemporaryFile one, two, three, both;
  LedgerSource source_one, source_two;
  record({one.path()}, 100, source_one);
  record({two.path()}, 200, source_two);
  both.set_bytes(one.bytes() + two.bytes());
  const Replayed replayed = replay(both.path());
  EXPECT_EQ(replayed.sink.spans.size(), 300U);
  EXPECT_EQ(replayed.ledger.total.delivered, 300U);
  EXPECT_EQ(replayed.ledger.processes.size(), 6U);
  EXPECT_TRUE(replayed.ledger.damage.empty());
  EXPECT_THAT(replayed.remark, HasSubstr("overlap in time"));
  LedgerSource source_three;
  record({three.path()}, 100, source_three, kBegin + 2 * kSecond);
  both.set_bytes(one.bytes() + three.bytes());
  EXPECT_EQ(replay(both.path()).remark, "");
}

void expect_balanced(const Replayed& replayed) {
  const Ledger& ledger = replayed.ledger;
  EXPECT_EQ(ledger.total.delivered, replayed.sink.spans.size());
  LedgerSum sum;
  sum.add(ledger);
  EXPECT_EQ(sum.total(), ledger.total);
  for (const ProcessLedger& one : ledger.processes) EXPECT_TRUE(one.counts.is_balanced());
  EXPECT_TRUE(ledger.total.is_balanced());
}

// The offsets of the chunks in a file without damage.
std::vector<std::size_t> chunks_in(const std::string& bytes) {
  std::vector<std::size_t> chunks;
  for (std::size_t at = kFileHeaderBytes; at < bytes.size();) {
    std::uint32_t payload = 0;
    std::memcpy(&payload, bytes.data() + at + 8, sizeof(payload));
    chunks.push_back(at);
    at += kChunkHeaderBytes + payload;
  }
  return chunks;
}

TEST_F(RecordedFile, CountsTheEntriesThatDamageInItsMiddleDestroyed) {
  const TemporaryFile damaged, copy;
  record_spans(1000);
  const std::string whole = file.bytes();
  const std::vector<std::size_t> chunks = chunks_in(whole);
  const std::size_t middle = chunks[chunks.size() / 2], later = chunks[chunks.size() / 2 + 7];
  std::string flipped = whole, zeroed = whole, torn = whole, without = whole;
  for (std::size_t at = middle; at < later; at += 5000) flipped[at + 40] = static_cast<char>(flipped[at + 40] ^ 1);
  zeroed.replace(middle + 100, later - middle, later - middle, '\0');
  torn.erase(middle + 100, later - middle - 50);
  without.erase(middle, later - middle);  // only the numbers of entries show this
  for (const std::string& bytes : {flipped, zeroed, torn, without}) {
    damaged.set_bytes(bytes);
    const Replayed replayed = replay(damaged.path());
    EXPECT_LT(replayed.sink.spans.size(), 1000U);
    EXPECT_EQ(replayed.ledger.total.not_in_file, 1000 - replayed.sink.spans.size());
    EXPECT_EQ(replayed.ledger.total.emitted, 1000U);
    EXPECT_EQ(replayed.ledger.damage.empty(), bytes == without);
    EXPECT_NE(replayed.remark, "");
    EXPECT_EQ(to_text(replayed.ledger).find("none lost"), std::string::npos);
    expect_balanced(replayed);

    // A recording of it has the same ledger.
    Recording recording(damaged.path());
    Recorder recorder({copy.path(), true}, recording);
    Deadline never;
    recording.run(recorder, never);
    EXPECT_TRUE(recorder.finish());
    const Replayed again = replay(copy.path());
    EXPECT_EQ(text_of(again.ledger), text_of(replayed.ledger));
    EXPECT_NE(again.remark, "");
    expect_balanced(again);
  }
}

TEST_F(RecordedFile, CountsDestroyedEntriesAfterItsLastLedgerByTheHeadersOfTheirChunks) {
  record_spans(1000);
  std::string bytes = file.bytes();
  const std::vector<std::size_t> chunks = chunks_in(bytes);
  std::size_t ledger = chunks.size() - 4;  // before the last two, between which there are no entries
  while (bytes[chunks[ledger] + 4] != static_cast<char>(ChunkKind::ledger)) --ledger;
  const std::size_t at = chunks[ledger + 1];
  const auto entries = static_cast<unsigned char>(bytes[at + 12]);
  bytes.resize(chunks[ledger + 2] - 1);
  file.set_bytes(bytes);
  const Replayed replayed = replay(file.path());
  EXPECT_GT(entries, 0U);
  EXPECT_EQ(replayed.ledger.total.not_in_file, entries);
  EXPECT_EQ(replayed.ledger.damage.missing_ends, 1U);
  expect_balanced(replayed);
}

TEST(TwoRecordedFiles, OfWhichTheFirstHasNoEndSaySo) {
  const TemporaryFile one, two, both;
  LedgerSource source_one, source_two;
  record({one.path()}, 100, source_one);
  record({two.path()}, 200, source_two);
  const std::string first = one.bytes(), second = two.bytes();
  both.set_bytes(first.substr(0, first.size() - kChunkHeaderBytes) + second);
  const Replayed replayed = replay(both.path());
  EXPECT_EQ(replayed.ledger.damage.missing_ends, 1U);
  EXPECT_THAT(replayed.remark, HasSubstr("did not close"));
  expect_balanced(replayed);
  // Where the second recording's first chunk is damaged, its ledger is still counted apart.
  std::string broken = first + second;
  broken[first.size() + kFileHeaderBytes] = 'x';
  both.set_bytes(broken);
  EXPECT_EQ(replay(both.path()).ledger.total.emitted, 300U);
}

TEST_F(RecordedFile, NamesAnotherVersionThatFollows) {
  record_spans(100);
  std::string other = file.bytes();
  other[kFileMagic.size()] = 1;
  file.set_bytes(file.bytes() + other);
  EXPECT_THAT(replay(file.path()).remark, HasSubstr("a recording of format version 1, which cannot be read"));
}

TEST_F(RecordedFile, TakesAnyBytes) {
  const TemporaryFile broken;
  record_spans(60);
  const std::string whole = file.bytes();
  std::mt19937_64 random(5);
  for (int i = 0; i < 100; ++i) {
    std::string bytes = whole;
    for (std::uint64_t flips = random() % 5; flips > 0; --flips) {
      bytes[kFileHeaderBytes + random() % (bytes.size() - kFileHeaderBytes)] = static_cast<char>(random());
    }
    broken.set_bytes(bytes);
    const Replayed replayed = replay(broken.path());
    EXPECT_LE(replayed.sink.spans.size(), 60U);
    EXPECT_EQ(replayed.ledger.total.emitted, 60U);
    expect_balanced(replayed);
  }
}

// A file with these chunks. Each is valid as a chunk.
std::string file_of(const std::vector<std::pair<ChunkKind, std::string>>& chunks, std::uint64_t unix_ns = kBegin) {
  const TemporaryFile file;
  ChunkWriter writer(file.open(O_CREAT | O_WRONLY));
  for (const auto& [kind, payload] : chunks) EXPECT_TRUE(writer.write({kind, 7, unix_ns, payload}));
  return file.bytes();
}

TEST_F(RecordedFile, TakesChunksThatHoldAnything) {
  const std::string deep(900'000, '[');
  file.set_bytes(
      file_of({{ChunkKind::about, "no JSON"},
               {ChunkKind::about, "{\"recording\": 5}"},
               {ChunkKind::about, deep},
               {ChunkKind::ledger, deep},
               {ChunkKind::ledger, "[]"},
               {ChunkKind::ledger,
                R"({"total": {"emitted": -5, "delivered": 1e99, "filtered": "x"}, "processes": [1, {"pid": {}}]})"},
               {ChunkKind::batches, "no batch"},
               {ChunkKind::batches_gzip, std::string("\x0a\xff\xff\xff\xff\x0f", 6)},
               {static_cast<ChunkKind>(99), "a later recorder's"},
               {ChunkKind::end, "and more"}}));
  const Replayed replayed = replay(file.path());
  EXPECT_TRUE(replayed.sink.spans.empty());
  EXPECT_EQ(replayed.remark,
            file.path() + ": 7 chunks with invalid content were skipped, 14 recorded entries are not in it");
  EXPECT_EQ(replayed.ledger.total.emitted, 14U);  // the batches
  EXPECT_EQ(replayed.ledger.total.not_in_file, 14U);
}

TEST_F(RecordedFile, SaysWhetherRecordingsOverlap) {
  const std::string one = file_of({{ChunkKind::about, R"({"recording": "1", "part": 1})"}}) +
                          file_of({{ChunkKind::ledger, "{}"}, {ChunkKind::end, ""}}, kBegin + 10 * kSecond);
  const auto overlap_of = [&](std::uint64_t begin_unix_ns) {
    const std::string two = file_of({{ChunkKind::about, R"({"recording": "2", "part": 1})"}}, begin_unix_ns) +
                            file_of({{ChunkKind::ledger, "{}"}, {ChunkKind::end, ""}}, begin_unix_ns + kSecond);
    file.set_bytes(one + two);
    return replay(file.path()).remark;
  };
  EXPECT_THAT(overlap_of(kBegin + 8 * kSecond - 1), HasSubstr("overlap in time"));
  EXPECT_EQ(overlap_of(kBegin + 9 * kSecond), "") << "may be the time of a tick before the begin";
  EXPECT_EQ(overlap_of(kBegin + 20 * kSecond), "");
}

TEST_F(RecordedFile, ChecksABoundedNumberOfParts) {
  const auto part = [](const std::string& id, unsigned number) {
    return file_of({{ChunkKind::about, R"({"recording": ")" + id + R"(", "part": )" + std::to_string(number) + "}"},
                    {ChunkKind::end, ""}});
  };
  const auto remark_of = [&](const std::string& bytes) {
    file.set_bytes(bytes);
    Recording recording(ChunkReader(file.open(O_RDONLY), "it"), {}, {.parts = 2});
    KeptEntries sink;
    Deadline never;
    recording.run(sink, never);
    const std::string remark = recording.remark();
    EXPECT_EQ(recording.ledger().damage.repeated_parts, remark.find("more than once") == std::string::npos ? 0U : 1U);
    return remark;
  };
  EXPECT_EQ(remark_of(part("a", 1) + part("a", 2)), "");
  EXPECT_EQ(remark_of(part("a", 1) + part("b", 1) + part("a", 1)),
            "it: parts are not together or not in order: FILE.2 FILE.1 FILE, "
            "1 part more than once, so entries count twice");
  EXPECT_EQ(remark_of(part("a", 1) + part("b", 1) + part("c", 1)), "it: not all parts could be checked");
  EXPECT_EQ(remark_of(part(std::string(65, 'x'), 1)), "it: not all parts could be checked");
  EXPECT_THAT(remark_of(part("a", 1) + part("b", 1) + part("c", 1) + part("b", 1)), HasSubstr("1 part more than once"));
  EXPECT_THAT(remark_of(part("a", 2) + part("b", 1) + part("a", 1)), HasSubstr("not in order"));
}

TEST_F(RecordedFile, HasACountOfWhatWasNotWrittenAndGoesOnWhenThereIsRoomAgain) {
  const std::vector<ProcessPointer> processes = {make_process(1), make_process(2)};
  Recorder recorder({file.path()}, source);
  std::mt19937_64 random(6);
  std::uint64_t now = kBegin;
  const auto record_second = [&] {
    recorder.on_tick(now += kSecond);
    for (int i = 0; i < 100; ++i) {
      const KeptEntry entry = any_span(random, processes);
      source.count(*entry.entry().process);
      recorder.on_entry(entry.entry());
    }
  };
  record_second();
  recorder.on_tick(now += kSecond);
  recorder.wait_until_written();
  testing::internal::CaptureStderr();
  std::optional<FullDisk> full(std::in_place, file.bytes().size() + 5000);
  record_second();
  record_second();
  recorder.on_tick(now += kSecond);
  recorder.wait_until_written();
  full.reset();
  record_second();
  EXPECT_FALSE(recorder.finish());
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  EXPECT_NE(said.find("File too large"), std::string::npos) << said;

  const Replayed replayed = replay(file.path());
  EXPECT_EQ(replayed.remark, "");
  const Ledger ledger = recorder.ledger();
  EXPECT_EQ(text_of(replayed.ledger), text_of(ledger));
  EXPECT_EQ(ledger.total.emitted, 400U);
  EXPECT_EQ(ledger.total.delivered, replayed.sink.spans.size());
  EXPECT_GT(ledger.total.export_dropped, 0U);
  EXPECT_EQ(ledger.total.export_dropped, recorder.totals().dropped);
  EXPECT_TRUE(ledger.total.is_balanced());
  for (const ProcessLedger& one : ledger.processes) {
    EXPECT_TRUE(one.counts.is_balanced());
    const auto there =
        std::count_if(replayed.sink.spans.begin(), replayed.sink.spans.end(),
                      [&](const KeptEntry& entry) { return (**entry.entry().process).pid == one.process->pid; });
    EXPECT_EQ(one.counts.delivered, static_cast<std::uint64_t>(there));
  }
}

// Nobody reads the pipe of this live recorder, so the queue fills up.
class UnreadPipe : public testing::Test {
 protected:
  UnreadPipe() {
    testing::internal::CaptureStderr();
    recorder.set_live();
    recorder.on_tick(kBegin);
  }
  void emit(const std::vector<ProcessPointer>& processes, int entries) {
    for (int i = 0; i < entries; ++i) {
      const KeptEntry entry = any_span(random_, processes);
      source_.count(*entry.entry().process);
      recorder.on_entry(entry.entry());
    }
  }
  void expect_that_it_was_too_slow() {
    EXPECT_FALSE(recorder.finish());
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_NE(said.find("too slow"), std::string::npos) << said;
    EXPECT_TRUE(recorder.ledger().total.is_balanced());
  }

 private:
  static std::array<OpenFile, 2> new_pipe() {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    return {OpenFile(ends[0]), OpenFile(ends[1])};
  }
  const std::array<OpenFile, 2> pipe_ = new_pipe();
  LedgerSource source_;
  std::mt19937_64 random_{7};

 protected:
  Recorder recorder{{"/proc/self/fd/" + std::to_string(pipe_[1].get()), true}, source_};
};

TEST_F(UnreadPipe, CountsWhatNobodyReads) {
  const std::vector<ProcessPointer> processes = {make_process(1), make_process(2)};
  std::uint64_t entries = 0;
  while (recorder.ledger().total.export_dropped == 0) {
    emit(processes, 1000);
    entries += 1000;
  }
  const std::uint64_t refused = recorder.ledger().total.export_dropped;
  EXPECT_LT(refused, entries);
  expect_that_it_was_too_slow();
  const Ledger ledger = recorder.ledger();
  EXPECT_EQ(ledger.total.emitted, entries);
  EXPECT_EQ(ledger.total.export_dropped, entries) << "also what was in the queue";
  EXPECT_EQ(recorder.totals().dropped, entries);
}

// A process that emits more than can be written.
TEST_F(UnreadPipe, LeavesRoomForOtherProcesses) {
  const ProcessPointer flooding = make_process(1, "flooding"), other = make_process(2, "other");
  const ProcessPointer of_same_service = make_process(3, "flooding");
  const auto dropped = [&](const ProcessPointer& process) {
    for (const ProcessLedger& one : recorder.ledger().processes) {
      if (one.process->pid == process->pid) return one.counts.export_dropped;
    }
    return std::uint64_t{0};
  };
  while (dropped(flooding) == 0) emit({flooding}, 1000);
  emit({flooding}, 100'000);
  emit({other}, 1000);
  emit({of_same_service}, 1000);
  EXPECT_GT(dropped(flooding), 90'000U);
  EXPECT_EQ(dropped(other), 0U);
  EXPECT_EQ(dropped(of_same_service), 1000U);
  expect_that_it_was_too_slow();
}

TEST_F(RecordedFile, HasNoEndWithoutItsLastLedger) {
  Recorder recorder({file.path()}, source);
  recorder.on_tick(kBegin);
  recorder.wait_until_written();
  testing::internal::CaptureStderr();
  source.now.total += {.emitted = 3, .ring_full = 3};
  {
    const FullDisk full(file.bytes().size() + kChunkHeaderBytes);
    EXPECT_FALSE(recorder.finish());
  }
  EXPECT_NE(testing::internal::GetCapturedStderr(), "");
  const Replayed replayed = replay(file.path());
  EXPECT_EQ(replayed.ledger.damage.missing_ends, 1U);
  EXPECT_NE(replayed.remark, "");
}

// The files of a recording, the oldest first.
std::vector<std::string> parts_of(const TemporaryFile& file) {
  std::vector<std::string> parts = {file.bytes()};
  for (unsigned i = 1; i <= 9; ++i) {
    const std::string part = contents_of(file.path() + "." + std::to_string(i));
    if (!part.empty()) parts.insert(parts.begin(), part);
  }
  return parts;
}

TEST_F(RecordedFile, IsFollowedByAnotherWhenItIsFullAndAllTogetherHaveEverything) {
  const TemporaryFile all;
  const auto spans = record({file.path(), false, 200'000, 9}, 5000, source);
  const std::vector<std::string> parts = parts_of(file);
  const std::size_t files = parts.size() - 1;  // before the newest
  std::string bytes;
  for (std::size_t i = 0; i < files; ++i) {
    EXPECT_LT(parts[i].size(), 210'000U);  // ledgers included
    bytes += parts[i];
    all.set_bytes(parts[i]);
    EXPECT_NE(replay(all.path()).remark, "") << "a part is not the whole recording";
  }
  EXPECT_GT(files, 2U);
  all.set_bytes(bytes + file.bytes());
  const Replayed replayed = replay(all.path());
  EXPECT_EQ(replayed.remark, "");
  expect_same(spans, replayed.sink.spans);
  EXPECT_EQ(text_of(replayed.ledger), text_of(source.ledger()));
  // The newest part alone, and the parts in another order.
  const Replayed newest = replay(file.path());
  EXPECT_EQ(newest.ledger.total.not_in_file, 5000 - newest.sink.spans.size());
  EXPECT_THAT(newest.remark, HasSubstr(counted(files, "part") + " not found"));
  expect_balanced(newest);
  all.set_bytes(file.bytes() + bytes);
  EXPECT_EQ(replay(all.path()).ledger.total, source.ledger().total);
  EXPECT_THAT(replay(all.path()).remark, HasSubstr("not in order"));
}

// A request that began in a part that is not read lacks spans.
TEST_F(RecordedFile, HasAReaderThatKnowsWhichSpansBeganBefore) {
  const TemporaryFile some;
  constexpr std::size_t kSpans = 8000;
  constexpr std::uint64_t kEvery = 10'000'000, kLong = 5 * kSecond;
  {
    const KeptEntry kept = chat_span(make_process(1));
    Entry entry = kept.entry();
    entry.duration_ns = kLong;
    Recorder recorder({file.path(), false, 60'000, 9}, source);
    for (std::size_t i = 0; i < kSpans; ++i) {
      const std::uint64_t now = kBegin + i * kEvery;
      if (i % 10 == 0) recorder.on_tick(now);
      entry.sequence = i;
      entry.start_unix_ns = now - kLong;
      recorder.on_entry(entry);
    }
    EXPECT_TRUE(recorder.finish());
  }
  const std::vector<std::string> parts = parts_of(file);
  ASSERT_GT(parts.size(), 3U);
  const auto marked = [&](const std::string& bytes) {
    some.set_bytes(bytes);
    std::vector<bool> all;
    for (const KeptEntry& kept : replay(some.path()).sink.spans) all.push_back(kept.entry().before_attach);
    return all;
  };
  std::string whole;
  for (const std::string& part : parts) whole += part;
  EXPECT_EQ(marked(whole), std::vector<bool>(kSpans, false));
  EXPECT_EQ(marked(parts[0] + parts[1]), std::vector<bool>(marked(parts[0]).size() + marked(parts[1]).size(), false));
  for (const std::string& missing : {parts[0], parts[0] + parts[1]}) {
    const std::vector<bool> spans = marked(whole.substr(missing.size()));
    const auto after = std::find(spans.begin(), spans.end(), false);
    // Those of the time before the file, and of the second in which the recorder's time may be wrong.
    EXPECT_GE(after - spans.begin(), static_cast<std::ptrdiff_t>(kLong / kEvery));
    EXPECT_LE(after - spans.begin(), static_cast<std::ptrdiff_t>((kLong + 2 * kSecond) / kEvery));
    EXPECT_EQ(std::find(after, spans.end(), true), spans.end());
  }
  // A part is missing in the middle.
  const std::vector<bool> spans = marked(parts[0] + parts[2]);
  const auto first = static_cast<std::ptrdiff_t>(marked(parts[0]).size());
  EXPECT_EQ(std::find(spans.begin(), spans.begin() + first, true), spans.begin() + first);
  EXPECT_TRUE(spans[static_cast<std::size_t>(first)]);
}

}  // namespace
