// SPDX-License-Identifier: Apache-2.0
#include "metric/metric_otlp.h"

#include "model/otlp_wire.h"

#include <protozero/pbf_writer.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <map>
#include <utility>

namespace nopspan::collector {
namespace {

// Numbers of fields and values in opentelemetry/proto/metrics/v1/metrics.proto.
constexpr unsigned kResourceMetrics = 1, kResource = 1, kScopeMetrics = 2, kScope = 1, kMetric = 2;
namespace otlp_metric {
constexpr unsigned kName = 1, kDescription = 2, kUnit = 3, kGauge = 5, kSum = 7, kHistogram = 9;
}
constexpr unsigned kDataPoint = 1, kTemporality = 2, kIsMonotonic = 3;  // of gauges, sums and histograms
namespace otlp_point {
constexpr unsigned kStart = 2, kTime = 3;  // of all points
constexpr unsigned kDouble = 4, kInteger = 6, kAttributesOfNumber = 7;
constexpr unsigned kCount = 4, kSum = 5, kBucketCounts = 6, kBounds = 7, kExemplar = 8, kAttributesOfHistogram = 9;
}  // namespace otlp_point
constexpr unsigned kExemplarTime = 2, kExemplarDouble = 3, kExemplarSpanId = 4, kExemplarTraceId = 5;
constexpr std::int32_t kDelta = 1, kCumulative = 2;

// Labels that the conventions define as integers.
bool is_integer_label(std::string_view name) { return name == "server.port" || name == "process.pid"; }

void add_attributes(std::string& out, unsigned field, const MetricLabels& labels) {
  for (const auto& [name, value] : labels) {
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (is_integer_label(name) && error == std::errc() && end == value.data() + value.size()) {
      append_integer_attribute(out, field, name, number);
    } else {
      append_text_attribute(out, field, name, value);
    }
  }
}

void add_exemplars(protozero::pbf_writer& out, const MetricPoint& point) {
  for (const auto& [bucket, exemplar] : point.exemplars) {
    protozero::pbf_writer written(out, otlp_point::kExemplar);
    written.add_fixed64(kExemplarTime, exemplar.unix_ns);
    written.add_double(kExemplarDouble, exemplar.value);
    std::array<char, 8> id{};  // the most significant byte first
    for (std::size_t i = 0; i < id.size(); ++i) id[i] = static_cast<char>(exemplar.span_id >> (56 - 8 * i));
    written.add_bytes(kExemplarSpanId, id.data(), id.size());
    written.add_bytes(kExemplarTraceId, reinterpret_cast<const char*>(exemplar.trace_id.bytes),
                      sizeof(exemplar.trace_id.bytes));
  }
}

std::string point_bytes(const MetricDescription& about, const MetricPoint& point, std::uint64_t unix_ns) {
  std::string out;
  protozero::pbf_writer writer(out);
  // The clock may have been set back since the start.
  if (about.type != MetricType::gauge) writer.add_fixed64(otlp_point::kStart, std::min(point.start_unix_ns, unix_ns));
  writer.add_fixed64(otlp_point::kTime, unix_ns);
  if (about.type != MetricType::histogram) {
    if (about.is_integer && std::abs(point.value) < 0x1p63) {
      writer.add_sfixed64(otlp_point::kInteger, static_cast<std::int64_t>(point.value));
    } else {
      writer.add_double(otlp_point::kDouble, point.value);
    }
    add_attributes(out, otlp_point::kAttributesOfNumber, *point.labels);
    return out;
  }
  writer.add_fixed64(otlp_point::kCount, point.count);
  writer.add_double(otlp_point::kSum, point.value);
  writer.add_packed_fixed64(otlp_point::kBucketCounts, point.buckets.begin(), point.buckets.end());
  writer.add_packed_double(otlp_point::kBounds, about.bounds.begin(), about.bounds.end());
  add_exemplars(writer, point);
  add_attributes(out, otlp_point::kAttributesOfHistogram, *point.labels);
  return out;
}

// Collects metrics until a message is full.
class OtlpMetricsEncoder {
 public:
  OtlpMetricsEncoder(std::string_view version, Semconv semconv, std::size_t most_bytes)
      : semconv_(semconv), most_bytes_(most_bytes) {
    append_text(scope_, 1, "nopspan");
    append_text(scope_, 2, version);
  }

  void begin_resource(std::string_view resource) {
    finish_resource();
    head_.clear();
    append_bytes(head_, kResource, resource);
    append_schema_url(head_, semconv_);
  }

