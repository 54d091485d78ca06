// SPDX-License-Identifier: Apache-2.0
// Writes OTLP requests of known entries, and of random ones, each as protobuf (.pb) and as JSON (.json):
// export_examples DIR. With `-` in place of DIR and a number in place of a signal (0 traces, 1 logs, 2 metrics), it
// writes the JSON of the request that it reads: export_examples - 0
#include "kept_entry.h"

#include "export/export_feed.h"
#include "export/otlp_json.h"
#include "model/otlp_wire.h"

#include <nopspan/probes.h>

#include <protozero/pbf_writer.hpp>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <numeric>
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

// Passes the requests of a feed on to files: NAME-traces, NAME-logs.
class Requests {
 public:
  Requests(const Folder& folder, std::string name, const ExportOptions& options)
      : feed_(options, [&folder, name](const ExportBody& body) {
          folder.write(name + (body.signal == Signal::traces ? "-traces" : "-logs"), body);
        }) {
    feed_.on_tick(kBegin + 5 * kSecond);
  }
  ~Requests() { feed_.finish(); }
  void add(const Entry& entry) { feed_.add(entry); }

 private:
  ExportFeed feed_;
};

class Entries {
 public:
  explicit Entries(const ProcessPointer& process) : process_(process) {}
  Entry next(Kind kind, const char* name) {
    Entry entry;
    entry.kind = kind;
    entry.name = name;
    std::iota(std::begin(entry.trace_id.bytes), std::end(entry.trace_id.bytes), 1);
    entry.span_id = 0x1111111111111111U;
    entry.start_unix_ns = kBegin + sequence_;
    entry.thread_id = 77;
    entry.sequence_id = 0xfffffffffffffff0U;
    entry.sequence = sequence_++;
    entry.process = &process_;
    return entry;
  }

 private:
  const ProcessPointer& process_;
  std::uint64_t sequence_ = 40;
};

void write_known(const Folder& folder) {
  ExportOptions options;
  options.resource_attributes = {
      {"deployment.environment.name", "not this"}, {"service.name", "nor this"}, {"service.namespace", "shop"}};
  options.step_links = 2;
  const ProcessPointer process = make_process(12);
  Requests requests(folder, "known", options);
  Entries entries(process);

  const KeptEntry kept = chat_span(process);
  Entry event = entries.next(Kind::event, "gen_ai.prompt.sent");
  const std::string event_attributes = text_attribute("prompt", "größe", true) + integer_attribute("turn", -3, true);
  event.trace_id = kept.entry().trace_id;
  event.span_id = kept.entry().span_id;
  event.attributes = event_attributes;
  event.text = "llm.chat";
  requests.add(event);
  Entry retry = entries.next(Kind::retry, "llm.adapter.retry");
  retry.trace_id = event.trace_id;
  retry.span_id = event.span_id;
  retry.value = 500'000'000;
  retry.number = 2;
  retry.error_type = "rate_limit";
  requests.add(retry);
  requests.add(kept.entry());

  Entry thrown = entries.next(Kind::span, "db.query");
  const std::string thrown_attributes = text_attribute("nopspan.error.message", "no such table");
  thrown.attributes = thrown_attributes;
  thrown.duration_ns = 1000;
  thrown.status = kException;
  thrown.exception_kind = "error";
  thrown.error_type = "std::runtime_error";
  thrown.parent_id = 0x2222222222222222U;
  requests.add(thrown);

  Entry cancelled = entries.next(Kind::span, "tool");
  cancelled.status = kCancelled;
  cancelled.error_type = "deadline";
  cancelled.flags = NOPSPAN_FLAG_FOREIGN_ID | NOPSPAN_FLAG_REMOTE_PARENT | NOPSPAN_FLAG_SAMPLED;
  cancelled.foreign_id = "req-17";
  cancelled.parent_id = 0x3333333333333333U;
  cancelled.text = "search";
  cancelled.counts_tool = true;
  requests.add(cancelled);

  Entry hostile = entries.next(Kind::span, "\x1b[2J\xff");
  const std::string hostile_attributes =
      text_attribute("good", "1") + std::string("\x4a\x03\x0a\x01\xff", 5) + std::string("\x4a\x03\x12\x01\x1b", 5);
  hostile.attributes = hostile_attributes;
  requests.add(hostile);

  Entry step = entries.next(Kind::span, "engine.step");
  step.flags = NOPSPAN_FLAG_STEP | 1U << NOPSPAN_FLAG_KIND_SHIFT;
  nopspan_step facts{};
  facts.kind = NOPSPAN_STEP_MIXED;
  facts.number = 4;
  facts.members = facts.batch_size = 3;
  facts.members_with_prefill = 1;
  facts.prefill_tokens = 128;
  facts.decode_tokens = 2;
  facts.device_ns = 900;
  nopspan_member members[3] = {};
  members[0].request = kept.entry().span_id;
  members[1].request = 5;
  members[1].flags = NOPSPAN_MEMBER_OWN_KEY;
  members[2].request = thrown.span_id;
  step.step = &facts;
  step.members = {reinterpret_cast<const char*>(members), sizeof(members)};
  const std::string step_attributes =
      text_attribute("nopspan.device", "gpu0") + integer_attribute("nopspan.batch_size", 3);
  step.attributes = step_attributes;
  requests.add(step);

  Entry evaluation = entries.next(Kind::event, "gen_ai.evaluation.result");
  const std::string evaluation_attributes = text_attribute("gen_ai.evaluation.name", "relevance", true);
  evaluation.attributes = evaluation_attributes;
  evaluation.text = "llm.chat";
  evaluation.flags = NOPSPAN_FLAG_SAMPLED;
  requests.add(evaluation);
  Entry alone = entries.next(Kind::event, "cache.cleared");
  alone.trace_id = {};
  alone.span_id = 0;
  alone.tenant = "acme";
  requests.add(alone);
  Entry late = entries.next(Kind::retry, "gen_ai.retry");
  late.span_id = 0x4444444444444444U;
  late.number = 1;
  late.value = 1'500'000;
  late.text = "llm.chat";
  late.model = "small-1";
  requests.add(late);
}

void write_random(const Folder& folder) {
  const ExportOptions options;
  std::mt19937_64 random(19);
  const std::vector<ProcessPointer> processes = {make_process(1), make_process(2), make_process(15, "")};
  Requests requests(folder, "random", options);
  std::vector<nopspan_member> members;
  for (int i = 0; i < 500; ++i) {
    requests.add(any_span(random, processes).entry());
    if (i % 10 == 0) requests.add(any_step(random, processes, members).entry());
  }
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
  write_known(folder);
  write_random(folder);
  folder.write("metrics", metrics_body());
}
