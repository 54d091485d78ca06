// SPDX-License-Identifier: Apache-2.0
#include "metric/metric_registry.h"

#include "base/random.h"
#include "base/text.h"
#include "base/utf8.h"
#include "facts/row_key.h"
#include "metric/metric_text.h"
#include "model/service.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace nopspan::collector {
namespace {

constexpr std::string_view kOther = "other";
constexpr std::size_t kMostValueBytes = 256, kMostMoreLabels = 16;
constexpr std::size_t kMostProcesses = 65536;
constexpr std::uint64_t kSweepTime = 10 * kSecond;
// A longer step between two ticks is a change of the clock, or a gap in a recording. It counts as this much time.
constexpr std::uint64_t kMostStep = 60 * kSecond;
// A family that is full forgets its series sooner.
constexpr std::uint64_t kKeepIfFull = 300 * kSecond;
// A value that is older than the last one by less than this was delivered late. Otherwise the clock was set back.
constexpr std::uint64_t kMostLate = 10 * kSecond;

std::string random_seed_text() {
  const std::uint64_t seed = random_seed();
  return {reinterpret_cast<const char*>(&seed), sizeof(seed)};
}

// At most kMostValueBytes, without a part of a character at the end.
std::string_view cut_value(std::string_view text) {
  if (text.size() <= kMostValueBytes) return text;
  std::size_t end = kMostValueBytes;
  for (int i = 0; i < 3 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U; ++i) --end;
  return text.substr(0, end);
}

// A value that is safe to print, because people read metrics on terminals. It refers to the text or to `shown`. Texts
// that look the same share a series, as they must in Prometheus.
std::string_view shown_value(std::string_view text, std::string& shown) {
  text = cut_value(text);
  if (is_printable_ascii(text)) return text;
  shown = printable(text, kMostValueBytes);
  return cut_value(shown);
}

void append_to_key(std::string& key, std::string_view text) {
  const auto bytes = static_cast<std::uint16_t>(text.size());
  char size[sizeof(bytes)];
  std::memcpy(size, &bytes, sizeof(bytes));
  key.append(size, sizeof(size)).append(text);
}

// Spans arrive in another order than they end in, and Prometheus refuses an exemplar that is older than the last one of
// its series, or of the same millisecond. If it is much older, the clock was set back.
bool is_newer(const Exemplar& a, const Exemplar& b) {
  constexpr std::uint64_t kMs = 1'000'000;
  return a.unix_ns / kMs > b.unix_ns / kMs || a.unix_ns + kMostLate < b.unix_ns;
}

}  // namespace

struct MetricSeries : MetricPoint {
  std::uint64_t owner = 0, claimer = 0;
  std::uint64_t changed_ns = 0;  // on the registry's own clock
  std::uint64_t at_unix_ns = 0;  // the time of a value that somebody else measured
  bool is_other = false;         // the series `other`, which the limits do not count
};

class MetricFamily {
 public:
  // By the values of the labels, each after its length.
  using AllSeries = std::unordered_map<std::string, MetricSeries>;

  MetricFamily(const MetricDescription& is, const std::string& seed)
      : about(std::make_shared<MetricDescription>(is)), seed_(seed) {}

  const std::shared_ptr<const MetricDescription> about;
  AllSeries series;
  struct Size {
    std::size_t series = 0, label_bytes = 0;
  };
  Size size;                                           // of all series
  std::unordered_map<std::uint64_t, Size> by_claimer;  // of the series that each process created
  std::string key;                                     // of the series that is being looked for

  // The key is made of what readers see, so that two series of a service never look the same.
  void set_key(LabelValues values, MoreLabels more, const Process* service = nullptr) {
    key = seed_;
    if (service != nullptr) key.append(reinterpret_cast<const char*>(&service), sizeof(service));
    const std::size_t count = std::min(values.size(), about->labels.size());
    for (std::size_t i = 0; i < count; ++i) append_to_key(key, shown_value(values[i], shown_));
    for (std::size_t i = count; i < about->labels.size(); ++i) append_to_key(key, {});
    own_.clear();
    for (const auto& [name, value] : more) add_own(name, value);
  }

  // Of the key that is set.
  [[nodiscard]] std::shared_ptr<const MetricLabels> labels_of(LabelValues values) const {
    auto labels = std::make_shared<MetricLabels>();
    std::string shown;
    const std::size_t count = std::min(values.size(), about->labels.size());
    for (std::size_t i = 0; i < count; ++i) {
      const std::string_view value = shown_value(values[i], shown);
      if (!value.empty()) labels->emplace_back(about->labels[i], value);
    }
    for (const OwnLabel& own : own_) labels->emplace_back(own.name, own.value);
    return labels;
  }

