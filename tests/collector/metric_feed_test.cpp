// SPDX-License-Identifier: Apache-2.0
// The metrics of invented entries.
#include "metric/metric_feed.h"

#include "invented_spans.h"
#include "kept_entry.h"
#include "metric/metric_text.h"
#include "model/otlp_wire.h"
#include "model/service.h"

#include <nopspan/probes.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::UnorderedElementsAre;

struct Fed {
  explicit Fed(const MetricFeedOptions& options = {}, const MetricLimits& limits = {})
      : registry(limits), feed(registry, options) {
    feed.on_tick(kNoon);
  }

  // The lines of the families whose names begin with this, without comments and buckets. A histogram's count is behind
  // its sum: "name_sum{…} 2 in 1".
  std::vector<std::string> lines(const std::string& begin) {
    std::vector<std::string> found;
    std::istringstream text(prometheus_text(registry.snapshot()));
    for (std::string line; std::getline(text, line);) {
      if (!line.starts_with(begin) || line.find("_bucket{") != std::string::npos) continue;
      if (line.find("_count{") != std::string::npos && !found.empty() &&
          found.back().find("_sum{") != std::string::npos) {
        found.back() += " in " + line.substr(line.rfind(' ') + 1);
      } else {
        found.push_back(line);
      }
    }
    return found;
  }
  [[nodiscard]] std::string text() { return openmetrics_text(registry.snapshot()); }

  MetricRegistry registry;
  MetricFeed feed;
};

Entry of_kind(Entry entry, unsigned kind) {
  entry.flags |= kind << NOPSPAN_FLAG_KIND_SHIFT;
  return entry;
}
constexpr unsigned kInternalKind = 1, kServerKind = 2, kClientKind = 3;

TEST(MetricFeed, CountsSpansByNameKindAndStatus) {
  Fed fed;
  Entry span = of_kind(invented("work", "m"), kServerKind);
  span.duration_ns = 3'000'000;
  fed.feed.on_entry(span);
  fed.feed.on_entry(span);
  span.status = kException;
  fed.feed.on_entry(span);
  span.status = kCancelled;
  fed.feed.on_entry(span);
  const std::string labels = R"(service_name="program",span_name="work",span_kind="SPAN_KIND_SERVER",status_code=)";
  EXPECT_THAT(
      fed.lines("traces_span_metrics_calls"),
      UnorderedElementsAre(
          "traces_span_metrics_calls_total{" + labels + R"("STATUS_CODE_UNSET",nopspan_status="ok"} 2)",
          "traces_span_metrics_calls_total{" + labels + R"("STATUS_CODE_UNSET",nopspan_status="cancelled"} 1)",
          "traces_span_metrics_calls_total{" + labels + R"("STATUS_CODE_ERROR",nopspan_status="exception"} 1)"));
  EXPECT_THAT(
      fed.text(),
      AllOf(HasSubstr("traces_span_metrics_duration_seconds_bucket{" + labels + R"("STATUS_CODE_UNSET",le="0.002"} 0)"),
            HasSubstr("traces_span_metrics_duration_seconds_bucket{" + labels + R"("STATUS_CODE_UNSET",le="0.004"} 3)"),
            HasSubstr("traces_span_metrics_duration_seconds_sum{" + labels + R"("STATUS_CODE_UNSET"} 0.009)")));
}

TEST(MetricFeed, NamesTheServiceAsTheEnvironmentDoes) {
  Fed fed;
  Process named = *invented_process(1);
  set_service(named, "", "service.name=shop");
  const ProcessPointer process = std::make_shared<const Process>(named);
  Entry event = invented("paid", "", Kind::event);
  event.process = &process;
  fed.feed.on_entry(event);
  EXPECT_THAT(fed.text(), HasSubstr(R"(nopspan_events_total{service_name="shop",event_name="paid"} 1)"));
}

