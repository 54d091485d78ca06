// SPDX-License-Identifier: Apache-2.0
#include "metric/metric_family.h"

#include "base/text.h"
#include "base/utf8.h"
#include "metric/metric_text.h"
#include "model/service.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::size_t kMostValueBytes = 256, kMostMoreLabels = 16;
// A family that is full forgets its series sooner.
constexpr std::uint64_t kKeepIfFull = 300 * kSecond;
// And still sooner, if no reader misses it: counts that are in a snapshot, and gauges of processes that do nothing.
constexpr std::uint64_t kKeepUnmissed = 60 * kSecond;

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

}  // namespace

MetricSubject subject_of_resource(const ProcessPointer& resource) {
  const Process* const address = resource.get();
  return {resource, {}, {reinterpret_cast<const char*>(&address), sizeof(address)}};
}

MetricSubject subject_of_service(const Process& process) {
  MetricSubject subject;
  std::string shown;
  for (const std::string_view key : kServiceKeys) {
    const std::string_view value = shown_value(resource_value(process, key), shown);
    if (value.empty()) continue;
    append_to_key(subject.key, key);
    append_to_key(subject.key, value);
    subject.labels.emplace_back(key, value);
  }
  return subject;
}

bool SeriesCounts::has(const Size& size, std::size_t bytes, const MetricLimits& limits, std::size_t parts,
                       std::size_t of) {
  return size.series < (limits.most_series * parts + of - 1) / of &&
         size.label_bytes + bytes <= limits.most_label_bytes() * parts / of;
}

bool SeriesCounts::has_room(const MetricLimits& limits, std::uint64_t owner, std::uint64_t claimer,
                            std::size_t bytes) const {
  if (!has(all_, bytes, limits, 1, 1)) return false;
  if (owner == 0) return true;
  const auto found = by_claimer_.find(claimer);
  const Size of_claimer = found != by_claimer_.end() ? found->second : Size();
  if (has(of_claimer, bytes, limits, 1, kPartsOfFew)) return true;
  return has(of_claimer, bytes, limits, 1, 2) && has(all_, bytes, limits, kPartsOfMany, kPartsOfAll);
}

bool SeriesCounts::is_nearly_full(const MetricLimits& limits) const {
  constexpr std::size_t kBytes = 4096;
  return !has(all_, kBytes, limits, kPartsOfMany, kPartsOfAll);
}

void SeriesCounts::add(std::uint64_t claimer, std::size_t bytes) {
  for (Size* const of : {&all_, &by_claimer_[claimer]}) {
    ++of->series;
    of->label_bytes += bytes;
  }
}

void SeriesCounts::remove(std::uint64_t claimer, std::size_t bytes) {
  const auto of_claimer = by_claimer_.find(claimer);
  for (Size* const of : {&all_, &of_claimer->second}) {
    --of->series;
    of->label_bytes -= bytes;
  }
  if (of_claimer->second.series == 0) by_claimer_.erase(of_claimer);
}

void MetricFamily::set_key(LabelValues values, MoreLabels more, const MetricSubject& subject) {
  (key_ = seed_) += subject.key;
  const std::size_t count = std::min(values.size(), about->labels.size());
  for (std::size_t i = 0; i < count; ++i) append_to_key(key_, shown_value(values[i], shown_));
  for (std::size_t i = count; i < about->labels.size(); ++i) append_to_key(key_, {});
  own_.clear();
  for (const auto& [name, value] : more) add_own(name, value, subject);
}

// Such a label does not replace one of the family, nor one that is the same in Prometheus. Nor is it one of the service
// that the process does not declare under its right name, because the service's other metrics do not have it.
void MetricFamily::add_own(std::string_view name, std::string_view value, const MetricSubject& subject) {
  if (own_.size() == kMostMoreLabels) return;
  OwnLabel own{std::string(shown_value(name, shown_)), {}, prometheus_label(cut_value(name))};
  own.value = shown_value(value, shown_);
  const auto is_same = [&](const OwnLabel& other) { return other.translated == own.translated; };
  const auto is_familys = [&](const std::string& label) { return prometheus_label(label) == own.translated; };
  const auto is_services = [&](std::string_view key) { return prometheus_label(key) == own.translated; };
  if (own.value.empty() || std::any_of(own_.begin(), own_.end(), is_same) ||
      std::any_of(about->labels.begin(), about->labels.end(), is_familys) ||
      (subject.resource == nullptr && std::any_of(std::begin(kServiceKeys), std::end(kServiceKeys), is_services))) {
    return;
  }
  append_to_key(key_, own.translated);
  append_to_key(key_, own.value);
  own_.push_back(std::move(own));
}