  // Adds a series of the key that is set.
  MetricSeries& add(LabelValues values, std::uint64_t owner, std::uint64_t claimer, std::uint64_t now_unix_ns,
                    std::uint64_t now_ns) {
    MetricSeries& added = series[key];
    added.labels = labels_of(values);
    added.owner = owner;
    added.claimer = claimer;
    added.start_unix_ns = now_unix_ns;
    added.changed_ns = now_ns;
    if (about->type == MetricType::histogram) added.buckets.resize(about->bounds.size() + 1);
    return added;
  }

  [[nodiscard]] bool is_nearly_full(const MetricLimits& limits) const {
    return size.series >= limits.most_series || size.label_bytes + 4096 >= limits.most_label_bytes();
  }

  AllSeries::iterator erase(AllSeries::iterator one) {
    const auto claimer = by_claimer.find(one->second.claimer);
    for (Size* const of : {&size, claimer == by_claimer.end() ? nullptr : &claimer->second}) {
      if (of == nullptr || one->second.is_other) continue;
      --of->series;
      of->label_bytes -= one->first.size();
    }
    if (claimer != by_claimer.end() && claimer->second.series == 0) by_claimer.erase(claimer);
    return series.erase(one);
  }

  // `is_present(owner)`: whether the process may still run.
  template <class IsPresent>
  void forget(const MetricLimits& limits, std::uint64_t now_ns, const IsPresent& is_present) {
    const bool is_gauge = about->type == MetricType::gauge, is_full = is_nearly_full(limits);
    std::uint64_t keep = is_gauge ? limits.keep_gauge_ns : limits.keep_ns;
    if (is_full) keep = std::min(keep, kKeepIfFull);
    for (auto one = series.begin(); one != series.end();) {
      if (one->second.changed_ns + keep >= now_ns || (is_gauge && !is_full && is_present(one->second.owner))) {
        ++one;
        continue;
      }
      one = erase(one);
    }
  }

 private:
  // A label that a process gave to a gauge.
  struct OwnLabel {
    std::string name, value, translated;
  };

  // Such a label does not replace one of the family, nor one that is the same in Prometheus.
  void add_own(std::string_view name, std::string_view value) {
    if (own_.size() == kMostMoreLabels) return;
    OwnLabel own{std::string(shown_value(name, shown_)), {}, prometheus_label(cut_value(name))};
    own.value = shown_value(value, shown_);
    const auto is_same = [&](const OwnLabel& other) { return other.translated == own.translated; };
    const auto is_familys = [&](const std::string& label) { return prometheus_label(label) == own.translated; };
    if (own.value.empty() || std::any_of(own_.begin(), own_.end(), is_same) ||
        std::any_of(about->labels.begin(), about->labels.end(), is_familys)) {
      return;
    }
    append_to_key(key, own.translated);
    append_to_key(key, own.value);
    own_.push_back(std::move(own));
  }

  const std::string& seed_;
  std::vector<OwnLabel> own_;  // of the key
  std::string shown_;
};

MetricRegistry::MetricRegistry(const MetricLimits& limits, bool by_service)
    : limits_(limits), by_service_(by_service), seed_(random_seed_text()) {
  overflow_ =
      &counter("nopspan.metrics.overflow", "{observation}",
               "Observations without a series of their own, because the family of this name is full.", {"metric"});
}

MetricRegistry::~MetricRegistry() = default;

MetricFamily& MetricRegistry::family(const MetricDescription& about) {
  const std::lock_guard lock(mutex_);
  const auto known = by_name_.find(about.name);
  if (known != by_name_.end()) return *known->second;
  MetricFamily& added = *families_.emplace_back(std::make_unique<MetricFamily>(about, seed_));
  by_name_.emplace(added.about->name, &added);
  return added;
}

// Usually many entries of one process follow each other.
const ProcessPointer& MetricRegistry::service_of_process(const Process& process, std::uint64_t number) {
  if (last_service_ != nullptr && number == last_process_) return last_service_;
  ProcessPointer& service = services_[service_identity(process)];
  if (service == nullptr) service = std::make_shared<const Process>(service_as_process(process));
  last_process_ = number;
  return last_service_ = service;
}

void MetricRegistry::advance(std::uint64_t now_unix_ns) {
  const std::lock_guard lock(mutex_);
  if (now_unix_ns > now_unix_ns_) now_ns_ += std::min(now_unix_ns - now_unix_ns_, kMostStep);
  now_unix_ns_ = now_unix_ns;
  last_owner_ = 0;
  last_service_ = nullptr;
  if (now_ns_ < next_sweep_ns_) return;
  next_sweep_ns_ = now_ns_ + kSweepTime;
  std::erase_if(seen_ns_, [&](const auto& seen) { return seen.second + limits_.keep_gauge_ns < now_ns_; });
  const auto is_present = [this](std::uint64_t owner) { return seen_ns_.contains(owner); };
  for (const auto& family : families_) family->forget(limits_, now_ns_, is_present);
  std::erase_if(services_, [](const auto& service) { return service.second.use_count() == 1; });  // without a series
}

