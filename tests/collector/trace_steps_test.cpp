// SPDX-License-Identifier: Apache-2.0
// Steps, their members, and what is inside them, in traces.
#include "assembled_traces.h"

#include <gmock/gmock.h>

#include <cstddef>
#include <cstring>
#include <numeric>
#include <random>

namespace nopspan::collector {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::Pair;
using testing::SizeIs;
using testing::UnorderedElementsAre;

class StepsInTraces : public testing::Test, public Assembly {};

const nopspan_step& facts_of(unsigned members) {
  static std::map<unsigned, nopspan_step> kept_facts;
  nopspan_step& facts = kept_facts[members];
  facts.members = members;
  facts.decode_tokens = members;
  facts.instance = 2;
  facts.number = 70;
  return facts;
}

// The request number `number`, whose span has that id.
Entry request_of(std::uint8_t number) {
  Entry entry = span_of(number, 0, "engine.request");
  entry.trace_id = trace_number(number);
  entry.root_id = number;
  return entry;
}

Entry inside_of(const Entry& step, std::uint64_t id, std::string_view name = "llama.gpu") {
  Entry entry = span_of(id, step.span_id, name);
  entry.trace_id = step.trace_id;
  entry.duration_ns = kMillisecond / 2;
  return entry;
}

TEST_F(StepsInTraces, AreAddedUpInTheRequestsOfTheirMembers) {
  encodes = true;
  for (std::uint64_t id = 100; id < 110; ++id) {
    add(id == 105 ? step_of(id, members_for({1}), facts_of(1)) : step_of(id, members_for({1, 2}), facts_of(2)));
  }
  add(request_of(1), request_of(2));
  wait(2 * kSecond);
  ASSERT_THAT(seen, SizeIs(2)) << "no traces of their own";
  EXPECT_THAT(seen[0].linked, ElementsAre(Pair("engine.step", Pair(1, 10))));
  EXPECT_THAT(seen[1].linked, ElementsAre(Pair("engine.step", Pair(2, 9))));
  const auto& json = seen[0].json["linked"][0];
  EXPECT_EQ(json["decode_tokens"], 10);
  EXPECT_EQ(json["prefill_tokens"], 0);
  EXPECT_EQ(json["sum_ns"], 10 * kMillisecond);
  const StepCounts& counts = assembler.step_counts();
  EXPECT_EQ(counts.all, 10U);
  EXPECT_EQ(counts.members.joined, 19U);
  EXPECT_EQ(assembler.counts().steps, 10U);
}

TEST_F(StepsInTraces, AddUpTheDraftsOfARequest) {
  draws = encodes = true;
  nopspan_member member{};
  member.request = 1;
  member.decode_tokens = 3;
  member.drafted_tokens = 4;
  member.accepted_tokens = 2;
  const std::string members(reinterpret_cast<const char*>(&member), sizeof(member));
  for (std::uint64_t id = 100; id < 103; ++id) add(step_of(id, members, facts_of(1)));
  add(request_of(1));
  wait(2 * kSecond);
  EXPECT_THAT(only().text, HasSubstr("0 prefill and 9 decode tokens, 6 of 12 drafted accepted"));
  EXPECT_EQ(only().json["linked"][0]["accepted_tokens"], 6);
}

TEST_F(StepsInTraces, NameTheRequestForWhichTheLongestOneDidTheMost) {
  draws = encodes = true;
  nopspan_member members[2] = {};
  members[0].request = 2;
  members[0].prefill_tokens = 14'968;
  members[1].request = 1;
  members[1].prefill_tokens = 19;
  nopspan_step facts = facts_of(2);
  facts.prefill_tokens = 14'987;
  Entry step = step_of(100, kept_bytes({reinterpret_cast<const char*>(members), sizeof(members)}), facts);
  step.duration_ns = 900 * kMillisecond;
  add(step, step_of(101, members_for({1}), facts_of(1)));
  Entry other = request_of(2);
  other.tenant = "initech";
  add(request_of(1), other);
  wait(2 * kSecond);
  ASSERT_THAT(seen, SizeIs(2));
  EXPECT_THAT(seen[0].text, HasSubstr("the longest: 14987 prefill tokens for 2 requests, 14968 of them for "
                                      "AgAAAAAAAAAAAAAAAAAAAQ  tenant=initech\n"));
  EXPECT_THAT(seen[0].text, HasSubstr("\n  900 ms "));
  const auto& longest = seen[0].json["linked"][0]["longest"];
  EXPECT_EQ(longest, nlohmann::ordered_json::parse(R"({"span_id": "0000000000000064", "start_unix_ns": )" +
                                                   std::to_string(step.start_unix_ns) +
                                                   R"(, "duration_ns": 900000000, "requests": 2,
      "prefill_tokens": 14987, "own_prefill_tokens": 19, "most": {"prefill_tokens": 14968,
      "span_id": "0000000000000002", "request_id": "AgAAAAAAAAAAAAAAAAAAAQ", "tenant": "initech"}})"));
  EXPECT_THAT(seen[1].text, Not(HasSubstr("the longest"))) << "the line above it is about this step alone";
  EXPECT_EQ(seen[1].json["linked"][0]["longest"]["own_prefill_tokens"], 14'968);
}

TEST_F(StepsInTraces, NameNoRequestThatHasNotEnded) {
  draws = true;
  nopspan_member members[2] = {};
  members[0].request = 2;
  members[0].prefill_tokens = 100;
  members[1].request = 1;
  nopspan_step facts = facts_of(2);
  facts.prefill_tokens = 100;
  add(step_of(100, kept_bytes({reinterpret_cast<const char*>(members), sizeof(members)}), facts),
      step_of(101, members_for({1}), facts_of(1)), request_of(1));
  wait(2 * kSecond);
  EXPECT_THAT(only().text, HasSubstr("the longest: 100 prefill tokens for 2 requests, 100 of them for another one\n"));
}

TEST_F(StepsInTraces, HaveNumbersWhenTheyAreKeptOneByOne) {
  Assembly assembly({.linked_kept = 3});
  assembly.encodes = true;
  for (std::uint64_t id = 100; id < 105; ++id) assembly.add(step_of(id, members_for({1}), facts_of(1)));
  assembly.add(request_of(1));
  assembly.assembler.finish();
  const auto& spans = assembly.only().json["linked"][0]["spans"];
  ASSERT_THAT(spans, SizeIs(3));
  EXPECT_EQ(spans[0]["number"], 70);
  EXPECT_EQ(spans[0]["instance"], 2);
  EXPECT_EQ(spans[0]["requests"], 1);
}

TEST_F(StepsInTraces, LoseNoneOfAThousandMembers) {
  std::vector<std::uint64_t> requests(1024);
  std::iota(requests.begin(), requests.end(), 1000);
  const std::string_view first = members_for({requests.begin(), requests.begin() + 512});
  for (std::uint64_t id = 100; id < 120; ++id) {
    add(inside_of(step_of(id, first, facts_of(1024)), id + 50), step_of(id, first, facts_of(1024)));
    add(part_of(id, members_for({requests.begin() + 512, requests.end()}), 512));
    ASSERT_TRUE(adds_up());
  }
  for (const std::uint64_t request : requests) {
    Entry entry = span_of(request, 0, "engine.request");
    for (std::size_t i = 0; i < 8; ++i) entry.trace_id.bytes[i] = static_cast<unsigned char>(request >> (8 * i));
    add(entry);
  }
  wait(2 * kSecond);
  ASSERT_THAT(seen, SizeIs(1024));
  for (const Seen& one : seen) {
    EXPECT_THAT(one.linked, UnorderedElementsAre(Pair("engine.step", Pair(testing::_, 20)),
                                                 Pair("llama.gpu", Pair(testing::_, 20))));
  }
  const StepCounts& counts = assembler.step_counts();
  EXPECT_EQ(counts.members.joined, 20U * 1024U);
  EXPECT_EQ(counts.inside.joined, 20U * 1024U);
  EXPECT_EQ(counts.missing + counts.stray + counts.members.unknown, 0U);
}

TEST_F(StepsInTraces, AreNeverTracesWhateverIsInsideThem) {
  const Entry step = step_of(100, "", facts_of(0));
  for (const Entry& entry : {inside_of(step, 101), inside_of(inside_of(step, 101), 102), step, inside_of(step, 103)}) {
    add(entry);
  }
  Entry event = event_of(100);
  event.trace_id = step.trace_id;
  add(event);
  Entry of_before = linked_span(200, "", "engine.step");  // by a library without members
  add(inside_of(of_before, 201), of_before);
  Entry in_doubt = linked_span(300, "", "engine.step");
  in_doubt.flags = NOPSPAN_FLAG_ORPHAN;
  add(in_doubt);
  wait(20 * kSecond);
  assembler.finish();
  EXPECT_THAT(seen, IsEmpty());
  EXPECT_EQ(assembler.counts().steps, 8U);
  EXPECT_EQ(assembler.counts().unfinished, 0U);
}

TEST_F(StepsInTraces, ShareWhatIsInsideThemWithTheirMembers) {
  for (const bool is_before : {false, true}) {
    Assembly assembly;
    assembly.draws = true;
    const Entry step = step_of(100, members_for({1, 2}), facts_of(2));
    if (!is_before) assembly.add(step);
    assembly.add(inside_of(step, 101), inside_of(step, 102), inside_of(step, 103, "llama.copy"));
    if (is_before) assembly.add(step);
    assembly.add(request_of(1), request_of(2));
    assembly.wait(2 * kSecond);
    ASSERT_THAT(assembly.seen, SizeIs(2));
    EXPECT_THAT(assembly.seen[1].linked, ElementsAre(Pair("engine.step", Pair(2, 1)), Pair("llama.copy", Pair(2, 1)),
                                                     Pair("llama.gpu", Pair(2, 2))));
    EXPECT_THAT(assembly.seen[0].text, HasSubstr("2 × llama.gpu, in steps, total 1.00 ms"));
    EXPECT_THAT(assembly.seen[0].text, HasSubstr("engine.step, 0 prefill and 1 decode tokens"));
  }
}

TEST_F(StepsInTraces, WithLinksInsteadOfMembersShareWhatIsInsideThem) {
  const Entry step = linked_span(100, links_to({{trace_number(1), 1}}));
  add(inside_of(step, 101), step, request_of(1));
  wait(20 * kSecond);
  EXPECT_THAT(only().linked, UnorderedElementsAre(Pair("engine.step", Pair(1, 1)), Pair("llama.gpu", Pair(1, 1))));
}

TEST_F(StepsInTraces, CountsRequestsThatAreKnownFromThemOnly) {
  const std::string_view own_keys = members_for({7, 8}, true);
  add(step_of(100, own_keys, facts_of(2)), step_of(101, own_keys, facts_of(2)));
  add(step_of(102, members_for({1, 2}), facts_of(2)), request_of(1));
  std::string by_trace(members_for({9}));
  reinterpret_cast<nopspan_member*>(by_trace.data())->flags = NOPSPAN_MEMBER_OWN_KEY | NOPSPAN_MEMBER_TRACE_KEY;
  add(step_of(103, by_trace, facts_of(1)));
  wait(20 * kSecond);
  EXPECT_EQ(assembler.step_counts().members.held, 6U);
  assembler.finish();
  const StepCounts& counts = assembler.step_counts();
  EXPECT_EQ(counts.by_own_key, 2U);
  EXPECT_EQ(counts.not_ended, 1U);
  EXPECT_EQ(counts.by_trace_id, 1U);
  EXPECT_EQ(counts.members.unknown, 6U);
  EXPECT_EQ(counts.members.joined, 1U);
  EXPECT_THAT(seen, SizeIs(1));
}

TEST_F(StepsInTraces, MayNameTheTraceOfARequestWithoutASpanInTheirProcess) {
  nopspan_member member{};
  std::memcpy(&member.request, trace_number(1).bytes, sizeof(member.request));
  member.flags = NOPSPAN_MEMBER_OWN_KEY | NOPSPAN_MEMBER_TRACE_KEY;
  const std::string members(reinterpret_cast<const char*>(&member), sizeof(member));
  Entry step = step_of(100, members, facts_of(1));
  const ProcessPointer other = process_number(8);
  step.process = &other;
  add(step, request_of(1));
  assembler.finish();
  EXPECT_THAT(only().linked, ElementsAre(Pair("engine.step", Pair(0, 1))));
  EXPECT_EQ(assembler.step_counts().members.joined, 1U);
}

TEST_F(StepsInTraces, AreLateAfterTheirRequestWasDelivered) {
  add(step_of(100, members_for({1, 2}), facts_of(2)), request_of(1));
  wait(2 * kSecond);
  add(request_of(3));  // without a step so far
  wait(2 * kSecond);
  add(step_of(101, members_for({1, 3}), facts_of(2)));
  assembler.finish();
  EXPECT_EQ(assembler.step_counts().members.late, 2U);
  EXPECT_EQ(assembler.step_counts().not_ended, 1U) << "request 2 only";
}

TEST_F(StepsInTraces, CountsMembersThatDoNotArrive) {
  nopspan_step facts = facts_of(6);
  facts.dropped = 5;
  const std::string_view members = members_for({1, 2});
  add(part_of(99, members, 0));  // of a step that did not arrive
  add(step_of(100, members, facts));
  add(part_of(100, members, 4));  // a part before it was lost
  add(part_of(100, members, 2));  // not in order
  add(part_of(100, members, 5));  // more than the step has
  add(part_of(100, members, UINT64_MAX));
  Entry of_other = part_of(100, members, 4);
  const ProcessPointer other = process_number(8);
  of_other.process = &other;
  add(of_other);
  wait(5 * kSecond);
  const StepCounts& counts = assembler.step_counts();
  EXPECT_EQ(counts.members.all, 4U);
  EXPECT_EQ(counts.missing, 2U);
  EXPECT_EQ(counts.stray, 10U);
  EXPECT_EQ(counts.dropped, 5U);
}

TEST_F(StepsInTraces, CountOnceForARequestThatIsAMemberTwice) {
  encodes = true;
  add(step_of(100, members_for({1, 2, 1}), facts_of(3)));
  add(step_of(100, members_for({1, 2, 1}), facts_of(3)));  // the same step again
  add(request_of(1));
  assembler.finish();
  EXPECT_EQ(only().json["linked"][0]["count"], 1);
  EXPECT_EQ(only().json["linked"][0]["decode_tokens"], 2);
  EXPECT_EQ(assembler.counts().duplicates, 1U);
}

TEST_F(StepsInTraces, AreOfTheRequestsOfTheirProcessOnly) {
  Entry step = step_of(100, members_for({1}), facts_of(1));
  const ProcessPointer other = process_number(8);
  step.process = &other;
  add(step, request_of(1));
  assembler.finish();
  EXPECT_THAT(only().linked, IsEmpty());
}

// Another process knows the trace id of a request, and uses it for a step.
TEST_F(StepsInTraces, TakeNothingFromTheRequestsOfOtherProcesses) {
  for (const int arrives : {0, 1, 2, 3}) {
    Assembly assembly;
    const ProcessPointer hostile = process_number(66);
    Entry step = of_process(hostile, in_trace(1, step_of(66, members_for({9}), facts_of(1))));
    const std::vector<Entry> request = {span_of(3, 2), event_of(2), span_of(2, 1), span_of(1, 0, "request")};
    for (int i = 0; i < 4; ++i) {
      if (i == arrives) assembly.add(step);
      assembly.add(request[static_cast<std::size_t>(i)]);
      if (i == arrives) assembly.add(of_process(hostile, inside_of(step, 67, "hostile.gpu")));
    }
    assembly.wait(20 * kSecond);
    EXPECT_THAT(assembly.only().parents, testing::IsSupersetOf({Pair(1, 0), Pair(2, 1), Pair(3, 2)})) << arrives;
    EXPECT_THAT(assembly.only().events, ElementsAre(Pair("said", 2)));
    EXPECT_EQ(assembly.only().end, TraceEnd::finished);
  }
}

// An engine may use several processes for a step. What they did arrives in any order.
TEST_F(StepsInTraces, ShareWhatOtherProcessesDidForThem) {
  std::vector<int> order = {0, 1, 2, 3, 4};
  do {
    Assembly assembly;
    const ProcessPointer worker = process_number(8);
    const Entry step = step_of(100, members_for({1}), facts_of(1));
    std::vector<Entry> entries = {step, inside_of(step, 101, "work"), inside_of(inside_of(step, 101), 102),
                                  inside_of(inside_of(step, 101), 103), event_of(102)};
    entries[1].flags = NOPSPAN_FLAG_REMOTE_PARENT;
    entries[4].trace_id = step.trace_id;
    for (std::size_t i = 1; i < entries.size(); ++i) entries[i].process = &worker;
    for (const int i : order) assembly.add(entries[static_cast<std::size_t>(i)]);
    assembly.add(request_of(1));
    assembly.wait(20 * kSecond);
    assembly.assembler.finish();
    ASSERT_THAT(assembly.seen, SizeIs(1)) << testing::PrintToString(order);
    EXPECT_THAT(assembly.seen[0].linked,
                ElementsAre(Pair("engine.step", Pair(1, 1)), Pair("llama.gpu", Pair(1, 2)), Pair("work", Pair(1, 1))));
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_F(StepsInTraces, InsideATraceAreInItAndInTheRequestsOfTheirMembers) {
  encodes = true;
  Entry step = in_trace(9, step_of(101, members_for({1}), facts_of(1)));
  step.parent_id = 100;
  add(inside_of(step, 102), step, in_trace(9, span_of(100, 0, "engine.loop")), request_of(1));
  wait(2 * kSecond);
  ASSERT_THAT(seen, SizeIs(2));
  EXPECT_THAT(seen[0].parents, SizeIs(3));
  EXPECT_EQ(seen[0].json["spans"][1]["step"]["number"], 70);
  EXPECT_THAT(seen[1].linked, ElementsAre(Pair("engine.step", Pair(1, 1))));
}

TEST_F(StepsInTraces, MarkTheRequestsOfTheirMembers) {
  Assembly assembly({}, [](const Entry& entry) { return entry.failed() ? 2U : 1U; });
  Entry failed = step_of(100, members_for({1}), facts_of(1));
  failed.status = kError;
  assembly.add(failed, request_of(1));
  assembly.assembler.finish();
  EXPECT_EQ(assembly.only().marks, 3U);
}

TEST_F(StepsInTraces, AreBounded) {
  Assembly assembly({.bytes = 1U << 20U, .linked_kept = 100});
  std::mt19937_64 random(3);  // NOLINT: the same in every run
  for (std::uint64_t id = 100; id < 130; ++id) {
    std::vector<std::uint64_t> requests(512);
    for (std::uint64_t& request : requests) request = random();
    const Entry step = step_of(id, members_for(requests, id % 2 == 0), facts_of(512));
    assembly.add(step);
    for (std::uint64_t inside = 0; inside < id % 100; ++inside) assembly.add(inside_of(step, 1000 + inside));
    if (id % 10 == 0) assembly.wait(100 * kMillisecond);
    ASSERT_LE(assembly.assembler.bytes(), (1U << 20U) + 100'000U);
    ASSERT_TRUE(assembly.adds_up());
  }
  assembly.assembler.finish();
  EXPECT_EQ(assembly.assembler.step_counts().members.held, 0U);
  EXPECT_GT(assembly.assembler.step_counts().by_own_key, 1000U);
}

// What the steps of a process claim to have is not believed.
TEST_F(StepsInTraces, WithPartsWithoutEndAreBounded) {
  Assembly assembly({.bytes = 16U << 20U});
  const std::string_view members = members_for(std::vector<std::uint64_t>(512, 1));
  assembly.add(span_of(2, 3));  // of a request that has not ended
  assembly.add(step_of(100, "", facts_of(~0U)));
  for (std::uint64_t part = 0; part < 2000; ++part) {
    assembly.add(part_of(100, members, 512 * part));
    ASSERT_LE(assembly.assembler.bytes(), 4U << 20U);
  }
  EXPECT_EQ(assembly.assembler.counts().evicted, 0U);
  const Entry step = step_of(100, "", facts_of(~0U));
  assembly.add(inside_of(step, 101));
  const StepCounts& counts = assembly.assembler.step_counts();
  EXPECT_EQ(counts.members.all, 1'024'000U);
  EXPECT_EQ(counts.inside.all, 1'024'000U);
  EXPECT_EQ(counts.inside.held, 65'536U) << "what was inside is shared by no more";
  assembly.add(part_of(100, members, 1'024'000));
  EXPECT_EQ(counts.inside.over_limit, 1'024'512U - 65'536U);
}

TEST_F(StepsInTraces, OfRequestsThatGrowAreBounded) {
  Assembly assembly({.bytes = 1U << 20U});
  std::vector<std::uint64_t> requests(200);
  std::iota(requests.begin(), requests.end(), 1000);
  assembly.add(step_of(99, members_for({1}), facts_of(1)));
  const ProcessPointer hostile = process_number(66);
  for (std::uint64_t id = 100; id < 500; ++id) {
    const std::string name = "step " + std::to_string(id % 20);
    Entry step = of_process(hostile, step_of(id, members_for(requests), facts_of(200)));
    step.name = name;
    step.duration_ns = std::uint64_t{1} << (id % 64);  // each power of two has memory of its own
    assembly.add(step);
    ASSERT_LE(assembly.assembler.bytes(), (1U << 20U) / 2 + 100'000U);
    ASSERT_TRUE(assembly.adds_up());
  }
  assembly.add(request_of(1));
  assembly.assembler.finish();
  EXPECT_THAT(assembly.only().linked, ElementsAre(Pair("engine.step", Pair(1, 1)))) << "the other process makes room";
}

// Members name spans or traces.
TEST_F(StepsInTraces, OfAProcessWithManyRequestsDoNotDisplaceThoseOfOthers) {
  for (const bool have_trace_keys : {false, true}) {
    Assembly assembly({.bytes = 1U << 20U});
    std::vector<nopspan_member> members(512);
    const auto bytes_of = [&](std::size_t count) {
      return std::string(reinterpret_cast<const char*>(members.data()), count * sizeof(nopspan_member));
    };
    for (nopspan_member& member : members) {
      member.decode_tokens = 1;
      member.flags = have_trace_keys ? NOPSPAN_MEMBER_OWN_KEY | NOPSPAN_MEMBER_TRACE_KEY : 0;
    }
    members[0].request = 1;
    if (have_trace_keys) std::memcpy(&members[0].request, trace_number(1).bytes, sizeof(members[0].request));
    const std::string honest = bytes_of(1);
    assembly.add(step_of(100, honest, facts_of(1)));
    const ProcessPointer hostile = process_number(66);
    for (std::uint64_t id = 200; id < 300; ++id) {
      for (std::size_t i = 0; i < members.size(); ++i) members[i].request = id * 1000 + i;
      const std::string theirs = bytes_of(members.size());
      assembly.add(of_process(hostile, step_of(id, theirs, facts_of(512))));
    }
    assembly.add(request_of(1));
    assembly.assembler.finish();
    EXPECT_THAT(assembly.only().linked, ElementsAre(Pair("engine.step", Pair(have_trace_keys ? 0 : 1, 1))));
  }
}

TEST_F(StepsInTraces, WithNamesForWhichThereIsNoRoomAreCounted) {
  for (std::uint64_t id = 1000; id < 10'000; ++id) {
    const std::string name = "hostile " + std::to_string(id);
    Entry step = step_of(id, "", facts_of(1));
    step.name = name;
    add(step, part_of(id, members_for({1}), 0));
  }
  const StepCounts& counts = assembler.step_counts();
  EXPECT_EQ(counts.members.all, 9000U);
  EXPECT_GT(counts.members.over_limit, 800U);
  add(step_of(100, members_for({1, 2}), facts_of(2)), request_of(2));
  assembler.finish();
  EXPECT_THAT(seen.back().linked, ElementsAre(Pair("engine.step", Pair(2, 1)))) << "its name is known before";
}

TEST_F(StepsInTraces, WithoutATraceTakeNoMoreMemoryThanOthers) {
  TraceLimits limits;
  limits.bytes = 1U << 16U;
  Assembly assembly(limits);
  for (std::uint64_t id = 100; id < 1100; ++id) {
    Entry step = step_of(id, members_for(std::vector<std::uint64_t>(20, 1)), facts_of(20));
    step.trace_id = {};
    step.parent_id = 7;
    assembly.add(step);
    ASSERT_LT(assembly.assembler.bytes(), 2 * limits.bytes);
  }
}

// The spans of a worker wait for the span above them. When it arrives, they may need more memory than the steps have.
TEST_F(StepsInTraces, ShareAllSpansThatWaitedUnlessTheStepWasForgottenBefore) {
  TraceLimits limits;
  limits.bytes = 1U << 16U;
  const ProcessPointer worker = process_number(8);
  const std::string_view members = members_for(std::vector<std::uint64_t>(20, 1));
  bool is_forgotten = false;
  for (std::uint64_t others = 0; !is_forgotten; ++others) {
    Assembly assembly(limits);
    const Entry step = step_of(100, members, facts_of(20));
    Entry work = inside_of(step, 101, "work");
    work.flags = NOPSPAN_FLAG_REMOTE_PARENT;
    work.process = &worker;
    assembly.add(step);
    for (std::uint64_t id = 102; id < 152; ++id) {
      assembly.add(of_process(worker, inside_of(work, id)));
    }
    for (std::uint64_t id = 200; id < 200 + others; ++id) assembly.add(step_of(id, members, facts_of(20)));
    assembly.add(work);
    ASSERT_TRUE(assembly.adds_up());
    const StepCounts& counts = assembly.assembler.step_counts();
    is_forgotten = counts.inside.all == 0;
    ASSERT_EQ(counts.inside.all, is_forgotten ? 0U : 51U * 20U) << others << " other steps";
    assembly.assembler.finish();
    ASSERT_EQ(counts.inside.held, 0U);
  }
}

// Whatever the order in which the entries of several threads arrive, each member is counted exactly once.
TEST_F(StepsInTraces, AddUpWhateverTheOrderAndTheLoss) {
  for (unsigned seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const auto one_in = [&](unsigned n) { return random() % n == 0; };
    Assembly assembly;
    std::vector<std::vector<Entry>> threads(3);
    std::deque<std::string> members;
    std::deque<nopspan_step> facts;
    for (std::uint8_t number = 1; number <= 20; ++number) threads[0].push_back(request_of(number));
    for (std::uint64_t id = 100; id < 140; ++id) {
      std::vector<std::uint64_t> requests;
      for (std::uint64_t request = 1; request <= 20; ++request) {
        if (one_in(2)) requests.push_back(request);
      }
      const auto half = requests.begin() + static_cast<std::ptrdiff_t>(requests.size() / 2);
      const std::string& first = members.emplace_back(members_for({requests.begin(), half}));
      const std::string& second = members.emplace_back(members_for({half, requests.end()}));
      const Entry step = step_of(id, first, facts.emplace_back(facts_of(static_cast<unsigned>(requests.size()))));
      if (!one_in(8)) threads[1].push_back(step);
      if (!one_in(8)) threads[1].push_back(part_of(id, second, static_cast<std::uint64_t>(half - requests.begin())));
      if (!one_in(8)) threads[2].push_back(inside_of(step, id + 100));
    }
    std::vector<std::size_t> next(threads.size());
    for (std::size_t left = threads[0].size() + threads[1].size() + threads[2].size(); left > 0; --left) {
      std::size_t thread = random() % 3;
      while (next[thread] == threads[thread].size()) thread = (thread + 1) % 3;
      assembly.add(threads[thread][next[thread]++]);
      if (one_in(6)) assembly.wait(50 * kMillisecond);
      ASSERT_TRUE(assembly.adds_up());
    }
    assembly.wait(20 * kSecond);
    assembly.assembler.finish();
    std::uint64_t announced = 0;
    for (const Entry& entry : threads[1]) announced += entry.step == nullptr ? 0 : entry.step->members;
    const StepCounts& counts = assembly.assembler.step_counts();
    EXPECT_EQ(counts.members.all + counts.missing, announced);
    EXPECT_THAT(assembly.seen, SizeIs(testing::Ge(20U)));
    for (const Seen& seen : assembly.seen) {
      const bool is_request = seen.id.bytes[0] != 0;
      EXPECT_EQ(seen.end, is_request ? TraceEnd::finished : TraceEnd::unfinished) << "what was inside a lost step";
    }
  }
}

}  // namespace
}  // namespace nopspan::collector
