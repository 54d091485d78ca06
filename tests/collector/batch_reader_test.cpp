// SPDX-License-Identifier: Apache-2.0
// Reading of batches: valid ones and damaged ones. fuzz/batches.cpp reads any bytes.
#include "reader/batch_reader.h"

#include "stream/batch_entries.h"

#include "batch_builder.h"
#include "model/steps.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

using testing::ElementsAre;
using Outcome = BatchReader::Outcome;

constexpr std::uint64_t kOffset = 1'000'000;  // of the wall clock from the monotonic clock

class Batch : public testing::Test {
 protected:
  ClockSamples clocks{{.monotonic_ns = 5, .offset_ns = kOffset}};
  BatchBuilder batch;
  std::string copy;

  // Reads the batch to its end. Returns the names of its spans, "unknown" for an unknown kind, and "?" for a malformed
  // entry.
  std::vector<std::string> names(std::uint64_t count) {
    copy = batch.bytes();  // exactly sized, so that a sanitizer detects a read beyond the end
    copy.shrink_to_fit();
    BatchReader reader(copy, count, clocks);
    std::vector<std::string> all;
    for (Entry entry;;) {
      const Outcome outcome = reader.next(entry);
      if (outcome == Outcome::end) return all;
      all.push_back(outcome == Outcome::entry     ? std::string(entry.name)
                    : outcome == Outcome::unknown ? "unknown"
                                                  : "?");
    }
  }
  std::vector<std::string> names() { return names(batch.count()); }
  // Reads the only entry.
  Entry only() {
    copy = batch.bytes();
    Entry entry;
    EXPECT_EQ(BatchReader(copy, 1, clocks).next(entry), Outcome::entry);
    return entry;
  }
};

TEST_F(Batch, ReadsEntriesInOrder) {
  batch.span("one", 1).span("two", 2).span("", 3);
  EXPECT_THAT(names(), ElementsAre("one", "two", ""));
}

TEST_F(Batch, HasTheTimesOfTheProcess) {
  batch.span("short", 1);
  batch.span("endless", 2).part(NOPSPAN_PART_TIMES, {1000, UINT64_MAX});
  BatchReader reader(batch.bytes(), batch.count(), clocks);
  Entry entry;
  reader.next(entry);
  EXPECT_EQ(reader.start_ns(), 1000U);
  EXPECT_EQ(reader.end_ns(), 1050U);
  reader.next(entry);
  EXPECT_EQ(reader.end_ns(), UINT64_MAX);
}

TEST_F(Batch, IsOfAProcessWithAnotherClock) {
  batch.span("span", 1);
  struct Case {
    std::int64_t offset_ns;
    std::uint64_t start_ns, end_ns, start_unix_ns;
  };
  // The last one began before the clock of this program.
  for (const Case& each : {Case{400, 600, 650, kOffset + 600}, Case{-400, 1400, 1450, kOffset + 1400},
                           Case{3000, 0, 50, kOffset - 2000}}) {
    BatchReader reader(batch.bytes(), batch.count(), clocks, each.offset_ns);
    Entry entry;
    reader.next(entry);
    EXPECT_EQ(reader.start_ns(), each.start_ns);
    EXPECT_EQ(reader.end_ns(), each.end_ns);
    EXPECT_EQ(entry.start_unix_ns, each.start_unix_ns);
    EXPECT_EQ(entry.duration_ns, 50U);
  }
}