TEST(MetricFeed, HasATargetForEachService) {
  Fed fed({.has_targets = true});
  const auto target_of = [&](std::uint32_t pid, const char* name, const char* attributes) {
    Process process = *invented_process(pid);
    process.container = "4f5e6d";
    set_service(process, name, attributes);
    const ProcessPointer pointer = std::make_shared<const Process>(process);
    Entry span = invented("work", "");
    span.process = &pointer;
    fed.feed.on_entry(span);
    return fed.lines("target_info");
  };
  EXPECT_THAT(
      target_of(1, "", "service.instance.id=a,service.version=1.5.0,service.namespace=shop,host.name=node-17,job=x"),
      ElementsAre(R"(target_info{job="shop/program",instance="a",service_namespace="shop",)"
                  R"(service_name="program",service_version="1.5.0",host_name="node-17",)"
                  R"(container_id="4f5e6d",service_instance_id="a"} 1)"));
  const std::vector<std::string> two = target_of(2, "cart", "service.version=1.4.0");
  EXPECT_THAT(two, testing::SizeIs(2));
  EXPECT_EQ(target_of(3, "cart", "service.version=1.4.0"), two) << "another process of the same service";
  EXPECT_THAT(target_of(4, "cart", "service.version=1.5.0"), testing::SizeIs(3));
  EXPECT_THAT(
      target_of(5, "",
                "service.name=a,a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1,service.namespace=,job=x,host.name=y,j=1,k=1,l=1"),
      testing::Contains(testing::AllOf(HasSubstr(R"(job="a",)"), HasSubstr(R"(k="1",l="1"})"))))
      << "only labels that the target has are counted";
  EXPECT_THAT(
      target_of(6, "joined", "service_namespace=x,deployment_environment_name=y,z=1"),
      testing::Contains(testing::AllOf(HasSubstr(R"(job="joined")"), HasSubstr(R"(container_id="4f5e6d",z="1"})"),
                                       Not(HasSubstr("service_namespace")))))
      << "its other metrics have no such labels";
  EXPECT_THAT(
      fed.lines("traces_span_metrics_calls"),
      testing::IsSupersetOf(
          {R"(traces_span_metrics_calls_total{service_name="cart",span_name="work",span_kind="SPAN_KIND_UNSPECIFIED",)"
           R"(status_code="STATUS_CODE_UNSET",nopspan_status="ok",service_version="1.4.0"} 2)",
           R"(traces_span_metrics_calls_total{service_name="cart",span_name="work",span_kind="SPAN_KIND_UNSPECIFIED",)"
           R"(status_code="STATUS_CODE_UNSET",nopspan_status="ok",service_version="1.5.0"} 1)"}));
}

TEST(MetricFeed, KeepsTheTargetsOfServicesThatGoOn) {
  Fed fed({.has_targets = true});
  fed.feed.on_entry(invented("work", "m"));
  for (std::uint64_t second = 1; second <= 900; ++second) {
    if (second == 450) fed.feed.on_entry(invented("work", "m"));
    fed.feed.on_tick(kNoon + second * kSecond);
    if (second != 449 && second != 700 && second != 900) continue;
    EXPECT_THAT(fed.lines("target_info"), testing::SizeIs(second == 700 ? 1 : 0)) << second;
  }
}

TEST(MetricFeed, CountsEventsAndRetries) {
  Fed fed;
  fed.feed.on_entry(invented("agent.operator.wait", "", Kind::event));
  Entry entry = invented("gen_ai.retry", "m", Kind::retry);
  entry.text = "llm.chat";
  entry.error_type = "rate_limit";
  fed.feed.on_entry(entry);
  fed.feed.on_entry(entry);
  entry.kind = Kind::part;
  fed.feed.on_entry(entry);
  EXPECT_THAT(
      fed.lines("nopspan_"),
      UnorderedElementsAre(
          R"(nopspan_events_total{service_name="program",event_name="agent.operator.wait"} 1)",
          R"(nopspan_retries_total{service_name="program",span_name="llm.chat",gen_ai_request_model="m",reason="rate_limit"} 2)"));
  EXPECT_THAT(fed.lines("traces"), IsEmpty());
}

TEST(MetricFeed, HasExemplarsOfTracesThatAreExported) {
  Fed fed({.is_exemplar = [](const Entry& entry) { return entry.span_id != 7; }});
  Entry span = invented("work", "m");
  fed.feed.on_entry(span);
  EXPECT_THAT(fed.text(), Not(HasSubstr("trace_id=")));
  span.trace_id.bytes[0] = 1;
  span.start_unix_ns = kNoon;
  for (const std::uint64_t not_exported : {0, 7}) {
    span.span_id = not_exported;
    fed.feed.on_entry(span);
    EXPECT_THAT(fed.text(), Not(HasSubstr("trace_id=")));
  }
  span.span_id = 8;
  fed.feed.on_entry(span);
  EXPECT_THAT(
      fed.text(),
      HasSubstr(
          R"(le="0.002"} 4 # {trace_id="01000000000000000000000000000000",span_id="0000000000000008"} 1e-06 1700000000)"));
}

