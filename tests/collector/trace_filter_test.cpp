// SPDX-License-Identifier: Apache-2.0
// Filters of whole traces.
#include "trace/trace_stage.h"

#include "assembled_traces.h"
#include "kept_entry.h"
#include "model/entry_json.h"

namespace nopspan::collector {
namespace {

bool wants(const Filter& wanted, const std::vector<Entry>& spans) {
  const TraceFilter filter(wanted, {.with_peers = true});
  bool wanted_trace = false;
  TraceAssembler assembler(
      {}, [&](const Entry& entry) { return filter.mark(entry); },
      [&](const AssembledTrace& trace) { return wanted_trace = filter.wants(trace); },
      [&](const TraceId& id) { return filter.may_want(id); });
  for (const Entry& entry : spans) {
    if (filter.may_want(entry)) assembler.add(entry);
  }
  assembler.finish();
  return wanted_trace;
}

class TraceFilterTest : public testing::Test {
 protected:
  TraceFilterTest() {
    other_ = process_number(8, "other");
    root_ = span_of(1, 0, "root");
    chat_ = span_of(2, 1, "llm.chat");
    chat_.model = "tiny-1";
    chat_.duration_ns = 2 * kSecond;  // longer than its parent
    failed_ = span_of(3, 1, "llm.tool");
    failed_.status = kError;
    failed_.process = &other_;
  }
  [[nodiscard]] bool wanted_by(const Filter& filter) const { return wants(filter, {failed_, chat_, root_}); }

