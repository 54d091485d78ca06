// SPDX-License-Identifier: Apache-2.0
// The engine catalogue: values derived from a request's times, and the engine's gauges.
#include "fake_clock.h"
#include "fired.h"
#include "in_child.h"
#include "no_memory.h"
#include "raised_gate.h"
#include "recorded.h"
#include "sanitizers.h"

#include "state/catalogue.h"

#include <nopspan/engine.h>
#include <nopspan/probes.h>

#include <cmath>
#include <optional>

namespace {

namespace engine = nopspan::engine;
using engine::RequestFields;
using nopspan::StreamMeter;

Value all_attributes(const nopspan::OwnedEvent& event) { return event->attributes().copy(); }

bool has_measurement(const nopspan::OwnedEvent& event, const char* key) { return event->measurement(key).exists(); }

// The stop event of a request with this metadata.
template <class M>
nopspan::OwnedEvent stop_of(M&& metadata) {
  const SpanRecorder recorder("engine.request");
  AsyncSpan request{engine::request, Context()};
  request.with<RequestFields>(metadata);
  request.end();
  return recorder.stop();
}

TEST(EngineRequest, CarriesWhatItWasGiven) {
  const auto stop = stop_of([](auto& m) {
    m.engine("nopspan-ngram").model("small").tenant("a").input_tokens(10).output_tokens(5).cached_tokens(4);
    m.reasoning_tokens(1).finish_reason("stop").arrival_ns(7).queue_ns(1).prefill_ns(2).decode_ns(3).preemptions(0);
  });
  EXPECT_THAT(
      keys_of(stop->metadata()),
      ElementsAre("arrival_ns", "cached_tokens", "cancelled", "engine", "finish_reason", "input_tokens", "model",
                  "output_tokens", "parent_id", "reasoning_tokens", "request_id", "span_id", "tenant"));
  EXPECT_THAT(keys_of(stop->measurements()),
              ElementsAre("decode_ns", "duration", "monotonic_time", "preemptions", "prefill_ns", "queue_ns",
                          "time_per_output_token_ns", "tokens_per_second"));
}

TEST(EngineRequest, HasItsLatenciesInSeconds) {
  const SpanRecorder recorder("engine.request");
  const std::uint64_t start = monotonic_ns() - 1000 * kMillisecond;
  AsyncSpan request{engine::request, Context(), nopspan::SpanOptions(nopspan::SpanKind::unspecified, start),
                    [&](auto& m) { m.arrival_ns(start - 100'000'000).queue_ns(100'000'000); }};
  request.with<RequestFields>([](auto& m) { m.prefill_ns(250'000'000).decode_ns(750'000'000); });
  request.first_token();
  request.end();
  const auto stop = recorder.stop();
  const auto seconds = [&](const std::string& name) {
    return stop->attributes().find("gen_ai.latency." + name).as_double(-1);
  };
  EXPECT_DOUBLE_EQ(seconds("time_in_queue"), 0.1);
  EXPECT_DOUBLE_EQ(seconds("time_in_model_prefill"), 0.25);
  EXPECT_DOUBLE_EQ(seconds("time_in_model_decode"), 0.75);
  EXPECT_DOUBLE_EQ(seconds("time_in_model_inference"), 1.0);
  EXPECT_DOUBLE_EQ(seconds("time_to_first_token"), static_cast<double>(stop->measurement("ttft_ns").as_int()) / 1e9);
  EXPECT_DOUBLE_EQ(seconds("e2e"), static_cast<double>(stop->duration_ns() + 100'000'000) / 1e9);
  EXPECT_THAT(recorder.start(), LacksAttribute("gen_ai.latency.time_in_queue"));
}

TEST(EngineRequest, HasNoLatencyThatIsUnknownOrImpossible) {
  const auto keys_with = [](const nopspan::OwnedEvent& stop) {
    std::vector<std::string> found;
    for (const std::string& key : keys_of(stop->attributes())) {
      if (key.rfind("gen_ai.latency.", 0) == 0) found.push_back(key);
    }
    return found;
  };
  EXPECT_THAT(keys_with(stop_of([](auto&) {})), IsEmpty());
  EXPECT_THAT(keys_with(stop_of([](auto& m) { m.queue_ns(-1); })), IsEmpty());
  EXPECT_THAT(keys_with(stop_of([](auto& m) { m.queue_ns(1); })),
              ElementsAre("gen_ai.latency.e2e", "gen_ai.latency.time_in_queue"));
}

TEST(EngineRequest, DerivesItsRatesFromTheTokensAfterTheFirst) {
  const auto stop = stop_of([](auto& m) { m.arrival_ns(1).output_tokens(11).decode_ns(100 * kMillisecond); });
  EXPECT_THAT(stop, HasMeasurement("time_per_output_token_ns", 10 * kMillisecond));
  EXPECT_THAT(stop, HasMeasurement("tokens_per_second", 100.0));
}

TEST(EngineRequest, HasNoRateOfFewerThanTwoTokensOrOfNoTimeOrWhatIsUnknown) {
  for (const std::int64_t output : {0, 1}) {
    const auto stop = stop_of([&](auto& m) { m.output_tokens(output).decode_ns(5); });
    EXPECT_THAT(stop, AllOf(LacksMeasurement("time_per_output_token_ns"), LacksMeasurement("tokens_per_second")));
  }
  EXPECT_THAT(stop_of([](auto& m) { m.output_tokens(9).decode_ns(0); }),
              AllOf(HasMeasurement("time_per_output_token_ns", 0), LacksMeasurement("tokens_per_second")));
  EXPECT_THAT(stop_of([](auto& m) { m.output_tokens(9); }), LacksMeasurement("time_per_output_token_ns"));
  EXPECT_THAT(stop_of([](auto& m) { m.decode_ns(9); }), LacksMeasurement("time_per_output_token_ns"));
}

TEST(EngineRequest, KnowsATimeThatWasGivenAtItsStart) {
  const auto stop = stopped(engine::request, [](auto& m) { m.decode_ns(20).output_tokens(3); });
  EXPECT_THAT(stop, HasMeasurement("time_per_output_token_ns", 10));
}

TEST(EngineRequest, HasItsTimeToTheFirstTokenFromTheArrivalOrElseFromItsStart) {
  struct Case {
    std::optional<std::int64_t> arrival_ms;  // since the start
    std::uint64_t token_ms;                  // since the start
    std::int64_t ttft_ms;                    // -1: none
  };
  for (const Case& each : {Case{-3, 2, 5}, Case{std::nullopt, 2, 2}, Case{1, 3, 2}, Case{1, 0, -1}}) {
    FakeClock clock;
    const SpanRecorder recorder("engine.request");
    const Counted repaired(&nopspan::Stats::values_clamped);
    AsyncSpan request{engine::request};
    const std::int64_t start = recorder.start()->monotonic_time_ns();
    if (each.arrival_ms) {
      request.with<RequestFields>([&](auto& m) { m.arrival_ns(start + *each.arrival_ms * kMillisecond); });
    }
    clock.advance(each.token_ms * kMillisecond);
    request.first_token();
    request.end();
    EXPECT_EQ(repaired.times(), each.ttft_ms < 0 ? 1U : 0U);
    if (each.ttft_ms < 0) {
      EXPECT_THAT(recorder.stop(), LacksMeasurement("ttft_ns"));
    } else {
      EXPECT_THAT(recorder.stop(), HasMeasurement("ttft_ns", each.ttft_ms * kMillisecond));
    }
  }
}

TEST(EngineRequest, HasTheFirstTokenOfItsMeter) {
  FakeClock clock;
  const SpanRecorder recorder("engine.request");
  StreamMeter meter{AsyncSpan{engine::request}};
  clock.advance(4 * kMillisecond);
  meter.token();
  meter.end();
  EXPECT_THAT(recorder.stop(), AllOf(HasMeasurement("ttft_ns", 4 * kMillisecond), HasMeasurement("stream_tokens", 1)));
}

TEST(EngineRequest, SaysWhetherItWasCancelled) {
  const SpanRecorder recorder("engine.request");
  AsyncSpan{engine::request}.cancel("client gone");
  AsyncSpan{engine::request}.end();
  AsyncSpan{engine::request}.fail("timeout");
  { const AsyncSpan abandoned{engine::request}; }
  const auto stops = events_of(recorder, 4, "engine.request.stop");
  EXPECT_THAT(stops[0], HasMetadata("cancelled", true));
  EXPECT_THAT(stops[1], HasMetadata("cancelled", false));
  EXPECT_THAT(stops[2], HasMetadata("cancelled", false));
  EXPECT_THAT(stops[3], HasMetadata("cancelled", true));
  EXPECT_THROW(nopspan::span(engine::request, [] { throw std::runtime_error("x"); }), std::runtime_error);
  EXPECT_THAT(recorder.exception(), HasMetadata("cancelled", false));
}

TEST(EngineRequest, LeavesWhatTheApplicationSetAsItIs) {
  FakeClock clock;
  const SpanRecorder recorder("engine.request");
  AsyncSpan request{engine::request};
  request.with<RequestFields>([](auto& m) {
    m.output_tokens(11).decode_ns(1000).set("cancelled", "perhaps");
    m.measure("ttft_ns", 1).measure("time_per_output_token_ns", 2).measure("tokens_per_second", 3);
  });
  clock.advance(kMillisecond);
  request.first_token();
  request.end();
  EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("cancelled", "perhaps"), HasMeasurement("ttft_ns", 1)));
  EXPECT_THAT(recorder.stop(), HasMeasurement("time_per_output_token_ns", 2));
  EXPECT_THAT(recorder.stop(), HasMeasurement("tokens_per_second", 3));
}