std::shared_ptr<const MetricLabels> MetricFamily::labels_of(LabelValues values, const MetricSubject& subject) const {
  auto labels = std::make_shared<MetricLabels>();
  std::string shown;
  const std::size_t count = std::min(values.size(), about->labels.size());
  for (std::size_t i = 0; i < count; ++i) {
    const std::string_view value = shown_value(values[i], shown);
    if (!value.empty()) labels->emplace_back(about->labels[i], value);
  }
  labels->insert(labels->end(), subject.labels.begin(), subject.labels.end());
  for (const OwnLabel& own : own_) labels->emplace_back(own.name, own.value);
  return labels;
}

MetricSeries* MetricFamily::find() {
  const auto found = series.find(key_);
  return found != series.end() ? &found->second : nullptr;
}

MetricSeries* MetricFamily::add(LabelValues values, const MetricSubject& subject, SeriesRoom room,
                                const MetricLimits& limits, const SeriesOrigin& origin) {
  if (room != SeriesRoom::none) {
    SeriesCounts& counts = counts_[static_cast<std::size_t>(room)];
    if (!counts.has_room(limits, origin.owner, origin.claimer, key_.size())) return nullptr;
    counts.add(origin.claimer, key_.size());
  }
  MetricSeries& added = series[key_];
  added.labels = labels_of(values, subject);
  added.resource = subject.resource;
  added.owner = origin.owner;
  added.claimer = origin.claimer;
  added.start_unix_ns = origin.unix_ns;
  added.changed_ns = origin.now_ns;
  added.room = room;
  if (about->type == MetricType::histogram) added.buckets.resize(about->bounds.size() + 1);
  return &added;
}

MetricFamily::AllSeries::iterator MetricFamily::erase(AllSeries::iterator one) {
  const SeriesRoom room = one->second.room;
  if (room != SeriesRoom::none) {
    counts_[static_cast<std::size_t>(room)].remove(one->second.claimer, one->first.size());
  }
  return series.erase(one);
}

void MetricFamily::erase() {
  const auto found = series.find(key_);
  if (found != series.end()) erase(found);
}

bool MetricFamily::is_old(const MetricSeries& one, bool is_full, const MetricLimits& limits,
                          const SeriesAges& ages) const {
  const auto is_older = [&](std::uint64_t since_ns, std::uint64_t than_ns) { return since_ns + than_ns < ages.now_ns; };
  if (about->type != MetricType::gauge) {
    if (ages.snapshot_ns && *ages.snapshot_ns <= one.changed_ns) return false;
    const std::uint64_t if_full_ns = ages.snapshot_ns ? kKeepUnmissed : kKeepIfFull;
    return is_older(one.changed_ns, is_full ? std::min(limits.keep_ns, if_full_ns) : limits.keep_ns);
  }
  if (is_full && is_older(one.changed_ns, kKeepIfFull)) return true;
  const std::uint64_t keep_ns = is_full ? std::min(limits.keep_gauge_ns, kKeepUnmissed) : limits.keep_gauge_ns;
  const auto seen = ages.seen_ns.find(one.owner);
  return is_older(one.changed_ns, keep_ns) && (seen == ages.seen_ns.end() || is_older(seen->second, keep_ns));
}

void MetricFamily::forget_old(const MetricLimits& limits, const SeriesAges& ages) {
  bool is_full[2];
  for (std::size_t room = 0; room < counts_.size(); ++room) is_full[room] = counts_[room].is_nearly_full(limits);
  for (auto one = series.begin(); one != series.end();) {
    const SeriesRoom room = one->second.room;
    const bool is_in_full = room != SeriesRoom::none && is_full[static_cast<std::size_t>(room)];
    one = is_old(one->second, is_in_full, limits, ages) ? erase(one) : std::next(one);
  }
}

}  // namespace nopspan::collector