  ProcessPointer other_;
  Entry root_, chat_, failed_;
};

TEST_F(TraceFilterTest, WantsEverythingWhenEmpty) { EXPECT_TRUE(wanted_by({})); }

TEST_F(TraceFilterTest, KnowsBeforeATraceEndsThatItWantsAll) {
  for (const Filter& filter : {Filter{}, Filter{.request = "r"}, Filter{.pids = {7}}, Filter{.sample_one_in = 2},
                               Filter{.sampled_only = true}}) {
    EXPECT_TRUE(TraceFilter(filter, {}).wants_all());
  }
  EXPECT_FALSE(TraceFilter({.pids = {7}}, {.with_peers = true}).wants_all());
  EXPECT_FALSE(TraceFilter({.where = {{"route", "/"}}}, {}).wants_all());
  EXPECT_FALSE(TraceFilter({.slower_than_ns = 1}, {}).wants_all());
}

TEST_F(TraceFilterTest, TakesNoStepForAMatchOfARequest) {
  struct : TraceSink {
    bool on_trace(const AssembledTrace& /*trace*/) override { return true; }
  } sink;
  nopspan_step facts{};
  facts.members = 1;
  const Entry step = step_of(100, members_for({1}), facts);
  const auto has_matched = [&](const Filter& filter, const Entry& entry) {
    TraceStage stage(filter, {}, sink);
    stage.on_entry(entry);
    return stage.has_matched();
  };
  EXPECT_FALSE(has_matched({.request = "zzz"}, step));
  EXPECT_TRUE(has_matched({.pids = {7}}, step));
  const Entry own = in_trace(1, span_of(2, 1));
  EXPECT_TRUE(has_matched({.request = "AQAAAAAAAAAAAAAAAAAAAQ"}, own)) << "the request may end later";
}

TEST_F(TraceFilterTest, WantsATraceThatHasSuchASpan) {
  EXPECT_TRUE(wanted_by({.name = "llm.chat"}));
  EXPECT_FALSE(wanted_by({.name = "llm"}));
  EXPECT_TRUE(wanted_by({.model = "tiny-1"}));
  EXPECT_FALSE(wanted_by({.model = "tiny-2"}));
}

TEST_F(TraceFilterTest, DoesNotTakeAnEventForASpan) {
  EXPECT_FALSE(wants({.name = "said"}, {span_of(1, 0), event_of(1, "said")}));
}

TEST_F(TraceFilterTest, WantsATraceWithASpanOfTheProcess) {
  EXPECT_TRUE(wanted_by({.pids = {8}}));
  EXPECT_TRUE(wanted_by({.pids = {7, 99}}));
  EXPECT_FALSE(wanted_by({.pids = {99}}));
}

TEST_F(TraceFilterTest, WantsATraceWhoseRootSpanTookThatLong) {
  EXPECT_TRUE(wanted_by({.slower_than_ns = kSecond}));
  EXPECT_FALSE(wanted_by({.slower_than_ns = kSecond + 1})) << "its child span did, but it did not";
}

TEST_F(TraceFilterTest, WantsATraceInWhichSomethingFailed) {
  EXPECT_TRUE(wanted_by({.errors = true}));
  EXPECT_FALSE(wants({.errors = true}, {root_, chat_}));
  Entry cancelled = failed_;
  cancelled.status = kCancelled;
  EXPECT_FALSE(wants({.errors = true}, {root_, cancelled}));
}

TEST_F(TraceFilterTest, WantsATraceWithTheseLabelsAttributesAndErrors) {
  const std::string attributes = text_attribute("route", "/chat") + integer_attribute("http.status_code", 503);
  chat_.tenant = "acme";
  chat_.attributes = attributes;
  failed_.error_type = "timeout";
  EXPECT_TRUE(wanted_by({.tenant = "acme"}));
  EXPECT_FALSE(wanted_by({.tenant = "globex"}));
  EXPECT_TRUE(wanted_by({.error_type = "timeout"}));
  EXPECT_FALSE(wanted_by({.error_type = "rate_limit"}));
  EXPECT_TRUE(wanted_by({.where = {{"route", "/chat"}, {"http.status_code", "503"}}}));
  EXPECT_FALSE(wanted_by({.where = {{"route", "/chat"}, {"http.status_code", "200"}}}));
  chat_.error_type = "rate_limit";  // but it did not fail
  EXPECT_FALSE(wanted_by({.error_type = "rate_limit"}));
}

TEST_F(TraceFilterTest, WantsWhatSatisfiesAll) {
  EXPECT_TRUE(wanted_by({.name = "llm.chat", .model = "tiny-1", .pids = {8}, .slower_than_ns = 1, .errors = true}));
  EXPECT_FALSE(wanted_by({.name = "llm.chat", .model = "tiny-2", .pids = {8}, .slower_than_ns = 1, .errors = true}));
}

TEST_F(TraceFilterTest, TakesASampleByTheTraceAlone) {
  int taken = 0;
  for (std::uint8_t number = 0; number < 200; ++number) {
    Entry root = root_;
    Entry child = failed_;
    root.trace_id.bytes[9] = child.trace_id.bytes[9] = number;  // the first of its random bytes
    const TraceFilter filter({.sample_one_in = 4}, {});
    EXPECT_EQ(filter.may_want(root), filter.may_want(child));
    taken += filter.may_want(root) ? 1 : 0;
  }
  EXPECT_EQ(taken, 200 - 192) << "those from 0xc0 on";
}

TEST_F(TraceFilterTest, WantsWhatTheRequestSharesWithOthers) {
  Entry step = linked_span(100, links_to({{trace_number(2), 1}, {trace_number(1), 1}}));
  const TraceFilter filter({.request = id_text(trace_number(1))}, {});
  EXPECT_TRUE(filter.may_want(step));
  EXPECT_TRUE(filter.may_want(trace_number(1)));
  EXPECT_FALSE(filter.may_want(trace_number(2)));
  step.parent_id = 7;
  EXPECT_FALSE(filter.may_want(step)) << "it is in a request of its own";
  step.parent_id = 0;
  EXPECT_FALSE(TraceFilter({.request = id_text(trace_number(3))}, {}).may_want(step));
}

TEST_F(TraceFilterTest, WantsATraceWithALinkedSpanThatSatisfiesIt) {
  Entry step = linked_span(100, links_to({{trace_number(1), 1}}));
  EXPECT_TRUE(wants({.name = "engine.step"}, {step, root_}));
  EXPECT_FALSE(wants({.errors = true}, {step, root_}));
  EXPECT_FALSE(wants({.slower_than_ns = 2 * kSecond}, {step, root_}));
  step.status = kError;
  step.duration_ns = 3 * kSecond;
  EXPECT_TRUE(wants({.errors = true}, {step, root_}));
  EXPECT_FALSE(wants({.slower_than_ns = 2 * kSecond}, {step, root_})) << "the request was not so slow";
}

TEST_F(TraceFilterTest, LetsTheSourceLeaveOutWholeTracesOnly) {
  const Filter all = {.request = "a",
                      .name = "b",
                      .model = "m",
                      .pids = {7},
                      .cgroup = "/c",
                      .slower_than_ns = 1,
                      .errors = true,
                      .error_type = "timeout",
                      .sample_one_in = 2,
                      .sampled_only = true};
  const TraceFilter filter(all, {.with_peers = true});
  EXPECT_EQ(filter.for_source().request, "a");
  EXPECT_EQ(filter.for_source().slower_than_ns, 1U);
  EXPECT_EQ(filter.for_source().sample_one_in, 2U);
  EXPECT_TRUE(filter.for_source().sampled_only);
  EXPECT_TRUE(filter.for_source().pids.empty()) << "the trace's spans in other processes are shown with it";
  EXPECT_TRUE(filter.for_source().cgroup.empty());
  EXPECT_TRUE(filter.for_source().name.empty());
  EXPECT_TRUE(filter.for_source().model.empty());
  EXPECT_FALSE(filter.for_source().wants_errors());
  const TraceFilter early(all, {.with_peers = true, .early = true});
  EXPECT_TRUE(early.for_source().pids.empty());
  EXPECT_EQ(early.for_source().name, "b");
  EXPECT_TRUE(early.for_source().errors);
}

TEST_F(TraceFilterTest, NarrowsTheSourceToTheProcesses) {
  const TraceFilter filter({.name = "b", .pids = {7}, .cgroup = "/c"}, {});
  EXPECT_EQ(filter.for_source().pids, std::vector<std::uint32_t>{7});
  EXPECT_EQ(filter.for_source().cgroup, "/c");
  EXPECT_TRUE(filter.for_source().name.empty());
}

TEST_F(TraceFilterTest, WantsTheLatePartOfWhatWasShown) {
  const TraceFilter filter({.name = "root"}, {});
  std::vector<bool> wanted;
  TraceAssembler assembler(
      {}, [&](const Entry& entry) { return filter.mark(entry); },
      [&](const AssembledTrace& trace) {
        wanted.push_back(filter.wants(trace));
        return wanted.back();
      });
  assembler.add(root_);
  assembler.finish();
  assembler.add(chat_);
  assembler.finish();
  EXPECT_EQ(wanted, (std::vector<bool>{true, true}));
}

}  // namespace
}  // namespace nopspan::collector
