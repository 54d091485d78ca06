// SPDX-License-Identifier: Apache-2.0
#include "host/open_spans.h"

#include "open_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nopspan::collector {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class SpansOfAMemory : public testing::Test {
 protected:
  OpenMemory memory;
  OpenSpans open;
};

std::vector<std::string> names_of(const OpenSpans& open) {
  std::vector<std::string> names;
  for (const nopspan_open& span : open.spans) names.emplace_back(span.name);
  return names;
}

TEST_F(SpansOfAMemory, AreReadWithTheirLabels) {
  nopspan_open& span = memory.add("request", 1, 0, 1000);
  span.labels[2] = 3;
  span.labels[3] = 5;
  memory.add("step", 2, 1, 2000);
  ASSERT_EQ(memory.read(open, 5000), 0);
  EXPECT_THAT(names_of(open), ElementsAre("request", "step"));
  EXPECT_EQ(open.labels[3], "acme");
  EXPECT_EQ(open.labels[5], "eu");
  EXPECT_THAT(open.label_keys, ElementsAre("shard", "", ""));
  EXPECT_EQ(open.now_ns, 5000U);
  EXPECT_FALSE(open.now_is_least);
  EXPECT_TRUE(open.is_raised);
  EXPECT_EQ(open.raised_ns, OpenSpans::kSinceLoad);
  EXPECT_EQ(open.unread, 0U);
}

TEST_F(SpansOfAMemory, ThatEndedOrBelongToAnotherProcessAreNotRead) {
  memory.add("ended", 1, 0, 1000).state = 0;
  memory.add("changing", 2, 0, 1000).state = 2;
  memory.add("of the parent process", 3, 0, 1000).mark = 5;
  memory.add("free", 4, 0, 1000);
  memory.slabs[0].free |= 1U << 3U;
  memory.add("open", 5, 0, 1000);
  ASSERT_EQ(memory.read(open), 0);
  EXPECT_THAT(names_of(open), ElementsAre("open"));
}

// Changes the spans before the read number `when` of one span: 0 is before `state` and `generation`, 1 before the copy,
// and 2 before the second read of both.
OpenSpans read_while_changing(OpenMemory& memory, unsigned when, void (*change)(nopspan_open&)) {
  const ReadRanges changing = [&](std::span<const MemoryRange> ranges, void* to) {
    auto* at = static_cast<char*>(to);
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      if (ranges.size() > 1 && i % 3 == when) change(memory.spans[i / 3]);
      if (!memory.reader()(ranges.subspan(i, 1), at)) return false;
      at += ranges[i].size;
    }
    return true;
  };
  OpenSpans open;
  EXPECT_EQ(OpenMemory::read_by(changing, open), 0);
  return open;
}

TEST_F(SpansOfAMemory, ThatChangeWhileTheyAreReadAreNotShown) {
  const auto replace = [](nopspan_open& span) { ++span.generation; };
  const auto end = [](nopspan_open& span) { span.state = 0; };
  for (const unsigned when : {1U, 2U}) {
    for (const auto change : {+replace, +end}) {
      OpenMemory changing;
      changing.add("changing", 1, 0, 1000);
      EXPECT_THAT(read_while_changing(changing, when, change).spans, IsEmpty()) << when;
    }
  }
  memory.add("changed before", 1, 0, 1000);
  EXPECT_THAT(read_while_changing(memory, 0, replace).spans, SizeIs(1));
}

TEST_F(SpansOfAMemory, AreNotExpectedOfAnOldLibrary) {
  memory.page.abi_version = 1;
  memory.page.magic = 0;
  memory.page.size = offsetof(nopspan_gate_page, magic);
  EXPECT_EQ(memory.read(open), ENOTSUP);
}

// The file has the version, and the constructor of the library fills in the rest.
TEST_F(SpansOfAMemory, OfALibraryThatIsBeingLoadedAreNotMissing) {
  memory.page.size = 0;
  EXPECT_EQ(memory.read(open), ESRCH);
  memory.page.magic = 0;
  EXPECT_EQ(memory.read(open), ESRCH);
}

TEST_F(SpansOfAMemory, AreNoneBeforeTheFirstOne) {
  memory.page.process_mark = 0;
  EXPECT_EQ(memory.read(open), 0);
  EXPECT_TRUE(open.spans.empty());
}

TEST_F(SpansOfAMemory, OfADamagedMemoryAreRefused) {
  for (const unsigned bytes : {0U, 8U, static_cast<unsigned>(sizeof(nopspan_open)) - 1, 1U << 30U, ~0U}) {
    memory.page.open_bytes = bytes;
    EXPECT_EQ(memory.read(open), EBADMSG) << bytes;
  }
  OpenMemory without_mark;
  without_mark.page.process_mark = 1;
  EXPECT_EQ(without_mark.read(open), EBADMSG);
  OpenMemory without_table;
  without_table.page.open_slabs = 1;
  EXPECT_EQ(without_table.read(open), EBADMSG);
  EXPECT_EQ(OpenMemory::read_by([](std::span<const MemoryRange>, void*) { return (errno = EPERM, false); }, open),
            EPERM);
}