TEST(EngineRequest, IsTheOnlySpanThatDerives) {
  const SpanRecorder recorder("engine.decode");
  AsyncSpan decode{engine::decode};
  decode.measure("decode_ns", 100).set("output_tokens", 11).first_token();
  decode.end();
  EXPECT_THAT(recorder.stop(), AllOf(LacksMeasurement("tokens_per_second"), LacksMeasurement("ttft_ns")));
  EXPECT_THAT(recorder.stop(), LacksMetadata("cancelled"));
}

TEST(EngineRequest, TakesWhatCannotBeForAbsentAndCountsIt) {
  const Counted repaired(&nopspan::Stats::values_clamped);
  const auto negative_time = stop_of([](auto& m) { m.output_tokens(11).decode_ns(-5).arrival_ns(-1); });
  EXPECT_EQ(repaired.times(), 2U);
  EXPECT_THAT(negative_time, LacksMeasurement("tokens_per_second"));
  EXPECT_THAT(negative_time, AllOf(HasMeasurement("decode_ns", -5), LacksAttribute("nopspan.decode_ns")));
  const auto negative_count = stop_of([](auto& m) { m.output_tokens(-11).decode_ns(5); });
  EXPECT_EQ(repaired.times(), 3U);
  EXPECT_THAT(negative_count, LacksMeasurement("tokens_per_second"));
  EXPECT_EQ(negative_count->flags() & NOPSPAN_FLAG_HAS_USAGE, 0U);
  for (const double time : {std::nan(""), -1.0, std::numeric_limits<double>::infinity(), 1e300}) {
    const auto stop = stop_of([&](auto& m) { m.output_tokens(11).measure("decode_ns", time); });
    EXPECT_FALSE(has_measurement(stop, "tokens_per_second")) << time;
  }
  EXPECT_EQ(repaired.times(), 7U);
}