MetricSnapshot MetricRegistry::snapshot() const {
  MetricSnapshot made;
  {
    const std::lock_guard lock(mutex_);
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

MetricWriter::MetricWriter(MetricRegistry& registry, std::uint64_t owner, std::uint64_t claimer, const Process* process)
    : registry_(registry),
      lock_(registry.mutex_),
      owner_(owner),
      claimer_(claimer),
      service_(process != nullptr && registry.by_service_ ? registry.service_of_process(*process, owner) : nullptr) {
  if (owner == registry.last_owner_ || owner == 0) return;
  registry.last_owner_ = owner;
  auto& seen = registry.seen_ns_;
  if (seen.size() < kMostProcesses || seen.contains(owner)) seen[owner] = registry.now_ns_;
}

MetricWriter::MetricWriter(MetricRegistry& registry, const Process& process)
    : MetricWriter(registry, number_of(process), process.claimed_by != 0 ? process.claimed_by : number_of(process),
                   &process) {}

MetricSeries* MetricWriter::find_or_add(MetricFamily& family, LabelValues values, MoreLabels more,
                                        std::uint64_t observations) {
  family.set_key(values, more, service_.get());
  const auto found = family.series.find(family.key);
  if (found != family.series.end()) return &found->second;
  const MetricLimits& limits = registry_.limits_;
  MetricFamily::Size& of_claimer = family.by_claimer[claimer_];
  const std::size_t bytes = family.key.size();
  const auto has_room = [&](const MetricFamily::Size& size, std::size_t share) {
    return size.series < (limits.most_series + share - 1) / share &&
           size.label_bytes + bytes <= limits.most_label_bytes() / share;
  };
  if (has_room(family.size, 1) && (owner_ == 0 || has_room(of_claimer, 2))) {
    for (MetricFamily::Size* const of : {&family.size, &of_claimer}) {
      ++of->series;
      of->label_bytes += bytes;
    }
    MetricSeries& added = family.add(values, owner_, claimer_, registry_.now_unix_ns_, registry_.now_ns_);
    added.service = service_;
    return &added;
  }
  if (of_claimer.series == 0) family.by_claimer.erase(claimer_);
  if (&family != registry_.overflow_) {
    add(*registry_.overflow_, static_cast<double>(observations), {family.about->name});
  }
  return nullptr;
}

MetricSeries& MetricWriter::find_or_other(MetricFamily& family, LabelValues values, std::uint64_t observations) {
  MetricSeries* const series = find_or_add(family, values, {}, observations);
  if (series != nullptr) return *series;
  const std::vector<std::string_view> others(family.about->labels.size(), kOther);
  family.set_key(others, {});
  const auto found = family.series.find(family.key);
  if (found != family.series.end()) return found->second;
  MetricSeries& other = family.add(others, 0, 0, registry_.now_unix_ns_, registry_.now_ns_);
  other.is_other = true;
  return other;
}

void MetricWriter::add(MetricFamily& family, double amount, LabelValues values) {
  if (!(amount >= 0) || std::isinf(amount)) return;
  MetricSeries& series = find_or_other(family, values, 1);
  series.value += amount;
  series.changed_ns = registry_.now_ns_;
}

// A total is set in the same way.
void MetricWriter::gauge(MetricFamily& family, double value, LabelValues values, MoreLabels more,
                         std::uint64_t unix_ns) {
  if (unix_ns == 0) unix_ns = registry_.now_unix_ns_;
  MetricSeries* const series = find_or_add(family, values, more, 1);
  if (series == nullptr) return;
  series->changed_ns = registry_.now_ns_;
  if (unix_ns < series->at_unix_ns && series->at_unix_ns - unix_ns < kMostLate) return;
  if (series->is_total && value < series->value) series->start_unix_ns = registry_.now_unix_ns_;
  series->is_total = true;
  series->at_unix_ns = unix_ns;
  series->value = value;
}

void MetricWriter::total(MetricFamily& family, double total, LabelValues values, MoreLabels more,
                         std::uint64_t unix_ns) {
  if (total >= 0 && !std::isinf(total)) gauge(family, total, values, more, unix_ns);
}

// NOLINTNEXTLINE(readability-convert-member-functions-to-static): the writer has the lock
void MetricWriter::forget(MetricFamily& family, LabelValues values) {
  family.set_key(values, {});
  const auto found = family.series.find(family.key);
  if (found != family.series.end()) family.erase(found);
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
