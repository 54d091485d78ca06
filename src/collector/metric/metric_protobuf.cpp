// SPDX-License-Identifier: Apache-2.0
#include "metric/metric_protobuf.h"

#include "metric/metric_names.h"
#include "model/entry_json.h"

#include <protozero/pbf_writer.hpp>
#include <protozero/varint.hpp>

#include <cstdint>
#include <iterator>
#include <limits>
#include <string_view>

namespace nopspan::collector {
namespace {

// Numbers of fields and values in io/prometheus/client/metrics.proto.
namespace family_field {
constexpr unsigned kName = 1, kHelp = 2, kType = 3, kMetric = 4;
}
namespace metric_field {
constexpr unsigned kLabel = 1, kGauge = 2, kCounter = 3, kHistogram = 7;
}
namespace histogram_field {
constexpr unsigned kCount = 1, kSum = 2, kBucket = 3, kSchema = 5, kZeroThreshold = 6, kZeroCount = 7;
constexpr unsigned kPositiveSpan = 12, kPositiveDelta = 13, kCreated = 15;
}  // namespace histogram_field
namespace bucket_field {
constexpr unsigned kCumulativeCount = 1, kUpperBound = 2, kExemplar = 3;
}
namespace exemplar_field {
constexpr unsigned kLabel = 1, kValue = 2, kTimestamp = 3;
}
constexpr unsigned kCounterCreated = 3;

protozero::data_view view(std::string_view text) { return {text.data(), text.size()}; }

void add_label(protozero::pbf_writer& out, unsigned field, std::string_view name, std::string_view value) {
  protozero::pbf_writer label(out, field);
  label.add_string(1, view(name));
  label.add_string(2, view(value));
}

void add_timestamp(protozero::pbf_writer& out, unsigned field, std::uint64_t unix_ns) {
  protozero::pbf_writer timestamp(out, field);
  timestamp.add_int64(1, static_cast<std::int64_t>(unix_ns / kSecond));
  timestamp.add_int32(2, static_cast<std::int32_t>(unix_ns % kSecond));
}

void add_classic(protozero::pbf_writer& out, const MetricDescription& about, const MetricPoint& point) {
  std::uint64_t count = 0;
  auto exemplar = point.exemplars.begin();
  // Prometheus puts the exemplars of a native histogram into one series, and refuses each that is older than the one
  // before. So a native histogram has only its newest exemplar.
  const bool only_newest = !point.native.empty();
  for (std::size_t i = 0; i < point.buckets.size(); ++i) {
    count += point.buckets[i];
    protozero::pbf_writer bucket(out, histogram_field::kBucket);
    bucket.add_uint64(bucket_field::kCumulativeCount, count);
    bucket.add_double(bucket_field::kUpperBound,
                      i < about.bounds.size() ? about.bounds[i] : std::numeric_limits<double>::infinity());
    if (exemplar == point.exemplars.end() || exemplar->first != i) continue;
    const Exemplar& of = (exemplar++)->second;
    if (only_newest && i != point.newest_bucket) continue;
    protozero::pbf_writer written(bucket, bucket_field::kExemplar);
    add_label(written, exemplar_field::kLabel, "trace_id", id_text(of.trace_id));
    add_label(written, exemplar_field::kLabel, "span_id", id_text(of.span_id));
    written.add_double(exemplar_field::kValue, of.value);
    add_timestamp(written, exemplar_field::kTimestamp, of.unix_ns);
  }
}

// A span is a run of buckets without a gap; counts are differences to the bucket before.
void add_native(protozero::pbf_writer& out, const NativeBuckets& native) {
  out.add_sint32(histogram_field::kSchema, native.schema());
  out.add_double(histogram_field::kZeroThreshold, NativeBuckets::kZeroThreshold);
  out.add_uint64(histogram_field::kZeroCount, native.zero_count());
  std::int32_t end = 0;
  const auto& buckets = native.buckets();
  for (auto first = buckets.begin(); first != buckets.end();) {
    auto next = first;
    while (next != buckets.end() && next->first - first->first == next - first) ++next;
    protozero::pbf_writer span(out, histogram_field::kPositiveSpan);
    span.add_sint32(1, first->first - end);
    span.add_uint32(2, static_cast<std::uint32_t>(next - first));
    end = std::prev(next)->first + 1;
    first = next;
  }
  std::uint64_t before = 0;
  for (const auto& bucket : buckets) {
    out.add_sint64(histogram_field::kPositiveDelta, static_cast<std::int64_t>(bucket.second - before));
    before = bucket.second;
  }
}

void add_point(protozero::pbf_writer& out, const MetricDescription& about, const MetricPoint& point) {
  protozero::pbf_writer metric(out, family_field::kMetric);
  for (const auto& [name, value] : *point.labels) {
    add_label(metric, metric_field::kLabel, prometheus_label(name), value);
  }
  if (about.type == MetricType::gauge) {
    protozero::pbf_writer(metric, metric_field::kGauge).add_double(1, point.value);
  } else if (about.type == MetricType::counter) {
    protozero::pbf_writer counter(metric, metric_field::kCounter);
    counter.add_double(1, point.value);
    add_timestamp(counter, kCounterCreated, point.start_unix_ns);
  } else {
    protozero::pbf_writer histogram(metric, metric_field::kHistogram);
    histogram.add_uint64(histogram_field::kCount, point.count);
    histogram.add_double(histogram_field::kSum, point.value);
    add_classic(histogram, about, point);
    if (!point.native.empty()) add_native(histogram, point.native);
    add_timestamp(histogram, histogram_field::kCreated, point.start_unix_ns);
  }
}

}  // namespace

std::string prometheus_protobuf(const MetricSnapshot& snapshot) {
  constexpr std::int32_t kCounterType = 0, kGaugeType = 1, kHistogramType = 4;
  std::string out, family;
  for (const MetricFamilySnapshot& one : snapshot.families) {
    if (one.points.empty()) continue;
    const MetricDescription& about = *one.about;
    const bool is_counter = about.type == MetricType::counter;
    family.clear();
    protozero::pbf_writer writer(family);
    writer.add_string(family_field::kName, prometheus_name(about).name + (is_counter ? "_total" : ""));
    writer.add_string(family_field::kHelp, about.help);
    writer.add_enum(family_field::kType, is_counter                        ? kCounterType
                                         : about.type == MetricType::gauge ? kGaugeType
                                                                           : kHistogramType);
    for (const MetricPoint& point : one.points) add_point(writer, about, point);
    protozero::write_varint(std::back_inserter(out), family.size());
    out += family;
  }
  return out;
}

}  // namespace nopspan::collector
