// SPDX-License-Identifier: Apache-2.0
// Writes OTLP requests of random entries and of some metrics, each as protobuf (.pb) and as JSON (.json):
// export_examples DIR
#include "kept_entry.h"

#include "export/export_bodies.h"
#include "metric/metric_otlp.h"
#include "metric/metric_registry.h"
#include "model/otlp_wire.h"

#include <nopspan/probes.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <vector>

using namespace nopspan::collector;

namespace {

constexpr std::uint64_t kBegin = 1'790'000'000'000'000'000;

class Folder {
 public:
  explicit Folder(std::string path) : path_(std::move(path)) {}
  void write(const std::string& name, const ExportBody& body) const {
    const auto json = otlp_json(body);
    if (!json) {
      std::fprintf(stderr, "%s: no JSON\n", name.c_str());
      std::exit(1);
    }
    std::ofstream(path_ + "/" + name + ".pb", std::ios::binary) << body.bytes;
    std::ofstream(path_ + "/" + name + ".json", std::ios::binary) << *json;
  }

 private:
  std::string path_;
};

void write_random(const Folder& folder) {
  std::mt19937_64 random(19);
  const std::vector<ProcessPointer> processes = {make_process(1), make_process(2), make_process(15, "")};
  ExportBodies feed({}, [&folder](const ExportBody& body) {
    folder.write(body.signal == Signal::traces ? "random-traces" : "random-logs", body);
  });
  feed.on_tick(kBegin + 5 * kSecond);
  std::vector<nopspan_member> members;
  for (int i = 0; i < 500; ++i) {
    feed.add(any_span(random, processes).entry());
    if (i % 10 == 0) feed.add(any_step(random, processes, members).entry());
  }
  // An error with attributes of all types.
  const KeptEntry kept = chat_span(processes[0]);
  Entry entry = kept.entry();
  std::string item, attributes = text_attribute("nopspan.error.message", "no \"answer\"");
  append_text_attribute(item, 1, "key", "value");
  append_bool_attribute(attributes, kSpanAttributes, "bool", true);
  append_delimited_value(attributes, kSpanAttributes, "bytes", 7, std::string_view("\0\xff!", 3));
  append_delimited_value(attributes, kSpanAttributes, "empty list", 5, "");
  append_delimited_value(attributes, kSpanAttributes, "map", 6, item);
  attributes += list_attribute("list", {-1, 2}) + real_attribute("real", -0.25);
  entry.attributes = attributes;
  entry.status = kError;
  feed.add(entry);
  feed.finish();
}

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
  registry.advance(kBegin - 100 * kSecond);
  MetricWriter writer(registry);
  writer.add(calls, 3,
             {"quote \" backslash \\ newline \n bad \xff terminal \x1b]0;t\x07\x7f\xc2\x9b end \xc3\xa4", "443"});
  writer.add(calls, 1e15, {"{}", "http"});
  const MetricLabels more = {{"of.process", "1"}, {"__name__", "2"}};
  writer.gauge(level, -1.5, {"a"}, more);
  Exemplar exemplar;
  for (unsigned char i = 0; i < 16; ++i) exemplar.trace_id.bytes[i] = i;
  exemplar.span_id = 0x0102030405060708;
  exemplar.unix_ns = kBegin - 5'500'000'000;
  writer.observe(times, 0.2, {"m"}, &exemplar);
  writer.observe(times, 1, {"m"}, nullptr, 5);
  exemplar.unix_ns += kSecond;
  writer.observe(times, 2e6, {"m"}, &exemplar);
  writer.observe(times, 0, {"m"});
}

// One request of all metrics, and one of each point. The number of points is in the names.
void write_metrics(const Folder& folder) {
  MetricRegistry registry;
  fill(registry);
  registry.advance(kBegin);
  std::string resource;
  append_text_attribute(resource, kResourceAttributes, "service.name", "nopspan");
  for (const std::size_t most_bytes : {std::size_t{1} << 20U, std::size_t{1}}) {
    int number = 0;
    for (const OtlpMetrics& part : otlp_metrics(registry.snapshot(), resource, "1.2.3", most_bytes)) {
      const std::string name = most_bytes == 1 ? "part" + std::to_string(++number) : "whole";
      folder.write(name + "-" + std::to_string(part.points) + "-metrics", {Signal::metrics, part.bytes, {}});
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const Folder folder(argv[1]);
  write_random(folder);
  write_metrics(folder);
}
