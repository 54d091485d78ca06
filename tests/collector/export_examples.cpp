// SPDX-License-Identifier: Apache-2.0
// Writes OTLP requests of random entries and of metrics, each as protobuf (.pb) and as JSON (.json): export_examples
// DIR. With `-` in place of DIR and a number in place of a signal (0 traces, 1 logs, 2 metrics), it writes the JSON of
// the request that it reads: export_examples - 0
#include "kept_entry.h"

#include "export/export_feed.h"
#include "export/otlp_json.h"

#include <nopspan/probes.h>

#include <protozero/pbf_writer.hpp>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <random>
#include <string>
#include <vector>

using namespace nopspan::collector;
using protozero::pbf_writer;

namespace {

constexpr std::uint64_t kBegin = 1'790'000'000'000'000'000;

class Folder {
 public:
  explicit Folder(std::string path) : path_(std::move(path)) {}
  void write(const std::string& name, const ExportBody& body) const {
    const auto json = otlp_json(body.signal, body.bytes);
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
  ExportFeed feed({}, [&folder](const ExportBody& body) {
    folder.write(body.signal == Signal::traces ? "random-traces" : "random-logs", body);
  });
  feed.on_tick(kBegin + 5 * kSecond);
  std::vector<nopspan_member> members;
  for (int i = 0; i < 500; ++i) {
    feed.add(any_span(random, processes).entry());
    if (i % 10 == 0) feed.add(any_step(random, processes, members).entry());
  }
  feed.finish();
}

void add_times(pbf_writer& point) {
  point.add_fixed64(2, kBegin);
  point.add_fixed64(3, kBegin + kSecond);
}

void add_exemplar(pbf_writer& point, unsigned field) {
  pbf_writer exemplar(point, field);
  exemplar.add_fixed64(2, kBegin);
  exemplar.add_double(3, 0.25);
  exemplar.add_bytes(4, std::string(8, '\x44'));
  exemplar.add_bytes(5, std::string(16, '\x55'));
}

ExportBody metrics_body() {
  ExportBody body{Signal::metrics, {}, {}};
  pbf_writer request(body.bytes);
  pbf_writer resource_metrics(request, 1);
  pbf_writer scope_metrics(resource_metrics, 2);
  {
    pbf_writer metric(scope_metrics, 2);
    metric.add_string(1, "kv.used");
    metric.add_string(3, "1");
    pbf_writer gauge(metric, 5);
    pbf_writer whole(gauge, 1);
    add_times(whole);
    whole.add_sfixed64(6, -17);
  }
  {
    pbf_writer metric(scope_metrics, 2);
    metric.add_string(1, "requests");
    pbf_writer sum(metric, 7);
    for (const double value : {0.5, -0.0, 1e300, std::numeric_limits<double>::infinity(),
                               -std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
      pbf_writer point(sum, 1);
      add_times(point);
      point.add_double(4, value);
      add_exemplar(point, 5);
      point.add_uint32(8, 1);
    }
    sum.add_enum(2, 2);
    sum.add_bool(3, true);
  }
  {
    pbf_writer metric(scope_metrics, 2);
    metric.add_string(1, "duration");
    pbf_writer histogram(metric, 9);
    {
      pbf_writer point(histogram, 1);
      add_times(point);
      point.add_fixed64(4, 1'000'000'000'000'000'001U);
      point.add_double(5, 3.5);
      const std::vector<std::uint64_t> counts = {1, 0, 1'000'000'000'000'000'000U};
      const std::vector<double> bounds = {0.1, 1};
      point.add_packed_fixed<std::uint64_t>(6, counts.begin(), counts.end());
      point.add_packed_double(7, bounds.begin(), bounds.end());
      add_exemplar(point, 8);
      point.add_double(11, 0.05);
      point.add_double(12, 2);
    }
    histogram.add_enum(2, 1);
  }
  {
    pbf_writer metric(scope_metrics, 2);
    metric.add_string(1, "native");
    pbf_writer histogram(metric, 10);
    {
      pbf_writer point(histogram, 1);
      add_times(point);
      point.add_fixed64(4, 9);
      point.add_sint32(6, -3);
      point.add_fixed64(7, 2);
      pbf_writer buckets(point, 8);
      buckets.add_sint32(1, -12);
      const std::vector<std::uint64_t> counts = {3, 0, 4};
      buckets.add_packed_uint64(2, counts.begin(), counts.end());
    }
    histogram.add_enum(2, 2);
  }
  return body;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3) {
    const std::string request(std::istreambuf_iterator<char>(std::cin), {});
    const auto json = otlp_json(static_cast<Signal>(std::atoi(argv[2])), request);
    if (json) std::fwrite(json->data(), 1, json->size(), stdout);
    return json ? 0 : 1;
  }
  if (argc != 2) return 2;
  const Folder folder(argv[1]);
  write_random(folder);
  folder.write("metrics", metrics_body());
}
