// SPDX-License-Identifier: Apache-2.0
// OpenTelemetry's rule for samples, with the figures of its specification, and what it writes into a tracestate.
#include "model/sampling.h"

#include "model/filter.h"

#include <nopspan/probes.h>

#include <gmock/gmock.h>

namespace nopspan::collector {
namespace {

constexpr char kTraceId[] = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr std::uint64_t kRandomness = 0xce929d0e0e4736;

Entry span_with(std::string_view trace_id, std::string_view tracestate = "") {
  Entry span;
  span.trace_id = trace_id_of(trace_id);
  span.span_id = 1;
  span.flags = NOPSPAN_FLAG_SAMPLED;
  span.tracestate = tracestate;
  return span;
}

// A span of a request whose id the application supplied.
Entry span_of_request(std::string_view id, std::string_view tracestate = "") {
  Entry span = span_with(id, tracestate);
  span.flags |= NOPSPAN_FLAG_FOREIGN_ID;
  span.foreign_id = id;
  return span;
}

// The tracestate that a sample of one in N leaves.
std::string marked(Entry entry, std::uint32_t one_in, bool only_sampled = false) {
  SampleMark mark(one_in, only_sampled);
  return std::string(mark.marked(entry).tracestate);
}

TEST(Sample, HasTheThresholdsOfTheSpecification) {
  // Its table of 1-in-N probabilities, with the recommended precision.
  for (const auto& [one_in, th] :
       {std::pair(2U, "8"), std::pair(3U, "aaab"), std::pair(4U, "c"), std::pair(5U, "cccd"), std::pair(8U, "e"),
        std::pair(10U, "e666"), std::pair(16U, "f"), std::pair(100U, "fd70a"), std::pair(1000U, "ffbe77"),
        std::pair(10000U, "fff9724"), std::pair(100000U, "ffff583a"), std::pair(1000000U, "ffffef39")}) {
    EXPECT_EQ(with_otel_state("", {rejection_threshold(one_in), {}}), std::string("ot=th:") + th) << one_in;
  }
  EXPECT_EQ(rejection_threshold(0), 0U);
  EXPECT_EQ(rejection_threshold(1), 0U);
  EXPECT_EQ(rejection_threshold(UINT32_MAX), 0xffffffff000000U);
  EXPECT_EQ(with_otel_state("", {0, {}}), "ot=th:0");
}

TEST(Sample, ComparesTheLastSevenBytesOfTheTraceId) {
  EXPECT_EQ(randomness_of(trace_id_of(kTraceId)), kRandomness);
  for (const auto& [trace_id, is_in] :
       {std::pair("ffffffffffffffffff7fffffffffffff", false), std::pair("00000000000000000080000000000000", true)}) {
    EXPECT_EQ(is_sampled(span_with(trace_id), 2), is_in);
    EXPECT_TRUE(is_sampled(span_with(trace_id), 1));
  }
  EXPECT_TRUE(is_sampled(span_with(kTraceId), 5));
  EXPECT_FALSE(is_sampled(span_with(kTraceId), 6));
}

TEST(Sample, TakesTheRandomnessOfTheTracestate) {
  EXPECT_TRUE(is_sampled(span_with(kTraceId, "a=1, ot=th:0;rv:ffffffffffffff"), 1'000'000));
  EXPECT_FALSE(is_sampled(span_with(kTraceId, "ot=rv:00000000000000"), 2));
  for (const char* malformed : {"ot=rv:ffffffffffffff0", "ot=rv:ffff", "ot=rv:fffffffffffffg", "xt=rv:ffffffffffffff",
                                "ot=a:1,ot=rv:ffffffffffffff", "ot=RV:ffffffffffffff", "ot=rv=ffffffffffffff"}) {
    EXPECT_EQ(randomness_of(span_with(kTraceId, malformed)), kRandomness) << malformed;
  }
}

// The last bytes of their hashes are nearly equal.
TEST(Sample, TakesAboutOneInNOfAnApplicationsIds) {
  for (const char* prefix : {"", "order-", "2026-11-25/"}) {
    for (const std::uint32_t one_in : {2U, 10U, 100U}) {
      std::uint32_t taken = 0;
      constexpr std::uint32_t kRequests = 100'000;
      for (std::uint32_t i = 0; i < kRequests; ++i) {
        taken += is_sampled(span_of_request(prefix + std::to_string(i)), one_in) ? 1 : 0;
      }
      EXPECT_NEAR(taken, 1.0 * kRequests / one_in, 0.1 * kRequests / one_in) << prefix << one_in;
    }
  }
}

TEST(Sample, TakesTheSameRequestsWhereOnlyTheTraceparentArrives) {
  for (const char* id :
       {"order-4711", kTraceId, "4BF92F3577B34DA6A3CE929D0E0E4736", "32 characters, but not of a hash"}) {
    const Entry here = span_of_request(id);
    Entry there = here;
    there.flags &= ~NOPSPAN_FLAG_FOREIGN_ID;
    there.foreign_id = {};
    const std::string tracestate = marked(here, 1);  // Context::tracestate() writes the same
    there.tracestate = tracestate;
    EXPECT_EQ(randomness_of(here), randomness_of(there)) << id;
    EXPECT_EQ(tracestate.empty(), trace_id_of(id) == trace_id_of(kTraceId)) << id;
    for (const std::uint32_t one_in : {2U, 3U, 10U}) {
      EXPECT_TRUE(may_be_sampled(here.trace_id, one_in) || !is_sampled(here, one_in)) << "what links to " << id;
    }
  }
}

TEST(Sample, TakesWhatIsInNoRequest) {
  EXPECT_TRUE(is_sampled(Entry(), 1000));
  EXPECT_TRUE(may_be_sampled(TraceId(), 1000));
  EXPECT_TRUE(is_sampled_by_caller(Entry()));
}

TEST(Sample, FollowsTheSampledFlag) {
  const Filter filter{.sampled_only = true};
  Entry span = span_with(kTraceId);
  EXPECT_TRUE(filter.may_want(span));
  span.flags = NOPSPAN_FLAG_REMOTE_PARENT;
  EXPECT_FALSE(filter.may_want(span));
  EXPECT_FALSE(filter.may_want_request_of(span));
  EXPECT_TRUE(filter.may_want(span.trace_id)) << "a link does not tell";
}

TEST(SampleMark, WritesTheThresholdIntoTheTracestate) {
  EXPECT_EQ(marked(span_with(kTraceId), 1), "");
  EXPECT_EQ(marked(span_with(kTraceId, "a=1"), 1), "a=1");
  EXPECT_EQ(marked(span_with(kTraceId), 10), "ot=th:e666");
  EXPECT_EQ(marked(span_with(kTraceId, "a=1,ot=x:y;rv:ffffffffffffff , b=2"), 10),
            "ot=rv:ffffffffffffff;th:e666;x:y,a=1,b=2");
  EXPECT_EQ(marked(span_of_request("order-4711"), 2).substr(0, 6), "ot=rv:") << "Collectors see only the trace id";
  Entry event = span_with(kTraceId);
  event.kind = Kind::event;
  EXPECT_EQ(marked(event, 10), "");
}

TEST(SampleMark, KeepsAMalformedTracestateHarmless) {
  EXPECT_EQ(marked(span_with(kTraceId, ",,ot,=,ot=;;th:;:;A:b;c:d e;th:123456789012345,,x"), 2), "ot=th:8");
  std::string many = "m0=1";
  for (int i = 1; i < 40; ++i) many += ",m" + std::to_string(i) + "=1";
  const std::string result = marked(span_with(kTraceId, many), 2);
  EXPECT_TRUE(result.starts_with("ot=th:8,m0=1,") && result.ends_with(",m30=1")) << result;
  const std::string full = "ot=x:" + std::string(254, 'y');
  EXPECT_EQ(marked(span_with(kTraceId, full), 2), full);
}

// Without --sampled-only the spans are kept whatever the caller decided, so the caller's threshold is not theirs.
TEST(SampleMark, ReplacesTheThresholdOfTheCaller) {
  EXPECT_EQ(marked(span_with(kTraceId, "ot=th:c"), 2), "ot=th:8");
  EXPECT_EQ(marked(span_with(kTraceId, "ot=th:c"), 1), "ot=th:0");
  EXPECT_EQ(marked(span_with(kTraceId, "ot=th:0"), 1), "ot=th:0");
}

TEST(SampleMark, KeepsTheLargerThresholdIfItFollowsTheCaller) {
  EXPECT_EQ(marked(span_with(kTraceId, "ot=th:c"), 2, true), "ot=th:c");
  EXPECT_EQ(marked(span_with(kTraceId, "ot=th:c"), 5, true), "ot=th:cccd");
  EXPECT_EQ(marked(span_with(kTraceId, "ot=th:c"), 1, true), "ot=th:c");
  EXPECT_EQ(marked(span_with(kTraceId, "ot=th:f"), 2, true), "ot=th:8") << "it cannot have sampled this trace";
  EXPECT_EQ(marked(span_with(kTraceId), 2, true), "ot=th:8");
}

TEST(SampleMark, KeepsTheLargerThresholdOfTwoSamples) {
  SampleMark recording(4, false), other(2, false), smaller(5, false);
  Entry recorded = recording.marked(span_with(kTraceId, "ot=th:f,a=1"));
  const std::string tracestate(recorded.tracestate);
  recorded.tracestate = tracestate;
  EXPECT_EQ(tracestate, "ot=th:c,a=1");
  EXPECT_EQ(other.marked(recorded).tracestate, "ot=th:c,a=1");
  EXPECT_EQ(smaller.marked(recorded).tracestate, "ot=th:cccd,a=1");
  EXPECT_EQ(marked(recorded, 1), "ot=th:c,a=1");
}

// It is kept if any of its requests is.
TEST(SampleMark, RemovesTheThresholdOfALinkedSpan) {
  const nopspan_link link{};
  Entry linked = span_with(kTraceId, "ot=th:4,a=1");
  linked.links = {reinterpret_cast<const char*>(&link), sizeof(link)};
  SampleMark mark(10, false), later(2, false);
  Entry recorded = mark.marked(linked);
  EXPECT_EQ(recorded.tracestate, "a=1");
  recorded.tracestate = "a=1";
  EXPECT_EQ(later.marked(recorded).tracestate, "a=1");
  recorded.links = {};
  EXPECT_EQ(later.marked(recorded).tracestate, "a=1") << "the recording knows";
}

}  // namespace
}  // namespace nopspan::collector