Entry chat(const std::string& attributes) {
  Entry span = of_kind(invented("llm.step", "m"), kClientKind);
  span.duration_ns = 2 * kSecond;
  span.attributes = attributes;
  span.has_usage = span.counts_tokens = true;
  span.usage = {100, 20, 0, 0};
  return span;
}

std::string chat_attributes() {
  return text_attribute("gen_ai.operation.name", "chat") + text_attribute("gen_ai.provider.name", "openai") +
         text_attribute("gen_ai.request.model", "gpt-5") + text_attribute("gen_ai.response.model", "gpt-5-1") +
         text_attribute("server.address", "api") + integer_attribute("server.port", 443);
}

TEST(MetricFeed, HasTheConventionsMetricsOfClients) {
  Fed fed;
  const std::string attributes = chat_attributes() + real_attribute("gen_ai.response.time_to_first_chunk", 0.5) +
                                 list_attribute("nopspan.gaps_ns", {20'000'000, 3, 100'000'000, 1});
  Entry span = chat(attributes);
  fed.feed.on_entry(span);
  span.status = kError;
  span.error_type = "timeout";
  span.has_usage = false;
  fed.feed.on_entry(span);
  const std::string common =
      R"(service_name="program",gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_request_model="gpt-5",)"
      R"(gen_ai_response_model="gpt-5-1",server_address="api",server_port="443")";
  EXPECT_THAT(fed.lines("gen_ai"),
              UnorderedElementsAre(
                  "gen_ai_client_token_usage_sum{" + common + R"(,gen_ai_token_type="input"} 100 in 1)",
                  "gen_ai_client_token_usage_sum{" + common + R"(,gen_ai_token_type="output"} 20 in 1)",
                  "gen_ai_client_operation_duration_seconds_sum{" + common + "} 2 in 1",
                  "gen_ai_client_operation_duration_seconds_sum{" + common + R"(,error_type="timeout"} 2 in 1)",
                  "gen_ai_client_operation_time_to_first_chunk_seconds_sum{" + common + "} 1 in 2",
                  "gen_ai_client_operation_time_per_output_chunk_seconds_sum{" + common + "} 0.32 in 8"));
  EXPECT_THAT(fed.text(),
              HasSubstr("gen_ai_client_token_usage_bucket{" + common + R"(,gen_ai_token_type="input",le="256.0"} 1)"));
}

TEST(MetricFeed, HasTheEngineAsProviderAndATypeOfEachError) {
  Fed fed;
  const std::string attributes = text_attribute("gen_ai.operation.name", "chat");
  Entry span = chat(attributes);
  span.engine = "llama.cpp";
  span.status = kError;
  span.has_usage = false;
  fed.feed.on_entry(span);
  EXPECT_THAT(fed.lines("gen_ai"),
              ElementsAre(R"(gen_ai_client_operation_duration_seconds_sum{service_name="program",)"
                          R"(gen_ai_operation_name="chat",gen_ai_provider_name="llama.cpp",gen_ai_request_model="m",)"
                          R"(error_type="_OTHER"} 2 in 1)"));
}

TEST(MetricFeed, DoesNotCountAChatWhoseStepsReportTheTokens) {
  Fed fed;
  const std::string attributes = chat_attributes();
  Entry span = chat(attributes);
  span.counts_tokens = false;
  fed.feed.on_entry(span);
  EXPECT_THAT(fed.lines("gen_ai"), IsEmpty());
}

// A chat that is a loop of steps is not a request of its own. A retrieval that asks a model is.
TEST(MetricFeed, CountsTheInnermostRequests) {
  Fed fed;
  std::uint64_t id = 100;
  const auto add = [&](const char* name, const char* operation, std::uint64_t parent, const ProcessPointer& process) {
    const std::string attributes = text_attribute("gen_ai.operation.name", operation);
    Entry span = of_kind(invented(name, "m"), *operation == 0 ? kInternalKind : kClientKind);
    if (*operation != 0) span.attributes = attributes;
    span.process = &process;
    span.span_id = parent - 1;
    span.parent_id = parent;
    fed.feed.on_entry(span);
  };
  const ProcessPointer one = invented_process(1), two = invented_process(2);
  add("llm.step", "chat", id + 1, one);
  add("llm.step", "chat", id + 1, one);
  add("between", "", id + 2, one);
  add("llm.chat", "chat", id + 3, two);  // a span of another process that has the same id
  add("gen_ai.retrieval", "retrieval", id + 3, one);
  add("llm.chat", "chat", id + 4, one);
  add("agent.llm", "chat", id + 5, one);
  EXPECT_THAT(
      fed.lines("gen_ai_client_operation_duration_seconds_count"),
      ElementsAre(
          R"(gen_ai_client_operation_duration_seconds_count{service_name="program",gen_ai_operation_name="chat",gen_ai_request_model="m"} 3)",
          R"(gen_ai_client_operation_duration_seconds_count{service_name="program",gen_ai_operation_name="retrieval",gen_ai_request_model="m"} 1)"));
}

