// SPDX-License-Identifier: Apache-2.0
// Writes OTLP requests of random entries and of some metrics, each as protobuf (.pb) and as JSON (.json):
// export_examples DIR
#include "kept_entry.h"

#include "export/export_bodies.h"
#include "export/exported_attributes.h"
#include "metric/metric_feed.h"
#include "metric/metric_otlp.h"
#include "metric/metric_registry.h"
#include "model/otlp_wire.h"

#include <nopspan/probes.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
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

// A chat that failed, and its events, with every field that OTLP has and nopspan writes.
void write_fields(const Folder& folder) {
  ExportBodies feed({}, [&folder](const ExportBody& body) {
    folder.write(body.signal == Signal::traces ? "fields-traces" : "fields-logs", body);
  });
  feed.on_tick(kBegin + 5 * kSecond);
  Process process = *make_process(12);
  process.resource_attributes = "malformed";
  const ProcessPointer shared = std::make_shared<const Process>(process);
  const KeptEntry kept = chat_span(shared);
  Entry chat = kept.entry(), event = chat;
  const std::string dropped("\x4a\x03\x12\x01\x1b", 5), dropped_of_event("\x1a\x03\x12\x01\x1b", 5);
  const std::string texts = text_attribute("nopspan.error.message", "no answer") +
                            text_attribute(NOPSPAN_ATTRIBUTE_LINKS, "303 vendor=2\n") + dropped;
  const std::string of_event = text_attribute("key", "value", true) + dropped_of_event;
  event.kind = Kind::event;
  event.attributes = of_event;
  event.links = {};
  for (const char* const name : {"gen_ai.prompt.sent", "gen_ai.evaluation.result"}) {
    event.name = name;
    feed.add(event);
  }
  chat.attributes = texts;
  chat.flags |= NOPSPAN_FLAG_RANDOM | NOPSPAN_FLAG_REMOTE_PARENT;
  chat.status = kError;
  chat.error_type = "timeout";
  feed.add(chat);
  feed.finish();
}

// Two services, and the ledger of nopspan itself. The second file has what came after the first one, and the
// third one what came after the clock was set back.
void write_services(const Folder& folder) {
  MetricRegistry registry({}, true);
  MetricFeed feed(registry, {});
  MetricDeltas deltas(Temporality::delta);
  const auto write = [&](const std::string& name, std::uint64_t unix_ns, bool as_delta) {
    feed.on_tick(unix_ns);
    MetricSnapshot snapshot = registry.snapshot();
    if (as_delta) deltas.apply(snapshot);
    const auto resource_of = [](const Process* service) {
      Process own;
      own.service_name = "nopspan";
      std::uint64_t repaired = 0;
      return exported_resource(service != nullptr ? *service : own, {}, repaired);
    };
    for (const OtlpMetrics& part : otlp_metrics(snapshot, resource_of, "1.2.3")) {
      folder.write(name + "-metrics", {Signal::metrics, part.bytes, {}});
    }
  };
  const auto chat = [&](std::uint32_t pid, const char* service, const char* attributes) {
    Process process = *make_process(pid);
    process.service_name = service;
    process.resource_attributes = attributes;
    const ProcessPointer shared = std::make_shared<const Process>(process);
    const KeptEntry kept = chat_span(shared);
    feed.on_entry(kept.entry());
  };
  feed.on_tick(kBegin);
  MetricFamily& emitted = registry.counter("nopspan.entries.emitted", "{entry}", "Entries.");
  MetricWriter(registry).total(emitted, 6, {});
  for (const std::uint32_t pid : {1U, 2U, 4U}) chat(pid, "checkout", "service.version=1,service.instance.id=pod-7");
  chat(1, "checkout", "service.version=2");
  chat(8, "billing", "service.version=1");
  write("services", kBegin + kSecond, false);
  write("first", kBegin + kSecond, true);
  chat(8, "billing", "service.version=1");
  write("second", kBegin + 2 * kSecond, true);
  chat(8, "billing", "service.version=1");
  write("earlier", kBegin, true);
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
  const auto resource_of = [](const Process* /*service*/) {
    std::string resource;
    append_text_attribute(resource, kResourceAttributes, "service.name", "nopspan");
    return resource;
  };
  for (const std::size_t most_bytes : {std::size_t{1} << 20U, std::size_t{1}}) {
    int number = 0;
    for (const OtlpMetrics& part :
         otlp_metrics(registry.snapshot(), resource_of, "1.2.3", nopspan::Semconv::v1_41, most_bytes)) {
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
  write_fields(folder);
  write_services(folder);
}