TEST_F(SpansOfAMemory, OfMoreSlabsThanTheTableHasEndWithIt) {
  memory.add("request", 1, 0, 1000);
  memory.page.open_slabs_count = ~0U;
  memory.slabs.resize(16384);  // all that are read
  ASSERT_EQ(memory.read(open), 0);
  EXPECT_THAT(open.spans, SizeIs(1));
}

TEST_F(SpansOfAMemory, OfSlabsThatAreTheSameMemoryAreBounded) {
  for (unsigned i = 0; i < 64; ++i) memory.add("span", i + 1, 0, 1000);
  memory.page.open_slabs_count = ~0U;
  memory.slabs.assign(16384, {OpenMemory::kSpans, 0});
  ASSERT_EQ(memory.read(open), 0);
  EXPECT_THAT(open.spans, SizeIs(65536));
  EXPECT_EQ(open.unread, 16384U * 64 - 65536);
}

TEST_F(SpansOfAMemory, OfASlabThatCannotBeReadAreCounted) {
  memory.add("request", 1, 0, 1000);
  memory.slabs[1] = {0x900000000, ~7UL};
  ASSERT_EQ(memory.read(open), 0);
  EXPECT_THAT(open.spans, SizeIs(1));
  EXPECT_EQ(open.unread, 3U);
}

TEST_F(SpansOfAMemory, WithLabelsThatDoNotExistHaveNone) {
  nopspan_open& span = memory.add("request", 1, 0, 1000);
  span.labels[0] = 7;      // without a text
  span.labels[1] = 65535;  // beyond the table
  span.labels[2] = 3;
  memory.page.labels_count = ~0U;
  ASSERT_EQ(memory.read(open), 0);
  EXPECT_FALSE(open.labels.contains(7));
  EXPECT_FALSE(open.labels.contains(65535));
  EXPECT_EQ(open.labels[3], "acme");
  memory.page.label_bytes = 0;
  ASSERT_EQ(memory.read(open), 0);
  EXPECT_THAT(open.labels, IsEmpty());
}

TEST_F(SpansOfAMemory, WhoseTextsDoNotEndAreCut) {
  nopspan_open& span = memory.add("request", 1, 0, 1000);
  std::memset(span.name, 'n', sizeof(span.name));
  std::memset(span.foreign_id, 'i', sizeof(span.foreign_id));
  span.labels[0] = 1;
  std::memset(memory.labels[1].text, 't', sizeof(memory.labels[1].text));
  ASSERT_EQ(memory.read(open), 0);
  EXPECT_EQ(std::string(open.spans[0].name), std::string(63, 'n'));
  EXPECT_EQ(std::string(open.spans[0].foreign_id), std::string(63, 'i'));
  EXPECT_EQ(open.labels[1], std::string(63, 't'));
}

TEST_F(SpansOfAMemory, OfAMemoryWithoutAClockAreAtLeastAsOldAsItsNewestTime) {
  memory.add("request", 1, 0, 1000);
  memory.add("step", 2, 1, 2000).first_token_ns = 500;
  nopspan_open& given = memory.add("given", 3, 1, 9'000'000);
  given.flags = NOPSPAN_FLAG_GIVEN_TIMES;
  ASSERT_EQ(memory.read(open, 0), 0);
  EXPECT_TRUE(open.now_is_least);
  EXPECT_EQ(open.now_ns, 2500U);

  // A list of threads that contains itself.
  nopspan_thread thread{};
  thread.magic = NOPSPAN_THREAD_MAGIC;
  thread.mark = OpenMemory::kMark;
  thread.written_ns = 7000;
  thread.next_thread = 0x5000;
  memory.page.threads = 0x5000;
  memory.more[0x5000] = {reinterpret_cast<const char*>(&thread), sizeof(thread)};
  ASSERT_EQ(memory.read(open, 0), 0);
  EXPECT_EQ(open.now_ns, 7000U);
}

TEST_F(SpansOfAMemory, OfAReaderThatWasTakenOverAreRefused) {
  memory.add("request", 1, 0, 1000);
  const Answer whole = pack_open_spans(memory.reader(), OpenMemory::kGate, [] { return std::uint64_t{1}; });
  for (std::size_t size = 0; size < whole.bytes.size(); ++size) {
    const Answer cut{0, whole.bytes.substr(0, size), OpenFile()};
    ASSERT_EQ(unpack_open_spans(cut, open), EBADMSG) << size;
  }
  for (std::size_t at = 0; at < 16; ++at) {  // the counts
    Answer changed{0, whole.bytes, OpenFile()};
    changed.bytes[at] = static_cast<char>(changed.bytes[at] ^ '\xff');
    EXPECT_EQ(unpack_open_spans(changed, open), EBADMSG) << at;
  }
}

}  // namespace
}  // namespace nopspan::collector