TEST(MetricFeed, HasTheConventionsMetricsOfServers) {
  Fed fed;
  const std::string attributes =
      text_attribute("gen_ai.operation.name", "chat") + text_attribute("gen_ai.provider.name", "example");
  Entry span = of_kind(invented("engine.request", "m"), kServerKind);
  span.engine = "example";
  span.duration_ns = 2 * kSecond;
  span.attributes = attributes;
  span.has_first_token = span.has_usage = span.has_engine_times = true;
  span.first_token_ns = kSecond / 4;
  span.usage = {10, 5, 0, 0};
  span.engine_times.decode_ns = kSecond;
  fed.feed.on_entry(span);
  const std::string common =
      R"(service_name="program",gen_ai_operation_name="chat",gen_ai_provider_name="example",gen_ai_request_model="m")";
  EXPECT_THAT(fed.lines("gen_ai"),
              UnorderedElementsAre("gen_ai_server_request_duration_seconds_sum{" + common + "} 2 in 1",
                                   "gen_ai_server_time_to_first_token_seconds_sum{" + common + "} 0.25 in 1",
                                   "gen_ai_server_time_per_output_token_seconds_sum{" + common + "} 0.25 in 1"));
}

TEST(MetricFeed, HasToolsAndAgentsOfTheNextConventions) {
  for (const Semconv semconv : {Semconv::v1_41, Semconv::next}) {
    Fed fed({.semconv = semconv});
    std::string attributes =
        text_attribute("gen_ai.operation.name", "execute_tool") + text_attribute("gen_ai.tool.name", "weather");
    Entry span = of_kind(invented("llm.tool", ""), kInternalKind);
    span.duration_ns = kSecond;
    span.attributes = attributes;
    fed.feed.on_entry(span);
    std::string agent = text_attribute("gen_ai.operation.name", "invoke_agent") +
                        text_attribute("gen_ai.agent.name", "a") + integer_attribute("nopspan.tool_calls", 3);
    span = of_kind(invented("gen_ai.invoke_agent", ""), kInternalKind);
    span.attributes = agent;
    fed.feed.on_entry(span);
    if (semconv == Semconv::v1_41) {
      EXPECT_THAT(fed.lines("gen_ai"), IsEmpty());
      continue;
    }
    EXPECT_THAT(
        fed.lines("gen_ai"),
        UnorderedElementsAre(
            R"(gen_ai_execute_tool_duration_seconds_sum{service_name="program",gen_ai_tool_name="weather"} 1 in 1)",
            R"(gen_ai_invoke_agent_duration_seconds_sum{service_name="program",gen_ai_agent_name="a"} 1e-06 in 1)",
            R"(gen_ai_invoke_agent_tool_calls_sum{service_name="program",gen_ai_agent_name="a"} 3 in 1)"));
  }
}

TEST(MetricFeed, HasMcpsMetrics) {
  Fed fed;
  const std::string attributes =
      text_attribute("mcp.method.name", "tools/call") + text_attribute("gen_ai.tool.name", "weather");
  Entry span = of_kind(invented("mcp.client", ""), kClientKind);
  span.duration_ns = kSecond;
  span.attributes = attributes;
  fed.feed.on_entry(span);
  EXPECT_THAT(
      fed.lines("mcp"),
      ElementsAre(
          R"(mcp_client_operation_duration_seconds_sum{service_name="program",mcp_method_name="tools/call",gen_ai_tool_name="weather"} 1 in 1)"));
}

Entry reading(std::string_view name, std::int64_t value, std::uint64_t at_unix_ns, std::string_view attributes = {}) {
  Entry entry = invented(name, "m", Kind::gauge);
  entry.engine = "e";
  entry.value = value;
  entry.start_unix_ns = at_unix_ns;
  entry.attributes = attributes;
  return entry;
}

