// SPDX-License-Identifier: Apache-2.0
// Links: one span that serves many requests.
#include "raised_gate.h"
#include "recorded.h"

#include <nopspan/engine.h>
#include <nopspan/span.h>

#include <nopspan/probes.h>

#include <set>
#include <string>
#include <thread>
#include <vector>

namespace {

std::string trace_id(const Event::Link& link) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : link.trace_id) {
    text += kDigits[byte >> 4U];
    text += kDigits[byte & 15U];
  }
  return text;
}

TEST(Link, NamesTraceAndSpan) {
  const SpanRecorder recorder("work");
  const AsyncSpan other{"other"};
  const Context request = Context::make();
  Span{"work", [&](Fields& f) { f.link(other.context()); }}.link(request);
  ASSERT_EQ(recorder.start()->link_count(), 1U);
  const nopspan::OwnedEvent stop = recorder.stop();
  ASSERT_EQ(stop->link_count(), 2U);
  EXPECT_EQ(trace_id(stop->links()[0]), other.context().trace_id().view());
  EXPECT_EQ(stop->links()[0].span_id, id_of(other));
  EXPECT_EQ(trace_id(stop->links()[1]), request.trace_id().view());
  EXPECT_EQ(stop->links()[1].span_id, 0U);
}

TEST(Link, ToAnEmptyContextIsNone) {
  const SpanRecorder recorder("work");
  Span{"work"}.link(Context());
  EXPECT_EQ(recorder.stop()->link_count(), 0U);
}

TEST(Link, IsBoundedTo128AndCountedBeyond) {
  const SpanRecorder recorder("work");
  const Counted dropped(&nopspan::Stats::links_dropped);
  const std::vector<Context> requests(130, Context::make());
  {
    Span span{"work"};
    for (std::size_t i = 0; i < 128; ++i) span.link(requests[i]);
    EXPECT_EQ(dropped.times(), 0U);
    span.link(requests[128]);
    span.link(requests[129]);
  }
  { const Span span{"work"}; }
  EXPECT_EQ(dropped.times(), 2U);
  const auto stops = events_of(recorder, 2, "work.stop");
  EXPECT_EQ(stops[0]->link_count(), 128U);
  EXPECT_NE(stops[0]->flags() & NOPSPAN_FLAG_LINKS_DROPPED, 0U);
  EXPECT_EQ(stops[1]->link_count(), 0U);  // the next span reuses the memory
  EXPECT_EQ(stops[1]->flags() & NOPSPAN_FLAG_LINKS_DROPPED, 0U);
}

TEST(Link, ConnectsOneEngineStepToTheEightRequestsItServes) {
  const SpanRecorder requests("engine.request");
  const SpanRecorder steps("engine.step");
  std::vector<AsyncSpan> slots;
  std::vector<Context> contexts;
  std::thread([&] {  // a request arrives
    for (int i = 0; i < 8; ++i) {
      slots.emplace_back(nopspan::engine::request, Context::make(), nopspan::SpanOptions{nopspan::SpanKind::server},
                         [](auto& m) { m.model("small"); });
      contexts.push_back(slots.back().context());
    }
  })
      .join();
  {  // the engine's loop
    Span step{nopspan::engine::step};
    step.measure("batch_size", slots.size());
    for (const AsyncSpan& slot : slots) step.link(slot.context());
  }
  std::thread([&] {  // the last byte is sent
    for (AsyncSpan& slot : slots) {
      slot.with<nopspan::engine::RequestFields>([](auto& m) { m.queue_ns(5).output_tokens(3); });
      slot.end();
    }
  })
      .join();

  ASSERT_EQ(requests.events("engine.request.start").size(), 8U);
  const auto ends = events_of(requests, 8, "engine.request.stop");
  const nopspan::OwnedEvent step = steps.stop();
  EXPECT_EQ(step->link_count(), 0U);
  ASSERT_EQ(step->member_count(), 8U);  // the links of a step
  EXPECT_THAT(step, HasMeasurement("batch_size", 8));
  std::set<std::string_view> ids;
  for (std::size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(ends[i]->span_id(), contexts[i].span_id());
    EXPECT_EQ(ends[i]->request_id(), contexts[i].request_id().view());
    EXPECT_THAT(ends[i], AllOf(HasStatus(Status::ok), HasMeasurement("queue_ns", 5)));
    EXPECT_EQ(step->members()[i].request, contexts[i].span_id());
    EXPECT_NE(step->request_id(), ends[i]->request_id());
    ids.insert(ends[i]->request_id());
  }
  EXPECT_EQ(ids.size(), 8U);
}

TEST(Link, OfAStepToASpanThatIsNotRecordedIsDroppedAndCounted) {
  const AsyncSpan unrecorded{nopspan::engine::request};
  const SpanRecorder steps("engine.step");
  const Counted dropped(&nopspan::Stats::links_dropped);
  Span{nopspan::engine::step, [&](auto& m) { m.link(unrecorded); }}.link(unrecorded);
  EXPECT_EQ(dropped.times(), 2U);
  EXPECT_EQ(steps.stop()->member_count(), 0U);  // not the step itself
}

TEST(Step, CallsNoMallocForItsMembers) {
  const RaisedGate tracer(RaisedGate::batch);
  const std::vector<nopspan::engine::Member> members(5000);
  { const Span first{nopspan::engine::step}; }
  const std::size_t before = allocations();
  short_span(nopspan::engine::step, [&](auto& m) { m.members(members.data(), members.size()).member(members[0]); });
  EXPECT_EQ(allocations(), before);
}

}  // namespace
