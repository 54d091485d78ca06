// SPDX-License-Identifier: Apache-2.0
// Metrics as text: exact texts, and hostile names and values.
#include "metric/metric_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace nopspan::collector {
namespace {

using testing::HasSubstr;

std::string name_of(const std::string& name, const std::string& unit) {
  return prometheus_name({.name = name, .unit = unit}).name;
}

TEST(MetricNames, AreTranslatedAsOpenTelemetryDoes) {
  EXPECT_EQ(name_of("gen_ai.server.request.duration", "s"), "gen_ai_server_request_duration_seconds");
  EXPECT_EQ(name_of("gen_ai.client.token.usage", "{token}"), "gen_ai_client_token_usage");
  EXPECT_EQ(name_of("nopspan.buffer", "By"), "nopspan_buffer_bytes");
  EXPECT_EQ(prometheus_label("gen_ai.request.model"), "gen_ai_request_model");
  EXPECT_EQ(prometheus_label("1st"), "key_1st");
  EXPECT_EQ(prometheus_label("__name__"), "key__name__");
  EXPECT_EQ(prometheus_label("\xc3\xa4:"), "key___");
}

// One family of each type.
struct Filled {
  Filled() {
    registry.advance(1'700'000'000 * kSecond);
    MetricWriter writer(registry);
    writer.add(calls, 3, {"a\"b\\c\nd\xff", "ok"});
    writer.gauge(level, -0.25, {});
    Exemplar exemplar;
    exemplar.trace_id.bytes[15] = 0xab;
    exemplar.span_id = 0x12;
    exemplar.unix_ns = 1'700'000'000'123'456'789;
    writer.observe(times, 0.2, {"m"}, &exemplar);
    writer.observe(times, 3e6, {"m"});
  }

  MetricRegistry registry;
  MetricFamily& calls = registry.family(
      {.name = "a.calls", .unit = "{call}", .help = "Calls \\ of\n\"it\".", .labels = {"span.name", "status"}});
  MetricFamily& level = registry.family({.name = "level", .unit = "By", .help = "L.", .type = MetricType::gauge});
  MetricFamily& times = registry.family({.name = "time",
                                         .unit = "s",
                                         .help = "T.",
                                         .type = MetricType::histogram,
                                         .labels = {"model"},
                                         .bounds = {0.00001, 0.25, 1, 1048576, 2000000}});
};

TEST(MetricText, IsThatOfPrometheus) {
  EXPECT_EQ(prometheus_text(Filled().registry.snapshot()), R"(# HELP a_calls_total Calls \\ of\n"it".
# TYPE a_calls_total counter
a_calls_total{span_name="a\"b\\c\\x0ad\\xff",status="ok"} 3
# HELP level_bytes L.
# TYPE level_bytes gauge
level_bytes -0.25
# HELP time_seconds T.
# TYPE time_seconds histogram
time_seconds_bucket{model="m",le="1e-05"} 0
time_seconds_bucket{model="m",le="0.25"} 1
time_seconds_bucket{model="m",le="1.0"} 1
time_seconds_bucket{model="m",le="1.048576e+06"} 1
time_seconds_bucket{model="m",le="2e+06"} 1
time_seconds_bucket{model="m",le="+Inf"} 2
time_seconds_sum{model="m"} 3000000.2
time_seconds_count{model="m"} 2
)");
}

TEST(MetricText, IsThatOfOpenMetrics) {
  EXPECT_EQ(openmetrics_text(Filled().registry.snapshot()), R"(# HELP a_calls Calls \\ of\n\"it\".
# TYPE a_calls counter
a_calls_total{span_name="a\"b\\c\\x0ad\\xff",status="ok"} 3
# HELP level_bytes L.
# TYPE level_bytes gauge
# UNIT level_bytes bytes
level_bytes -0.25
# HELP time_seconds T.
# TYPE time_seconds histogram
# UNIT time_seconds seconds
time_seconds_bucket{model="m",le="1e-05"} 0
time_seconds_bucket{model="m",le="0.25"} 1 # {trace_id="000000000000000000000000000000ab",span_id="0000000000000012"} 0.2 1700000000.123456
time_seconds_bucket{model="m",le="1.0"} 1
time_seconds_bucket{model="m",le="1.048576e+06"} 1
time_seconds_bucket{model="m",le="2e+06"} 1
time_seconds_bucket{model="m",le="+Inf"} 2
time_seconds_sum{model="m"} 3000000.2
time_seconds_count{model="m"} 2
# EOF
)");
}

TEST(MetricText, IsEmptyWithoutSeries) {
  MetricRegistry registry;
  EXPECT_EQ(prometheus_text(registry.snapshot()), "");
  EXPECT_EQ(openmetrics_text(registry.snapshot()), "# EOF\n");
}

}  // namespace
}  // namespace nopspan::collector