TEST(MetricFeed, HasTheLastValuesOfGaugesAndCounters) {
  Fed fed;
  const std::string reason = text_attribute("reason", "capacity", true);
  fed.feed.on_entry(reading("running", 3, kNoon));
  fed.feed.on_entry(reading("running", 2, kNoon + 2));
  fed.feed.on_entry(reading("running", 9, kNoon + 1));
  fed.feed.on_entry(reading("waiting", 1, kNoon, reason));
  Entry used = reading("kv_cache_used", 5, kNoon);
  used.number = 20;
  fed.feed.on_entry(used);
  fed.feed.on_entry(reading("lora_slots", -4, kNoon));
  Entry counter = reading("aborted", 7, kNoon);
  counter.flags = NOPSPAN_FLAG_COUNTER;
  fed.feed.on_entry(counter);
  const std::string labels = R"({service_name="program",nopspan_engine="e",gen_ai_request_model="m",process_pid="100")";
  EXPECT_THAT(fed.lines("nopspan"),
              UnorderedElementsAre("nopspan_engine_running" + labels + "} 2",
                                   "nopspan_engine_waiting" + labels + R"(,reason="capacity"} 1)",
                                   "nopspan_engine_kv_cache_used" + labels + "} 5",
                                   "nopspan_reported_maximum" + labels + R"(,gauge="kv_cache_used"} 20)",
                                   "nopspan_reported_value" + labels + R"(,gauge="lora_slots"} -4)",
                                   "nopspan_reported_total" + labels + R"(,counter="aborted"} 7)"));
}

TEST(MetricFeed, AddsUpFactsOfEngines) {
  Fed fed;
  nopspan_step step{};
  step.batch_size = 4;
  step.prefill_tokens = 100;
  step.decode_tokens = 3;
  step.device_ns = kSecond / 200;
  Entry entry = invented("engine.step", "m");
  entry.duration_ns = kSecond / 100;
  entry.flags = NOPSPAN_FLAG_STEP;
  entry.step = &step;
  fed.feed.on_entry(entry);
  fed.feed.on_entry(entry);
  const std::string attributes = integer_attribute("nopspan.blocks", 6, true) +
                                 text_attribute("nopspan.reason", "no_blocks", true) +
                                 integer_attribute("nopspan.gap_max_ns", 6, true) + integer_attribute("own", 5, true);
  entry = invented("engine.preempted", "m", Kind::event);
  entry.attributes = attributes;
  fed.feed.on_entry(entry);
  const std::string labels = R"({service_name="program",gen_ai_request_model="m")";
  EXPECT_THAT(fed.lines("nopspan_engine"),
              UnorderedElementsAre(
                  "nopspan_engine_facts_total" + labels + R"(,span_name="engine.step",fact="batch_size"} 8)",
                  "nopspan_engine_facts_total" + labels + R"(,span_name="engine.step",fact="prefill_tokens"} 200)",
                  "nopspan_engine_facts_total" + labels + R"(,span_name="engine.step",fact="decode_tokens"} 6)",
                  "nopspan_engine_facts_total" + labels + R"(,span_name="engine.preempted",fact="blocks"} 6)",
                  "nopspan_engine_reasons_total" + labels +
                      R"(,span_name="engine.preempted",fact="reason",value="no_blocks"} 1)",
                  "nopspan_engine_step_duration_seconds_sum" + labels + "} 0.02 in 2",
                  "nopspan_engine_step_time_seconds_total" + labels + R"(,where="device"} 0.01)",
                  "nopspan_engine_step_members_sum" + labels + "} 8 in 2",
                  "nopspan_engine_step_tokens_sum" + labels + "} 206 in 2"));
}

TEST(MetricFeed, CountsListsThatNoMeterMade) {
  Fed fed;
  Entry span = invented("engine.request", "m");
  const std::string gaps = list_attribute("nopspan.gaps_ns", {5, 1, 4, 1});
  span.attributes = gaps;
  fed.feed.on_entry(span);
  EXPECT_THAT(fed.lines("nopspan_metrics"),
              ElementsAre(R"(nopspan_metrics_malformed_total{service_name="program"} 1)"));
}

TEST(MetricFeed, TakesEveryRandomEntry) {
  std::mt19937_64 random(1);
  Fed fed({.semconv = Semconv::next});
  const std::vector<ProcessPointer> processes = {make_process(1), make_process(2, "\xff\"\n")};
  std::vector<nopspan_member> members;
  for (int i = 0; i < 2000; ++i) {
    fed.feed.on_entry(any_span(random, processes).entry());
    fed.feed.on_entry(any_step(random, processes, members).entry());
  }
  EXPECT_THAT(fed.text(), testing::EndsWith("# EOF\n"));
}

}  // namespace
}  // namespace nopspan::collector