TEST(EngineRequest, LeavesOutTimesThatAreLongerThanItself) {
  FakeClock clock;
  const SpanRecorder recorder("engine.request");
  const Counted left_out(&nopspan::Stats::values_clamped);
  AsyncSpan request{engine::request};
  const std::int64_t start = recorder.start()->monotonic_time_ns();
  clock.advance(5 * kMillisecond);
  request.with<RequestFields>([&](auto& m) {
    m.arrival_ns(start - 10 * kMillisecond).queue_ns(start).prefill_ns(16 * kMillisecond).measure("decode_ns", 17e6);
  });
  request.end();
  EXPECT_EQ(left_out.times(), 2U);
  const auto stop = recorder.stop();
  EXPECT_THAT(stop, AllOf(HasMeasurement("queue_ns", start), HasMeasurement("decode_ns", 17e6))) << "as it was set";
  EXPECT_THAT(stop, AllOf(LacksAttribute("nopspan.queue_ns"), LacksAttribute("nopspan.decode_ns")));
  EXPECT_THAT(stop, LacksAttribute("gen_ai.latency.time_in_queue"));
  EXPECT_THAT(stop, HasAttribute("nopspan.prefill_ns", 16 * kMillisecond)) << "engines may round to ms";
}

TEST(EngineRequest, TakesATimeThatIsADouble) {
  const Counted repaired(&nopspan::Stats::values_clamped);
  const auto stop = stop_of([](auto& m) { m.output_tokens(11).measure("decode_ns", 100.9); });
  EXPECT_THAT(stop, HasMeasurement("time_per_output_token_ns", 10));
  EXPECT_EQ(repaired.times(), 0U);
}