TEST_F(Batch, LeavesNothingOfTheEntryBefore) {
  batch.entry();
  batch.part(NOPSPAN_PART_USAGE, {11, 12, 13, 14})
      .part(NOPSPAN_PART_FIRST_TOKEN, {21})
      .part(NOPSPAN_PART_ENGINE, {31, 32, 33, 34, 35, 36, 37})
      .part(NOPSPAN_PART_VALUES, {41, 42})
      .text(NOPSPAN_PART_ERROR_TYPE, "busy");
  batch.span("next", 1);
  copy = batch.bytes();
  BatchReader reader(copy, 2, clocks);
  Entry entry;
  ASSERT_EQ(reader.next(entry), Outcome::entry);
  EXPECT_EQ(entry.engine_times.preemptions, 37U);
  ASSERT_EQ(reader.next(entry), Outcome::entry);
  EXPECT_EQ(entry.name, "next");
  EXPECT_EQ(entry.usage.input + entry.usage.output + entry.usage.cached + entry.usage.reasoning, 0U);
  EXPECT_EQ(entry.first_token_ns, 0U);
  EXPECT_EQ(entry.engine_times.arrival_ns + entry.engine_times.preemptions, 0U);
  EXPECT_EQ(entry.value, 0);
  EXPECT_EQ(entry.number, 0U);
  EXPECT_EQ(entry.error_type, "");
  EXPECT_FALSE(entry.has_usage);
}

TEST_F(Batch, ReadsAllOfASpan) {
  nopspan_entry& written = batch.entry();
  written.status = NOPSPAN_STATUS_EXCEPTION;
  written.status |= NOPSPAN_ENTRY_ATTRIBUTES_DROPPED;
  written.span_id = 1;
  written.parent_id = 2;
  written.start_ns = -500;
  written.duration_ns = 70;
  batch.form().flags = NOPSPAN_FLAG_HAS_USAGE | NOPSPAN_FLAG_FOREIGN_ID;
  batch.request().trace_id[15] = 9;
  batch.request().root_id = 3;
  batch.request().start_ns = 1500;
  batch.part(NOPSPAN_COUNTS_TOKENS, {})
      .part(NOPSPAN_PART_USAGE, {11, 12, 13, 14})
      .part(NOPSPAN_PART_FIRST_TOKEN, {21})
      .part(NOPSPAN_PART_ENGINE, {31, 32, 33, 34, 35, 36, 37})
      .text(&nopspan_form::name, "llm.chat")
      .text(&nopspan_form::engine, "llama.cpp")
      .text(&nopspan_form::model, "tiny")
      .text(&nopspan_form::tenant, "acme")
      .text(&nopspan_request::foreign_id, "order-4711")
      .text(&nopspan_request::tracestate, "a=b")
      .text(NOPSPAN_PART_EXCEPTION_KIND, "error")
      .text(NOPSPAN_PART_ERROR_TYPE, "std::runtime_error")
      .text(NOPSPAN_PART_TEXT, "calculator")
      .text(NOPSPAN_PART_LINKS, std::string(48, 'x'))
      .text(NOPSPAN_PART_ATTRIBUTES, "attributes");
  const Entry entry = only();
  EXPECT_EQ(entry.kind, Kind::span);
  EXPECT_EQ(entry.status, kException);
  EXPECT_EQ(entry.flags, NOPSPAN_FLAG_HAS_USAGE | NOPSPAN_FLAG_FOREIGN_ID | NOPSPAN_FLAG_ATTRIBUTES_DROPPED);
  EXPECT_EQ(entry.trace_id.bytes[15], 9);
  EXPECT_EQ(entry.span_id, 1);
  EXPECT_EQ(entry.parent_id, 2);
  EXPECT_EQ(entry.root_id, 3);
  EXPECT_EQ(entry.start_unix_ns, kOffset + 1000);
  EXPECT_EQ(entry.duration_ns, 70);
  EXPECT_TRUE(entry.counts_tokens);
  EXPECT_FALSE(entry.counts_tool);
  EXPECT_TRUE(entry.has_usage && entry.has_first_token && entry.has_engine_times);
  EXPECT_EQ(entry.usage.input, 11);
  EXPECT_EQ(entry.usage.reasoning, 14);
  EXPECT_EQ(entry.first_token_ns, 21);
  EXPECT_EQ(entry.engine_times.arrival_ns, 31);
  EXPECT_EQ(entry.engine_times.preemptions, 37);
  EXPECT_EQ(entry.name, "llm.chat");
  EXPECT_EQ(entry.engine, "llama.cpp");
  EXPECT_EQ(entry.model, "tiny");
  EXPECT_EQ(entry.tenant, "acme");
  EXPECT_EQ(entry.exception_kind, "error");
  EXPECT_EQ(entry.error_type, "std::runtime_error");
  EXPECT_EQ(entry.foreign_id, "order-4711");
  EXPECT_EQ(entry.tracestate, "a=b");
  EXPECT_EQ(entry.text, "calculator");
  EXPECT_EQ(entry.attributes, "attributes");
  EXPECT_EQ(entry.links.size(), 48);
}

