// SPDX-License-Identifier: Apache-2.0
// Counters, gauges and histograms in families, with a limit of series. Encoders: metric_text.h, metric_otlp.h.
#pragma once

#include "model/entry.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace nopspan::collector {

enum class MetricType : std::uint8_t { counter, gauge, histogram };

// The description of a family. Names are OpenTelemetry's, with dots. Encoders for Prometheus translate them
// (metric_text.h).
struct MetricDescription {
  std::string name;
  std::string unit = {};  // as OpenTelemetry writes units: "s", "By", "{token}"
  std::string help;
  MetricType type = MetricType::counter;
  std::vector<std::string> labels = {};
  std::vector<double> bounds = {};  // of a histogram: ascending upper bounds, without +Inf
  bool is_integer = false;          // a counter or gauge of whole numbers, for OTLP
};

using MetricLabels = std::vector<std::pair<std::string, std::string>>;  // name and value; no value is empty

// An observation that a histogram names as an example.
struct Exemplar {
  TraceId trace_id;
  std::uint64_t span_id = 0;
  double value = 0;
  std::uint64_t unix_ns = 0;
};

struct MetricPoint {
  std::shared_ptr<const MetricLabels> labels;
  // That it is about (resource_as_process(), service_as_process()); null: nopspan itself, any, or labels name it.
  ProcessPointer resource = nullptr;
  std::uint64_t start_unix_ns = 0;          // when the series began at 0
  double value = 0;                         // of a counter or gauge; of a histogram the sum
  std::uint64_t count = 0;                  // of a histogram
  std::vector<std::uint64_t> buckets = {};  // one for each bound and one for +Inf; not cumulative
  // The newest exemplar of each bucket that has one, with the bucket's number, ascending.
  std::vector<std::pair<std::size_t, Exemplar>> exemplars = {};
  bool is_total = false;  // somebody else counts it
  bool is_delta = false;  // since the last export (MetricDeltas)
};

struct MetricFamilySnapshot {
  std::shared_ptr<const MetricDescription> about;
  std::vector<MetricPoint> points;
};

struct MetricSnapshot {
  std::uint64_t unix_ns = 0;
  std::vector<MetricFamilySnapshot> families;  // in the order in which they were added; those without points too
};

// What became of observations that have no series of their own, because a family is full.
enum class CountedAs : std::uint8_t { service, other, nothing };
inline constexpr std::array<const char*, 3> kCountedAs = {"service", "other", "nothing"};
struct MetricOverflow {
  std::string family;
  std::array<std::uint64_t, kCountedAs.size()> observations{};
};

struct MetricLimits {
  // The limit of each family, without the series `other`. A registry by resource has as many series of services in
  // addition. One process may create half of them, but none of the last quarter if it has a sixteenth of all already.
  // The values of all labels of a family have at most 160 bytes for each of these series, so that a text for a scraper
  // has a bounded size too.
  std::size_t most_series = 2000;
  [[nodiscard]] std::size_t most_label_bytes() const { return std::max<std::size_t>(most_series * 160, 65536); }
  // A series that has not changed for this long is forgotten. If it returns, it begins at 0 with a new start time,
  // which readers of counters treat as a restart. The age does not follow a clock that is set: see advance().
  std::uint64_t keep_ns = 3600 * kSecond;
  // A gauge is forgotten if its process has not changed any series for this long, because the process has ended. Its
  // value stays until then, as in a program that a scraper reads.
  std::uint64_t keep_gauge_ns = 300 * kSecond;
};

class MetricFamily;  // metric_family.h
struct MetricSeries;
struct MetricSubject;
enum class SeriesRoom : std::uint8_t;

// All functions may be called by any thread.
class MetricRegistry {
 public:
  // `by_resource`: each resource has series of its own, as in OTLP. Otherwise services have series of their own, and
  // labels distinguish all series, as in Prometheus.
  explicit MetricRegistry(const MetricLimits& limits = {}, bool by_resource = false);
  ~MetricRegistry();
  MetricRegistry(const MetricRegistry&) = delete;
  MetricRegistry& operator=(const MetricRegistry&) = delete;

  // Adds a family, which exists as long as the registry. If there is one of this name, it is returned. Must not be
  // called while this thread has a MetricWriter.
  MetricFamily& family(const MetricDescription& about);
  // Families of whole numbers.
  MetricFamily& counter(const char* name, const char* unit, const char* help, std::vector<std::string> labels = {}) {
    return family({name, unit, help, MetricType::counter, std::move(labels), {}, true});
  }
  MetricFamily& gauge(const char* name, const char* unit, const char* help, std::vector<std::string> labels = {}) {
    return family({name, unit, help, MetricType::gauge, std::move(labels), {}, true});
  }
  MetricFamily& histogram(std::string_view name, std::string_view unit, const char* help,
                          std::vector<std::string> labels, std::span<const double> bounds) {
    return family({std::string(name),
                   std::string(unit),
                   help,
                   MetricType::histogram,
                   std::move(labels),
                   {bounds.begin(), bounds.end()}});
  }

