// SPDX-License-Identifier: Apache-2.0
// Writes a few metrics to stdout as OTLP, for metric_formats_test.py.
#include "metric/metric_otlp.h"
#include "metric/metric_registry.h"
#include "model/otlp_wire.h"

#include <iostream>
#include <string>

namespace {

using namespace nopspan::collector;  // NOLINT(google-build-using-namespace)

constexpr std::uint64_t kNow = 1'700'000'100 * kSecond;

void fill(MetricRegistry& registry) {
  MetricFamily& calls = registry.family({.name = "example.calls",
                                         .unit = "{call}",
                                         .help = "Calls with a \\ and\na second line.",
                                         .labels = {"span.name", "server.port"},
                                         .is_integer = true});
  MetricFamily& level = registry.family(
      {.name = "example.level", .unit = "By", .help = "A \"level\".", .type = MetricType::gauge, .labels = {"name"}});
  MetricFamily& times = registry.family({.name = "example.time",
                                         .unit = "s",
                                         .help = "Times.",
                                         .type = MetricType::histogram,
                                         .labels = {"model"},
                                         .bounds = {0.25, 1, 1048576}});
  registry.advance(kNow - 100 * kSecond);
  MetricWriter writer(registry);
  writer.add(calls, 3,
             {"quote \" backslash \\ newline \n bad \xff terminal \x1b]0;t\x07\x7f\xc2\x9b end \xc3\xa4", "443"});
  writer.add(calls, 1e15, {"{}", "http"});
  const std::pair<std::string_view, std::string_view> more[] = {{"of.process", "1"}, {"__name__", "2"}};
  writer.gauge(level, -1.5, {"a"}, more);
  Exemplar exemplar;
  for (unsigned char i = 0; i < 16; ++i) exemplar.trace_id.bytes[i] = i;
  exemplar.span_id = 0x0102030405060708;
  exemplar.unix_ns = kNow - 5'500'000'000;
  writer.observe(times, 0.2, {"m"}, &exemplar);
  writer.observe(times, 1, {"m"}, nullptr, 5);
  exemplar.unix_ns += kSecond;
  writer.observe(times, 2e6, {"m"}, &exemplar);
  writer.observe(times, 0, {"m"});
}

}  // namespace

// "small" makes a message of each point. protobuf adds up messages that follow each other.
int main(int count, char** /*words*/) {
  MetricRegistry registry;
  fill(registry);
  registry.advance(kNow);
  std::string resource;
  append_text_attribute(resource, kResourceAttributes, "service.name", "nopspan");
  const std::size_t most_bytes = count > 1 ? 1 : std::size_t{1} << 20U;
  for (const OtlpMetrics& part : otlp_metrics(registry.snapshot(), resource, "1.2.3", most_bytes)) {
    std::cerr << part.points << '\n';
    std::cout << part.bytes;
  }
}