TEST(EngineRequest, CountsTokensOver2To53As2To53) {
  constexpr std::int64_t kMost = std::int64_t{1} << 53;
  const Counted repaired(&nopspan::Stats::values_clamped);
  const auto most = stop_of([&](auto& m) { m.arrival_ns(1).output_tokens(kMost).decode_ns(1'000'000'000); });
  EXPECT_EQ(repaired.times(), 0U);
  const auto more = stop_of([](auto& m) { m.arrival_ns(1).output_tokens(INT64_MAX).decode_ns(1'000'000'000); });
  EXPECT_EQ(repaired.times(), 1U);
  EXPECT_THAT(most, HasMeasurement("tokens_per_second", static_cast<double>(kMost - 1)));
  EXPECT_THAT(more, HasMeasurement("tokens_per_second", static_cast<double>(kMost - 1)));
  EXPECT_THAT(more, HasMetadata("output_tokens", INT64_MAX));
}

TEST(EngineSpans, HaveTheirOwnBuilders) {
  const Recorder recorder{"engine.queue.start", "engine.prefill.start", "engine.decode.start", "engine.step.start",
                          "engine.step.stop"};
  short_span(engine::queue, [](auto& m) { m.engine("e").tenant("t"); });
  short_span(engine::prefill, [](auto& m) { m.model("m").prefill_tokens(7).cached_tokens(3); });
  short_span(engine::decode, [](auto& m) { m.decode_tokens(9); });
  Span{engine::step, [](auto& m) { m.engine("e"); }}.with<engine::StepFields>(
      [&](auto& m) { m.batch_size(2).prefill_tokens(7).decode_tokens(1).number(1); });
  const auto events = events_of(recorder, 5);
  EXPECT_THAT(events[0], HasMetadata("tenant", "t"));
  EXPECT_THAT(events[1], HasMeasurement("cached_tokens", 3));
  EXPECT_EQ(events[1]->flags() & NOPSPAN_FLAG_HAS_USAGE, 0U);  // the request's entry carries the usage
  EXPECT_THAT(events[2], HasMeasurement("decode_tokens", 9));
  EXPECT_THAT(events[4], HasMeasurement("batch_size", 2));
}

TEST(EngineSpans, MayHaveNamesOfTheApplicationsOwn) {
  const SpanRecorder recorder("engine.sampler");
  const Counted unknown(&nopspan::Stats::names_unknown);
  { const Span span{"engine.sampler"}; }
  EXPECT_EQ(unknown.times(), 0U);
  EXPECT_EQ(recorder.events().size(), 2U);
}

TEST(Catalogue, RulesOutMostNamesByTheirFirstLetters) {
  using nopspan::detail::may_be_in_catalogue;
  for (const char* name : {"llm.chat", "agent.tool", "engine.step", "gen_ai.plan", "mcp.client"}) {
    EXPECT_TRUE(may_be_in_catalogue(name)) << name;
  }
  for (const char* name : {"", "llm", "get user", "generate", "encode", "mcpx", "llvm.pass"}) {
    EXPECT_FALSE(may_be_in_catalogue(name)) << name;
  }
}

TEST(EngineSpans, OfARequestThatBeganBeforeTheAttachHaveTheLabelsOfTheScope) {
  const Context labels = Context().with_label("engine", "e").with_label("model", "m").with_label("tenant", "t");
  const AsyncSpan request{engine::request};  // not recorded
  const Context before = request.context();
  Context inside;
  {
    const ContextScope scope{labels};
    inside = request.context();
  }
  const SpanRecorder recorder("engine.decode");
  { const AsyncSpan phase{engine::decode, before}; }
  { const AsyncSpan phase{engine::decode, inside}; }
  {
    const ContextScope scope{labels};
    const AsyncSpan phase{engine::decode, before, [](auto& m) { m.model("own"); }};
    const AsyncSpan other{engine::decode, request};
    const ContextScope nested{before};
    const Span inside_both{engine::decode};
  }
  const auto starts = events_of(recorder, 5, "engine.decode.start");
  EXPECT_THAT(starts[0], LacksMetadata("engine"));
  EXPECT_THAT(starts[1], AllOf(HasMetadata("engine", "e"), HasMetadata("model", "m")));
  EXPECT_THAT(starts[1], LacksMetadata("tenant"));  // it may be another request's
  EXPECT_THAT(starts[2], AllOf(HasMetadata("engine", "e"), HasMetadata("model", "own")));
  EXPECT_THAT(starts[3], HasMetadata("engine", "e"));
  EXPECT_THAT(starts[4], HasMetadata("engine", "e"));
}

TEST(EngineRequest, CarriesTheFactsOfSpeculationPreemptionAndCaches) {
  const auto stop = stop_of([](auto& m) {
    const std::uint32_t accepted[] = {5, 3, 1};
    m.max_tokens(64).n(2).adapter("lora-1").drafts(6).drafted_tokens(18).accepted_tokens(9);
    m.accepted_by_position(accepted, 3).decode_tokens(15).preemptions(2).recomputed_tokens(40);
    m.admission_ns(std::chrono::microseconds(3), "rate").prompt_chunks(4).cached_by_tier(16, 8);
  });
  const Value attributes = stop->attributes().copy();
  const auto is = [&](const char* key, const Value& value) {
    ASSERT_NE(attributes.find(key), nullptr) << key;
    EXPECT_EQ(*attributes.find(key), value) << key;
  };
  is("gen_ai.request.max_tokens", 64);
  is("gen_ai.request.choice.count", 2);
  is("nopspan.adapter", "lora-1");
  is("nopspan.drafts", 6);
  is("nopspan.drafted_tokens", 18);
  is("nopspan.accepted_tokens", 9);
  is("nopspan.accepted_by_position", Value::list({5, 3, 1}));
  is("nopspan.decode_tokens", 15);
  is("nopspan.preemptions", 2);
  is("nopspan.recomputed_tokens", 40);
  is("nopspan.admission_ns", 3000);
  is("nopspan.admission_reason", "rate");
  is("nopspan.prompt_chunks", 4);
  is("nopspan.cached_device_tokens", 16);
  is("nopspan.cached_host_tokens", 8);
  is("nopspan.cached_external_tokens", 0);
  EXPECT_EQ(stop->flags() & NOPSPAN_FLAG_HAS_USAGE, 0U);  // the parts of the cached tokens are not usage
}

TEST(EnginePhases, CarryTheirReasonChunkAndDrafts) {
  const Recorder recorder{"engine.queue.stop", "engine.prefill.stop", "engine.decode.stop"};
  short_span(engine::queue, [](auto& m) { m.reason("adapter"); });
  Span{engine::prefill, [](auto& m) { m.chunk(2, 3); }}.with<engine::PrefillFields>(
      [](auto& m) { m.recomputed_tokens(7); });
  Span{engine::decode}.with<engine::DecodeFields>([](auto& m) { m.drafts(2).drafted_tokens(6).accepted_tokens(4); });
  const auto events = events_of(recorder, 3);
  EXPECT_THAT(events[0], AllOf(HasMetadata("reason", "adapter"), HasAttribute("nopspan.reason", "adapter")));
  EXPECT_THAT(events[1], AllOf(HasMetadata("chunk", 2), HasMetadata("chunks", 3)));
  EXPECT_THAT(events[1], HasMeasurement("recomputed_tokens", 7));
  EXPECT_THAT(events[2], HasMeasurement("accepted_tokens", 4));
}

TEST(EngineSpans, LoadTransferAndDeviceAreOfTheCatalogue) {
  const Recorder recorder{"engine.load.stop", "engine.transfer.stop", "engine.device.stop"};
  const Counted unknown(&nopspan::Stats::names_unknown);
  short_span(engine::load, [](auto& m) { m.model("m").adapter("lora-1").bytes(1000); });
  short_span(engine::transfer,
             [](auto& m) { m.between("device", "host").direction("store").bytes(4096).blocks(2).tokens(32); });
  nopspan::complete(engine::device, Context(), monotonic_ns(), 10, [](auto& m) { m.device("gpu0"); });
  EXPECT_EQ(unknown.times(), 0U);
  const auto events = events_of(recorder, 3);
  EXPECT_THAT(events[1], AllOf(HasAttribute("nopspan.from", "device"), HasAttribute("nopspan.to", "host")));
  EXPECT_THAT(events[1], HasAttribute("nopspan.bytes", 4096));
  EXPECT_THAT(events[2], HasAttribute("nopspan.device", "gpu0"));
}

TEST(EngineEvents, BelongToTheSpanTheyAreGiven) {
  const Recorder recorder{"engine.preempted", "engine.swapped", "engine.evicted", "engine.prefix_cache",
                          "engine.rejected"};
  const AsyncSpan request{engine::request, Context()};
  engine::preempted(request, [](auto& e) { e.reason("no_blocks").mode("recompute").blocks(3).tokens(48); });
  engine::swapped(request.context(), [](auto& e) { e.direction("out").blocks(3); });
  engine::evicted([](auto& e) {
    e.tier("device").blocks(1).lifetime_ns(std::chrono::nanoseconds(7)).idle_ns(std::chrono::nanoseconds(2));
  });
  engine::prefix_cache([](auto& e) { e.local(100, 64).external(36, 16).tier("device"); });
  engine::rejected([](auto& e) { e.reason("queue_full"); });
  const auto events = events_of(recorder, 5);
  EXPECT_EQ(events[0]->span_id(), request.context().span_id());
  EXPECT_EQ(events[1]->span_id(), request.context().span_id());
  EXPECT_EQ(all_attributes(events[0]), Value::map({{"nopspan.reason", "no_blocks"},
                                                   {"nopspan.mode", "recompute"},
                                                   {"nopspan.blocks", 3},
                                                   {"nopspan.tokens", 48}}));
  EXPECT_EQ(
      all_attributes(events[2]),
      Value::map(
          {{"nopspan.tier", "device"}, {"nopspan.blocks", 1}, {"nopspan.lifetime_ns", 7}, {"nopspan.idle_ns", 2}}));
  EXPECT_EQ(all_attributes(events[3]), Value::map({{"nopspan.queried_tokens", 100},
                                                   {"nopspan.hit_tokens", 64},
                                                   {"nopspan.external_queried_tokens", 36},
                                                   {"nopspan.external_hit_tokens", 16},
                                                   {"nopspan.tier", "device"}}));
  EXPECT_EQ(all_attributes(events[4]), Value::map({{"nopspan.reason", "queue_full"}}));
}

TEST(EngineStats, AreOneEventForHandlersWithWhatWasSet) {
  const Recorder recorder{"engine.stats"};
  engine::stats([](auto& s) { s.engine("x").model("m").running(3).waiting(2).kv_cache_used(10).kv_cache_total(100); });
  engine::stats([](auto& s) { s.engine("x").running(0); });
  const auto events = events_of(recorder, 2);
  EXPECT_THAT(keys_of(events[0]->metadata()), ElementsAre("engine", "model"));
  EXPECT_THAT(keys_of(events[0]->measurements()), ElementsAre("kv_cache_total", "kv_cache_used", "running", "waiting"));
  EXPECT_THAT(events[0], HasMeasurement("kv_cache_used", 10));
  EXPECT_THAT(keys_of(events[1]->measurements()), ElementsAre("running"));
}

TEST(EngineStats, FireAGaugeForEachThatWasSet) {
  const RaisedGate tracer(RaisedGate::points);
  const Fired fired;
  engine::stats([](auto& s) { s.engine("x").running(3).waiting(2).kv_cache_used(10).kv_cache_total(100); });
  EXPECT_EQ(fired[Probe::gauge], 4U);
  engine::stats([](auto& s) { s.engine("x").waiting(0); });
  EXPECT_EQ(fired[Probe::gauge], 5U);
  engine::stats([](auto& s) { s.engine("x"); });
  EXPECT_EQ(fired.all(), (Hits{{Probe::gauge, 5}}));
}

TEST(EngineStats, CountALabelThatIsTruncated) {
  const Recorder recorder{"engine.stats"};
  const Counted truncated(&nopspan::Stats::truncated);
  engine::stats([](auto& s) { s.waiting(std::string(63, 'r'), 1); });
  EXPECT_EQ(truncated.times(), 0U);
  engine::stats([](auto& s) { s.waiting(std::string(64, 'r'), 1); });
  EXPECT_EQ(truncated.times(), 1U);
}

TEST(EngineStats, FireNoNegativeGaugeAndCountIt) {
  const RaisedGate tracer(RaisedGate::points);
  const Recorder recorder{"engine.stats"};
  const Fired fired;
  const Counted repaired(&nopspan::Stats::values_clamped);
  engine::stats([](auto& s) { s.running(-1).waiting(1); });
  EXPECT_EQ(fired[Probe::gauge], 1U);
  EXPECT_EQ(repaired.times(), 1U);
  EXPECT_THAT(recorder.events()[0], HasMeasurement("running", -1));
}

TEST(EngineStats, AreNotComputedWhenTheGateIsDown) {
  engine::stats([](auto&) { FAIL(); });
}

// ---- Steps of an engine as handlers see them, and their members. batch_test.cpp and records_test.cpp test what
// tracers see.

using nopspan::engine::Member;
using nopspan::engine::StepFields;
using nopspan::engine::StepKind;

std::vector<Member> decoding(std::size_t count) {
  std::vector<Member> members(count);
  for (std::size_t i = 0; i < count; ++i) {
    members[i].request = i + 1;
    members[i].decode_tokens = 1;
  }
  return members;
}

TEST(Member, NamesARecordedSpanByItsIdAndAnyOtherByTheKeyOfTheEngine) {
  const AsyncSpan unrecorded{nopspan::engine::request};
  EXPECT_EQ(Member::of(unrecorded, 3).request, 3U);
  EXPECT_EQ(Member::of(unrecorded, 3).flags, Member::kOwnKey);
  EXPECT_EQ(Member::of(Context(), 4).request, 4U);
  EXPECT_EQ(Member::of(Context::make(), 5).request, 5U);
  const SpanRecorder recorder("engine.request");
  EXPECT_EQ(Member::of(unrecorded, 3).request, 3U);
  const AsyncSpan recorded{nopspan::engine::request};
  EXPECT_EQ(Member::of(recorded, 3).request, id_of(recorded));
  EXPECT_EQ(Member::of(recorded, 3).flags, 0U);
  EXPECT_EQ(Member::of(recorded.context(), 3).request, id_of(recorded));
  const Span around{"engine.loop"};
  EXPECT_EQ(Member::of(unrecorded, 3).request, 3U);  // not the span around it
}

TEST(Member, NamesARequestOfAnotherProcessByItsTrace) {
  const Context remote = Context::from_traceparent("00-0123456789abcdef0123456789abcdef-00000000000000ab-01");
  const std::uint64_t key = __builtin_bswap64(0x0123456789abcdef);  // the bytes as they are in memory
  for (const Member& member : {Member::of(remote, 6), Member::of_trace(remote, 6)}) {
    EXPECT_EQ(member.request, key);
    EXPECT_EQ(member.flags, Member::kOwnKey | Member::kTraceKey);
  }
  const SpanRecorder recorder("engine.prefill");
  const AsyncSpan phase{nopspan::engine::prefill, remote};
  EXPECT_EQ(Member::of(phase, 6).request, id_of(phase)) << "a span of this process";
  EXPECT_EQ(Member::of_trace(phase, 6).request, key);
  EXPECT_EQ(Member::of_trace(Context(), 6).request, 6U);
  EXPECT_EQ(Member::of_trace(Context(), 6).flags, Member::kOwnKey);
}

TEST(Step, HasItsFactsAndMembersInTheStopEvent) {
  const SpanRecorder recorder("engine.step");
  std::vector<Member> members = decoding(3);
  members[2].prefill_tokens = 9;
  Span{nopspan::engine::step, [](auto& m) { m.instance(2).number(8); }}.with<StepFields>(
      [&](auto& m) { m.members(members.data(), members.size()).budget_tokens(64); });
  EXPECT_EQ(recorder.start()->step(), nullptr);
  EXPECT_EQ(recorder.start()->member_count(), 0U);
  const auto stop = recorder.stop();  // an OwnedEvent
  ASSERT_NE(stop->step(), nullptr);
  EXPECT_EQ(stop->step()->kind, StepKind::mixed);
  EXPECT_EQ(stop->step()->instance, 2U);
  EXPECT_EQ(stop->step()->number, 8U);
  EXPECT_EQ(stop->step()->decode_tokens, 3U);
  EXPECT_EQ(stop->step()->prefill_tokens, 9U);
  EXPECT_EQ(stop->step()->budget_tokens, 64U);
  EXPECT_EQ(stop->step()->batch_size, 3U);
  ASSERT_EQ(stop->member_count(), 3U);
  EXPECT_EQ(stop->members()[0].request, 3U);
  EXPECT_EQ(stop->members()[1].request, 1U);
  EXPECT_NE(stop->flags() & NOPSPAN_FLAG_STEP, 0U);
}

TEST(Step, IsCopiedWithItsMembers) {
  const std::vector<Member> members = decoding(1000);
  auto stop = stopped(nopspan::engine::step, [&](auto& m) { m.members(members.data(), members.size()); });
  const nopspan::OwnedEvent copy = stop;
  const nopspan::OwnedEvent moved = std::move(stop);
  for (const auto* event : {&copy, &moved}) {
    ASSERT_EQ((*event)->member_count(), 1000U);
    EXPECT_EQ((*event)->members()[999].request, 1000U);
    EXPECT_EQ((*event)->step()->decode_tokens, 1000U);
  }
  EXPECT_EQ(stop->step(), nullptr);  // NOLINT(bugprone-use-after-move,hicpp-invalid-access-moved)
  EXPECT_EQ(stop->member_count(), 0U);
}

TEST(Step, HasAKindThatFollowsFromItsMembersOrItsTokens) {
  const auto kind_with = [&](auto&& fields) {
    const SpanRecorder recorder("engine.step");
    { const Span step{nopspan::engine::step, fields}; }
    return recorder.stop()->step()->kind;
  };
  std::vector<Member> members = decoding(2);
  const auto add = [&](auto& m) { m.members(members.data(), members.size()); };
  EXPECT_EQ(kind_with([](auto&) {}), StepKind::unknown);
  EXPECT_EQ(kind_with([](auto& m) { m.prefill_tokens(1); }), StepKind::prefill);
  EXPECT_EQ(kind_with([](auto& m) { m.decode_tokens(1); }), StepKind::decode);
  EXPECT_EQ(kind_with([](auto& m) { m.prefill_tokens(1).decode_tokens(1); }), StepKind::mixed);
  EXPECT_EQ(kind_with(add), StepKind::decode);
  members[0].prefill_tokens = 4;
  EXPECT_EQ(kind_with(add), StepKind::mixed);
  members[1].prefill_tokens = 4;  // the pass generates the first token too
  EXPECT_EQ(kind_with(add), StepKind::prefill);
}

TEST(Step, TakesANegativeCountForAbsentAndCountsIt) {
  const std::vector<Member> members = decoding(2);
  const Counted clamped(&nopspan::Stats::values_clamped);
  const auto stop = stopped(nopspan::engine::step, [&](auto& m) {
    m.members(members.data(), members.size()).batch_size(-1).drafted_tokens(-1);
    m.prefill_tokens(7).prefill_tokens(-1).decode_tokens(-1);
  });
  EXPECT_EQ(clamped.times(), 4U);
  EXPECT_EQ(stop->step()->batch_size, 2U);
  EXPECT_EQ(stop->step()->prefill_tokens, 0U);
  EXPECT_EQ(stop->step()->decode_tokens, 2U);
}

TEST(Step, ThatIsCompleteHasMembersToo) {
  const SpanRecorder recorder("engine.step");
  const std::vector<Member> members = decoding(2);
  nopspan::complete(nopspan::engine::step, {}, nopspan::now_ns() - 1000, 500,
                    [&](auto& m) { m.members(members.data(), members.size()); });
  EXPECT_EQ(recorder.stop()->member_count(), 2U);
}

TEST(Step, AloneHasMembers) {
  const SpanRecorder recorder("work");
  const Counted dropped(&nopspan::Stats::members_dropped);
  const std::vector<Member> members = decoding(2);
  Span{"work"}.with<StepFields>([&](auto& m) { m.members(members.data(), members.size()); });
  EXPECT_EQ(dropped.times(), 2U);
  EXPECT_EQ(recorder.stop()->step(), nullptr);
}

TEST(Step, WithoutMemoryCountsTheMembersThatItDropped) {
  if (kAddressSanitizer || kThreadSanitizer) GTEST_SKIP() << "the sanitizers end a program without memory";
  expect_in_child([] {
    const SpanRecorder recorder("engine.step");
    const std::vector<Member> members = decoding(300);
    std::optional<Span> some(std::in_place, nopspan::engine::step, [&](auto& m) { m.members(members.data(), 100); });
    std::optional<Span> none(std::in_place, nopspan::engine::step);
    {
      const Counted dropped(&nopspan::Stats::members_dropped);
      const NoMemory here;
      some->with<StepFields>([&](auto& m) { m.members(members.data() + 100, 200); });
      none->with<StepFields>([&](auto& m) { m.members(members.data(), 300); });
      EXPECT_GT(dropped.times(), 300U);
    }
    none.reset();
    some.reset();
    const auto stops = events_of(recorder, 2, "engine.step.stop");
    EXPECT_EQ(stops[0]->member_count(), 0U);
    EXPECT_EQ(stops[0]->step()->dropped, 300U);
    EXPECT_EQ(stops[0]->step()->batch_size, 300U);
    EXPECT_GE(stops[1]->member_count(), 100U);
    EXPECT_GT(stops[1]->step()->dropped, 0U);
    EXPECT_EQ(stops[1]->member_count() + stops[1]->step()->dropped, 300U);
  });
}

TEST(Step, ThatAForkInterruptsIsReportedByTheParentOnly) {
  const SpanRecorder recorder("engine.step");
  const std::vector<Member> members = decoding(1024);
  {
    Span step{nopspan::engine::step, [&](auto& m) { m.members(members.data(), members.size()); }};
    expect_in_child([&] {
      step.with<StepFields>([&](auto& m) { m.members(members.data(), members.size()); });
      short_span(nopspan::engine::step, [&](auto& m) { m.member(members[5]); });
      ASSERT_EQ(recorder.stop()->member_count(), 1U);
      EXPECT_EQ(recorder.stop()->members()[0].request, 6U);
    });
  }
  EXPECT_EQ(recorder.stop()->member_count(), 1024U);
}

}  // namespace