  // The time in the source's clock: the time of a snapshot, and of the start of new series. Forgets old series. Call it
  // every second: of a longer step only one minute counts as time, because the clock may have been set.
  void advance(std::uint64_t now_unix_ns);

  // A copy of all numbers, in the order of their labels. The labels are shared and not copied. A registry by resource
  // keeps the counts that have changed since the last snapshot, so call it for the receivers only.
  [[nodiscard]] MetricSnapshot snapshot();

  // Of the families that have been full, since the registry was created.
  [[nodiscard]] std::vector<MetricOverflow> overflows() const;

 private:
  friend class MetricWriter;

  const MetricSubject& subject_of_process(const Process& process, std::uint64_t number);
  // In a registry by resource: where what has no room is counted.
  const MetricSubject& service_of_process(const Process& process);
  MetricSubject subject_of_resource_like(Process resource);

  const MetricLimits limits_;
  const bool by_resource_;
  const std::string seed_;  // of the keys of series, because hostile processes could choose names with equal hashes
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<MetricFamily>> families_;
  std::unordered_map<std::string_view, MetricFamily*> by_name_;
  std::unordered_map<std::uint64_t, std::uint64_t> seen_ns_;   // by process, of those that may have gauges
  std::uint64_t last_owner_ = 0;                               // since the last tick
  std::unordered_map<std::string, ProcessPointer> resources_;  // by resource_identity()
  // The process of the last change, since the last tick. Usually many entries of one process follow each other.
  const Process* last_process_ = nullptr;
  std::uint64_t last_number_ = 0;
  std::unique_ptr<MetricSubject> subject_, service_;  // of this process; null: not known yet
  std::uint64_t snapshot_ns_ = 0;                     // the last snapshot, on the registry's own clock
  std::uint64_t now_unix_ns_ = 0;
  std::uint64_t now_ns_ = 0, next_sweep_ns_ = 0;  // on the registry's own clock, which is not set and begins at 0
};

// The values of a family's labels, in their order. Missing ones at the end, and empty ones, are left out.
class LabelValues : public std::span<const std::string_view> {
 public:
  using span::span;  // NOLINT: clang-tidy takes it for a constructor
  LabelValues(std::initializer_list<std::string_view> values) : span(values.begin(), values.size()) {}  // NOLINT
};
// Labels beyond those of the family, for example those that a process gave to a gauge.
using MoreLabels = std::span<const MetricLabels::value_type>;

// Changes series. It holds the registry's lock, so use one for all changes that an entry causes, and no longer.
//
// If a family is full, a counter or histogram of a registry by resource changes the series of its service instead. If
// these are full too, and in other registries, it changes the series `other`, in which each label has the value
// `other`. A gauge or total is dropped, because a sum of unrelated ones would mean nothing. MetricRegistry::overflows()
// counts all of these.
class MetricWriter {
 public:
  // `owner` identifies the process whose entry causes the changes (number_of() in row_key.h). 0: nopspan itself.
  explicit MetricWriter(MetricRegistry& registry, std::uint64_t owner = 0) : MetricWriter(registry, owner, owner) {}
  // The process causes the changes, and the series are those of its resource or service.
  MetricWriter(MetricRegistry& registry, const Process& process);
  // Processes with the same `claimer` have the share of one process. `process`: the owner, if the series are those of
  // its resource or service.
  MetricWriter(MetricRegistry& registry, std::uint64_t owner, std::uint64_t claimer, const Process* process = nullptr);

  // Adds to a counter. Negative amounts and NaN are ignored.
  void add(MetricFamily& family, double amount, LabelValues values);
  // Sets a counter whose total somebody else counts. A total that falls is a restart. `unix_ns` is the time of the
  // total; 0: now. One that is a few seconds older than the last one was delivered late, and is ignored.
  void total(MetricFamily& family, double total, LabelValues values, MoreLabels more = {}, std::uint64_t unix_ns = 0);
  // False if there is no room for the gauge.
  bool gauge(MetricFamily& family, double value, LabelValues values, MoreLabels more = {}, std::uint64_t unix_ns = 0);
  // Adds an observation to a histogram, `times` times. NaN and infinite values are ignored. `exemplar` may be null; its
  // value is that of the observation.
  void observe(MetricFamily& family, double value, LabelValues values, const Exemplar* exemplar = nullptr,
               std::uint64_t times = 1);
  // Removes a series that is no longer counted.
  void forget(MetricFamily& family, LabelValues values);

 private:
  // Returns null if the family is full.
  MetricSeries* find_or_add(MetricFamily& family, LabelValues values, MoreLabels more = {});
  // Returns another series if the family is full, and counts that.
  MetricSeries& find_or_other(MetricFamily& family, LabelValues values, std::uint64_t observations);
  MetricSeries* find_or_add_to(MetricFamily& family, const MetricSubject& subject, SeriesRoom room, LabelValues values,
                               MoreLabels more = {});

  MetricRegistry& registry_;
  const std::lock_guard<std::mutex> lock_;
  const std::uint64_t owner_, claimer_;
  const Process* const process_;
  const MetricSubject& subject_;
};

}  // namespace nopspan::collector