TEST_F(Batch, ReadsAGauge) {
  batch.entry(NOPSPAN_ENTRY_GAUGE);
  batch.part(NOPSPAN_PART_VALUES, {static_cast<std::uint64_t>(-5), 4096});
  const Entry entry = only();
  EXPECT_EQ(entry.kind, Kind::gauge);
  EXPECT_EQ(entry.value, -5);
  EXPECT_EQ(entry.number, 4096);
}

TEST_F(Batch, ReadsAStepAndTheRestOfItsMembers) {
  const nopspan_member first{4711, 512, 30'000, 1, 4, 3, 0}, second{4712, 0, 7, 1, 0, 0, NOPSPAN_MEMBER_OWN_KEY};
  batch.step(9, {first, second}, 3).members(9, {second}, 2).span("after", 1);
  copy = batch.bytes();
  BatchReader reader(copy, batch.count(), clocks);
  Entry entry;
  ASSERT_EQ(reader.next(entry), Outcome::entry);
  EXPECT_EQ(entry.kind, Kind::span);
  EXPECT_TRUE(is_step(entry));
  ASSERT_NE(entry.step, nullptr);
  EXPECT_EQ(entry.step->members, 3);
  EXPECT_EQ(entry.step->kind, unsigned{NOPSPAN_STEP_DECODE});
  EXPECT_EQ(entry.links, "");
  std::vector<nopspan_member> members;
  for_each_member(entry.members, [&](const nopspan_member& member) { members.push_back(member); });
  ASSERT_EQ(members.size(), 2);
  EXPECT_EQ(members[0].request, 4711);
  EXPECT_EQ(members[0].prefill_tokens, 512);
  EXPECT_EQ(members[0].context_tokens, 30'000);
  EXPECT_EQ(members[0].accepted_tokens, 3);
  EXPECT_EQ(members[1].flags, NOPSPAN_MEMBER_OWN_KEY);
  ASSERT_EQ(reader.next(entry), Outcome::entry);
  EXPECT_EQ(entry.kind, Kind::part);
  EXPECT_EQ(entry.span_id, 9);
  EXPECT_EQ(entry.number, 2);
  EXPECT_EQ(entry.step, nullptr);
  EXPECT_EQ(members_of(entry), 1);
  ASSERT_EQ(reader.next(entry), Outcome::entry);
  EXPECT_EQ(entry.step, nullptr);
  EXPECT_EQ(entry.members, "");
}

TEST_F(Batch, TakesAStepOfALibraryBeforeForOne) {
  batch.span("engine.step", 1);
  EXPECT_TRUE(is_step(only()));
  EXPECT_EQ(only().step, nullptr);
}

// A defect of the second of three steps must not affect the others.
using SpoilStep = void (*)(BatchBuilder& batch, nopspan_step& step);
TEST_F(Batch, LeavesAMalformedStepOut) {
  const SpoilStep spoils[] = {
      [](BatchBuilder& batch, nopspan_step&) { batch.xor_parts() = NOPSPAN_PART_STEP; },
      [](BatchBuilder& batch, nopspan_step&) { batch.text(NOPSPAN_PART_LINKS, std::string(40, 'x')); },
      [](BatchBuilder& batch, nopspan_step&) { batch.words().resize(64); },
      [](BatchBuilder&, nopspan_step& step) { step.members = 1; },
      [](BatchBuilder&, nopspan_step& step) { step.members_with_prefill = 3; },
  };
  const std::vector<nopspan_member> members(2);
  for (const SpoilStep spoil : spoils) {
    batch = {};
    batch.step(1, members, 2).step(2, members, 2);
    spoil(batch, *reinterpret_cast<nopspan_step*>(batch.words().data()));
    batch.step(3, members, 2);
    EXPECT_THAT(names(), ElementsAre("engine.step", "?", "engine.step"));
  }
}

TEST_F(Batch, ReadsAStepOfAKindThatItDoesNotKnow) {
  batch.step(1, {}, 0);
  reinterpret_cast<nopspan_step*>(batch.words().data())->kind = 99;
  copy = batch.bytes();
  BatchReader reader(copy, 1, clocks);
  Entry entry;
  ASSERT_EQ(reader.next(entry), Outcome::entry);
  EXPECT_EQ(entry.step->kind, unsigned{NOPSPAN_STEP_UNKNOWN});
}

TEST_F(Batch, SharesATextOfAnEntryBefore) {
  batch.span("shared", 1);
  const nopspan_text where = batch.written_form().name;
  batch.entry();
  batch.form().name = where;
  EXPECT_THAT(names(), ElementsAre("shared", "shared"));
}

TEST_F(Batch, SharesTheFormAndTheRequestOfAnEntryBefore) {
  batch.span("shared", 1);
  const std::size_t before = batch.entry_at() / 8;
  batch.entry().form = static_cast<unsigned short>(before - (sizeof(nopspan_form) + 8) / 8);
  EXPECT_THAT(names(), ElementsAre("shared", "shared"));
}

TEST_F(Batch, SkipsWhatALaterVersionAdds) {
  batch.span("before", 1);
  batch.span("with a part", 2).part(0x40, {6});
  batch.span("after", 3).part(0x4'0000, {});
  EXPECT_THAT(names(), ElementsAre("before", "unknown", "after"));
  const unsigned char shared[16] = {12, 0, 0xff, 0};
  batch.raw().append(reinterpret_cast<const char*>(shared), sizeof(shared));
  batch.span("last", 4);
  EXPECT_THAT(names(), ElementsAre("before", "unknown", "after", "last"));
}

TEST_F(Batch, SkipsAKindThatItDoesNotKnow) {
  batch.span("before", 1);
  batch.entry(100);
  batch.span("after", 2);
  EXPECT_THAT(names(), ElementsAre("before", "unknown", "after"));
}

TEST_F(Batch, ReadsNoMoreEntriesThanItIsTold) {
  batch.span("one", 1).span("two", 2);
  EXPECT_THAT(names(1), ElementsAre("one"));
  EXPECT_THAT(names(1000), ElementsAre("one", "two"));
  EXPECT_EQ(whole_entries(batch.bytes(), 1), 1);
  EXPECT_EQ(whole_entries(batch.bytes(), 1000), 2);
  EXPECT_EQ(whole_entries(batch.bytes().substr(0, batch.bytes().size() - 1), 1000), 1);
}

constexpr nopspan_text kBeyondTheEnd{65535, 1}, kOverTheEnd{40, 200}, kLongest{0, 65535}, kHalfALink{0, 36};

// A defect of one entry must not affect the others.
using Spoil = void (*)(BatchBuilder& batch);
struct Spoiled {
  const char* what;
  Spoil spoil;
};
class OneMalformedEntry : public Batch, public testing::WithParamInterface<Spoiled> {};
TEST_P(OneMalformedEntry, IsLeftOut) {
  batch.span("before", 1).span("middle", 2);
  GetParam().spoil(batch);
  batch.span("after", 3);
  EXPECT_THAT(names(), ElementsAre("before", "?", "after"));
}
INSTANTIATE_TEST_SUITE_P(
    Batch, OneMalformedEntry,
    testing::Values(
        Spoiled{"a fixed part that is too short",
                [](BatchBuilder& b) {
                  b.last().size = 24;
                  b.raw().resize(b.entry_at() + 24);
                }},
        Spoiled{"no such status", [](BatchBuilder& b) { b.last().status = 4; }},
        Spoiled{"a form beyond the end", [](BatchBuilder& b) { b.last().form = 65535; }},
        Spoiled{"a request for its form", [](BatchBuilder& b) { b.last().form = b.last().request = 1; }},
        Spoiled{"a form of another kind", [](BatchBuilder& b) { b.form().entry_kind = NOPSPAN_ENTRY_EVENT; }},
        Spoiled{"usage without room", [](BatchBuilder& b) { b.xor_parts() = NOPSPAN_PART_USAGE; }},
        Spoiled{"a time without room", [](BatchBuilder& b) { b.xor_parts() = NOPSPAN_PART_FIRST_TOKEN; }},
        Spoiled{"times without room", [](BatchBuilder& b) { b.xor_parts() = NOPSPAN_PART_TIMES; }},
        Spoiled{"engine times without room", [](BatchBuilder& b) { b.xor_parts() = NOPSPAN_PART_ENGINE; }},
        Spoiled{"values without room", [](BatchBuilder& b) { b.xor_parts() = NOPSPAN_PART_VALUES; }},
        Spoiled{"a text without room", [](BatchBuilder& b) { b.xor_parts() = NOPSPAN_PART_TEXT; }},
        Spoiled{"a text beyond the end", [](BatchBuilder& b) { b.form().model = kBeyondTheEnd; }},
        Spoiled{"a text over the end", [](BatchBuilder& b) { b.form().model = kOverTheEnd; }},
        Spoiled{"a tracestate beyond the end", [](BatchBuilder& b) { b.request().tracestate = kBeyondTheEnd; }},
        Spoiled{"a name without end", [](BatchBuilder& b) { b.text(&nopspan_form::name, std::string(300, 'n')); }},
        Spoiled{"attributes over the end", [](BatchBuilder& b) { b.text_at(NOPSPAN_PART_ATTRIBUTES, kLongest); }},
        Spoiled{"half a link", [](BatchBuilder& b) { b.text_at(NOPSPAN_PART_LINKS, kHalfALink); }}),
    [](const auto& entry) {
      std::string name = entry.param.what;
      for (char& c : name) c = c == ' ' ? '_' : c;
      return name;
    });

// With such a size, the start of the next entry is unknown.
class MalformedSize : public Batch, public testing::WithParamInterface<unsigned> {};
TEST_P(MalformedSize, EndsTheBatch) {
  batch.span("before", 1).span("middle", 2);
  batch.last().size = static_cast<unsigned short>(GetParam());
  EXPECT_THAT(names(), ElementsAre("before"));
}
INSTANTIATE_TEST_SUITE_P(Batch, MalformedSize, testing::Values(1, 7, 4096, 0x7FFF, 0xFFFF));

TEST_F(Batch, IsCutAnywhere) {
  batch.span("one", 1).span("two", 2);
  const std::string whole(batch.bytes());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    batch.raw() = whole.substr(0, size);
    EXPECT_LE(names().size(), size / 8);
  }
}

TEST_F(Batch, GivesNoMoreBytesOfAttributesOutThanItHas) {
  batch.entry();
  batch.text(NOPSPAN_PART_ATTRIBUTES, std::string(8000, 'a'));
  const nopspan_text where = batch.written(NOPSPAN_PART_ATTRIBUTES);
  for (int i = 0; i < 100; ++i) {
    batch.entry();
    batch.text_at(NOPSPAN_PART_ATTRIBUTES, where);
  }
  copy = batch.bytes();
  BatchReader reader(copy, batch.count(), clocks);
  std::size_t given = 0;
  for (Entry entry;;) {
    const Outcome outcome = reader.next(entry);
    if (outcome == Outcome::end) break;
    if (outcome == Outcome::entry) given += entry.attributes.size();
  }
  EXPECT_LE(given, copy.size());
}

}  // namespace
}  // namespace nopspan::collector