  void add(const MetricDescription& about, const MetricPoint& point, std::uint64_t unix_ns) {
    const std::string bytes = point_bytes(about, point, unix_ns);
    // The tag and the lengths of a point and of its metric are estimated.
    constexpr std::size_t kLengths = 32;
    const std::size_t more = bytes.size() + kLengths + about.name.size() + about.help.size() + about.unit.size();
    const std::size_t has = message_.size() + head_.size() + scope_.size() + metrics_.size() + data_.size();
    if (points_ != 0 && has + more > most_bytes_) finish_message();
    if (about_ != &about) finish_metric();
    about_ = &about;
    is_delta_ = point.is_delta;
    append_bytes(data_, kDataPoint, bytes);
    ++points_;
  }

  std::vector<OtlpMetrics> take() {
    finish_message();
    return std::move(made_);
  }

 private:
  void finish_metric() {
    if (data_.empty()) return;
    const bool is_gauge = about_->type == MetricType::gauge, is_sum = about_->type == MetricType::counter;
    if (!is_gauge) append_varint(data_, kTemporality, is_delta_ ? kDelta : kCumulative);
    if (is_sum) append_varint(data_, kIsMonotonic, 1);
    std::string metric;
    append_text(metric, otlp_metric::kName, about_->name);
    append_text(metric, otlp_metric::kDescription, about_->help);
    append_text(metric, otlp_metric::kUnit, about_->unit);
    append_bytes(metric, is_gauge ? otlp_metric::kGauge : is_sum ? otlp_metric::kSum : otlp_metric::kHistogram, data_);
    append_bytes(metrics_, kMetric, metric);
    data_.clear();
    about_ = nullptr;
  }

  void finish_resource() {
    finish_metric();
    if (metrics_.empty()) return;
    std::string scope, resource = head_;
    append_bytes(scope, kScope, scope_);
    append_schema_url(scope, semconv_);
    append_bytes(resource, kScopeMetrics, scope += metrics_);
    append_bytes(message_, kResourceMetrics, resource);
    metrics_.clear();
  }

  void finish_message() {
    finish_resource();
    if (points_ != 0) made_.push_back({std::exchange(message_, {}), std::exchange(points_, 0)});
  }

  const Semconv semconv_;
  const std::size_t most_bytes_;
  std::string head_, scope_;                  // the resource with its tag, the content of the scope
  std::string message_;                       // resources that are complete
  std::string metrics_;                       // metrics of this one that are complete
  const MetricDescription* about_ = nullptr;  // the metric that data_ has points of
  bool is_delta_ = false;                     // of these points
  std::string data_;
  std::uint64_t points_ = 0;
  std::vector<OtlpMetrics> made_;
};

}  // namespace

void MetricDeltas::apply(MetricSnapshot& snapshot) {
  if (temporality_ == Temporality::cumulative) return;
  std::unordered_map<const MetricLabels*, MetricPoint> now;
  for (MetricFamilySnapshot& family : snapshot.families) {
    if (family.about->type == MetricType::gauge) continue;
    for (MetricPoint& point : family.points) {
      if (temporality_ == Temporality::low_memory && point.is_total) continue;
      point.is_delta = true;
      MetricPoint whole = point;
      const auto found = before_.find(point.labels.get());
      if (found != before_.end() && found->second.start_unix_ns == point.start_unix_ns) {  // else it has restarted
        const MetricPoint& before = found->second;
        point.start_unix_ns = unix_ns_;
        point.value -= before.value;
        point.count -= before.count;
        for (std::size_t i = 0; i < point.buckets.size(); ++i) point.buckets[i] -= before.buckets[i];
        std::erase_if(point.exemplars, [&](const auto& one) {
          return std::any_of(before.exemplars.begin(), before.exemplars.end(), [&](const auto& old) {
            return old.first == one.first && old.second.span_id == one.second.span_id;
          });
        });
      }
      now.emplace(whole.labels.get(), std::move(whole));
    }
    std::erase_if(family.points,
                  [](const MetricPoint& point) { return point.is_delta && point.count == 0 && point.value == 0; });
  }
  before_ = std::move(now);
  unix_ns_ = snapshot.unix_ns;
}

std::vector<OtlpMetrics> otlp_metrics(const MetricSnapshot& snapshot, const ResourceOf& resource_of,
                                      std::string_view version, Semconv semconv, std::size_t most_bytes) {
  std::map<const Process*, std::vector<std::pair<const MetricDescription*, const MetricPoint*>>> resources;
  for (const MetricFamilySnapshot& family : snapshot.families) {
    for (const MetricPoint& point : family.points)
      resources[point.resource.get()].emplace_back(family.about.get(), &point);
  }
  OtlpMetricsEncoder encoder(version, semconv, most_bytes);
  for (const auto& [resource, points] : resources) {
    encoder.begin_resource(resource_of(resource));
    for (const auto& [about, point] : points) encoder.add(*about, *point, snapshot.unix_ns);
  }
  return encoder.take();
}

}  // namespace nopspan::collector
