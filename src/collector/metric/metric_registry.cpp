// SPDX-License-Identifier: Apache-2.0
#include "metric/metric_registry.h"

#include "base/random.h"
#include "facts/row_key.h"
#include "metric/metric_family.h"
#include "model/service.h"

#include <algorithm>
#include <cmath>

namespace nopspan::collector {
namespace {

constexpr std::string_view kOther = "other";
constexpr std::size_t kMostProcesses = 65536;
constexpr std::uint64_t kSweepTime = 10 * kSecond;
// A longer step between two ticks is a change of the clock, or a gap in a recording. It counts as this much time.
constexpr std::uint64_t kMostStep = 60 * kSecond;
// A value that is older than the last one by less than this was delivered late. Otherwise the clock was set back.
constexpr std::uint64_t kMostLate = 10 * kSecond;

const MetricSubject kNobody;

std::string random_seed_text() {
  const std::uint64_t seed = random_seed();
  return {reinterpret_cast<const char*>(&seed), sizeof(seed)};
}

// Spans arrive in another order than they end in, and Prometheus refuses an exemplar that is older than the last one of
// its series, or of the same millisecond. If it is much older, the clock was set back.
bool is_newer(const Exemplar& a, const Exemplar& b) {
  constexpr std::uint64_t kMs = 1'000'000;
  return a.unix_ns / kMs > b.unix_ns / kMs || a.unix_ns + kMostLate < b.unix_ns;
}

void count_overflow(MetricFamily& family, CountedAs as, std::uint64_t observations) {
  family.overflow[static_cast<std::size_t>(as)] += observations;
}

}  // namespace

MetricRegistry::MetricRegistry(const MetricLimits& limits, bool by_resource)
    : limits_(limits), by_resource_(by_resource), seed_(random_seed_text()) {}

MetricRegistry::~MetricRegistry() = default;

MetricFamily& MetricRegistry::family(const MetricDescription& about) {
  const std::lock_guard lock(mutex_);
  const auto known = by_name_.find(about.name);
  if (known != by_name_.end()) return *known->second;
  MetricFamily& added = *families_.emplace_back(std::make_unique<MetricFamily>(about, seed_));
  by_name_.emplace(added.about->name, &added);
  return added;
}

MetricSubject MetricRegistry::subject_of_resource_like(Process resource) {
  ProcessPointer& known = resources_[resource_identity(resource)];
  if (known == nullptr) known = std::make_shared<const Process>(std::move(resource));
  return subject_of_resource(known);
}

const MetricSubject& MetricRegistry::subject_of_process(const Process& process, std::uint64_t number) {
  if (last_process_ != &process || last_number_ != number) {
    last_process_ = &process;
    last_number_ = number;
    service_ = nullptr;
    subject_ = std::make_unique<MetricSubject>(by_resource_ ? subject_of_resource_like(resource_as_process(process))
                                                            : subject_of_service(process));
  }
  return *subject_;
}

const MetricSubject& MetricRegistry::service_of_process(const Process& process) {
  if (service_ == nullptr) {
    service_ = std::make_unique<MetricSubject>(subject_of_resource_like(service_as_process(process)));
  }
  return *service_;
}

void MetricRegistry::advance(std::uint64_t now_unix_ns) {
  const std::lock_guard lock(mutex_);
  if (now_unix_ns > now_unix_ns_) now_ns_ += std::min(now_unix_ns - now_unix_ns_, kMostStep);
  now_unix_ns_ = now_unix_ns;
  last_owner_ = 0;
  last_process_ = nullptr;
  subject_ = nullptr;
  service_ = nullptr;
  if (now_ns_ < next_sweep_ns_) return;
  next_sweep_ns_ = now_ns_ + kSweepTime;
  std::erase_if(seen_ns_, [&](const auto& seen) { return seen.second + limits_.keep_gauge_ns < now_ns_; });
  const SeriesAges ages{now_ns_, by_resource_ ? std::optional(snapshot_ns_) : std::nullopt, seen_ns_};
  for (const auto& family : families_) family->forget_old(limits_, ages);
  std::erase_if(resources_, [](const auto& one) { return one.second.use_count() == 1; });  // without a series
}

MetricSnapshot MetricRegistry::snapshot() {
  MetricSnapshot made;
  {
    const std::lock_guard lock(mutex_);
    snapshot_ns_ = now_ns_;
    made.unix_ns = now_unix_ns_;
    made.families.reserve(families_.size());
    for (const auto& family : families_) {
      MetricFamilySnapshot& copied = made.families.emplace_back(MetricFamilySnapshot{family->about, {}});
      copied.points.reserve(family->series.size());
      for (const auto& [key, series] : family->series) copied.points.emplace_back(series);
    }
  }
  for (MetricFamilySnapshot& family : made.families) {
    std::sort(family.points.begin(), family.points.end(),
              [](const MetricPoint& a, const MetricPoint& b) { return *a.labels < *b.labels; });
  }
  return made;
}

std::vector<MetricOverflow> MetricRegistry::overflows() const {
  const std::lock_guard lock(mutex_);
  std::vector<MetricOverflow> found;
  for (const auto& family : families_) {
    const bool is_any = std::any_of(family->overflow.begin(), family->overflow.end(), [](auto n) { return n > 0; });
    if (is_any) found.push_back({family->about->name, family->overflow});
  }
  return found;
}

MetricWriter::MetricWriter(MetricRegistry& registry, std::uint64_t owner, std::uint64_t claimer, const Process* process)
    : registry_(registry),
      lock_(registry.mutex_),
      owner_(owner),
      claimer_(claimer),
      process_(process),
      subject_(process != nullptr ? registry.subject_of_process(*process, owner) : kNobody) {
  if (owner == registry.last_owner_ || owner == 0) return;
  registry.last_owner_ = owner;
  auto& seen = registry.seen_ns_;
  if (seen.size() < kMostProcesses || seen.contains(owner)) seen[owner] = registry.now_ns_;
}

MetricWriter::MetricWriter(MetricRegistry& registry, const Process& process)
    : MetricWriter(registry, number_of(process), process.claimed_by != 0 ? process.claimed_by : number_of(process),
                   &process) {}

MetricSeries* MetricWriter::find_or_add_to(MetricFamily& family, const MetricSubject& subject, SeriesRoom room,
                                           LabelValues values, MoreLabels more) {
  family.set_key(values, more, subject);
  MetricSeries* const found = family.find();
  if (found != nullptr) return found;
  return family.add(values, subject, room, registry_.limits_,
                    {owner_, claimer_, registry_.now_unix_ns_, registry_.now_ns_});
}

MetricSeries* MetricWriter::find_or_add(MetricFamily& family, LabelValues values, MoreLabels more) {
  return find_or_add_to(family, subject_, SeriesRoom::usual, values, more);
}

MetricSeries& MetricWriter::find_or_other(MetricFamily& family, LabelValues values, std::uint64_t observations) {
  if (MetricSeries* const own = find_or_add(family, values)) return *own;
  if (registry_.by_resource_ && process_ != nullptr) {
    const MetricSubject& service = registry_.service_of_process(*process_);
    if (MetricSeries* const services = find_or_add_to(family, service, SeriesRoom::services, values)) {
      count_overflow(family, CountedAs::service, observations);
      return *services;
    }
  }
  count_overflow(family, CountedAs::other, observations);
  const std::vector<std::string_view> others(family.about->labels.size(), kOther);
  return *find_or_add_to(family, kNobody, SeriesRoom::none, others);
}

void MetricWriter::add(MetricFamily& family, double amount, LabelValues values) {
  if (!(amount >= 0) || std::isinf(amount)) return;
  MetricSeries& series = find_or_other(family, values, 1);
  series.value += amount;
  series.changed_ns = registry_.now_ns_;
}

// A total is set in the same way.
bool MetricWriter::gauge(MetricFamily& family, double value, LabelValues values, MoreLabels more,
                         std::uint64_t unix_ns) {
  if (unix_ns == 0) unix_ns = registry_.now_unix_ns_;
  MetricSeries* const series = find_or_add(family, values, more);
  if (series == nullptr) {
    count_overflow(family, CountedAs::nothing, 1);
    return false;
  }
  series->changed_ns = registry_.now_ns_;
  if (unix_ns < series->at_unix_ns && series->at_unix_ns - unix_ns < kMostLate) return true;
  if (series->is_total && value < series->value) series->start_unix_ns = registry_.now_unix_ns_;
  series->is_total = true;
  series->at_unix_ns = unix_ns;
  series->value = value;
  return true;
}

void MetricWriter::total(MetricFamily& family, double total, LabelValues values, MoreLabels more,
                         std::uint64_t unix_ns) {
  if (total >= 0 && !std::isinf(total)) gauge(family, total, values, more, unix_ns);
}

void MetricWriter::forget(MetricFamily& family, LabelValues values) {
  family.set_key(values, {}, subject_);
  family.erase();
}

void MetricWriter::observe(MetricFamily& family, double value, LabelValues values, const Exemplar* exemplar,
                           std::uint64_t times) {
  if (!std::isfinite(value) || times == 0) return;
  MetricSeries& series = find_or_other(family, values, times);
  const std::vector<double>& bounds = family.about->bounds;
  const auto bucket = static_cast<std::size_t>(std::lower_bound(bounds.begin(), bounds.end(), value) - bounds.begin());
  series.buckets[bucket] += times;
  series.count += times;
  series.value += value * static_cast<double>(times);
  series.changed_ns = registry_.now_ns_;
  if (exemplar == nullptr) return;
  auto& all = series.exemplars;
  auto known =
      std::lower_bound(all.begin(), all.end(), bucket, [](const auto& one, std::size_t of) { return one.first < of; });
  if (known == all.end() || known->first != bucket) {
    known = all.emplace(known, bucket, *exemplar);
  } else if (is_newer(*exemplar, known->second)) {
    known->second = *exemplar;
  } else {
    return;
  }
  known->second.value = value;
}

}  // namespace nopspan::collector
