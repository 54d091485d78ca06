// SPDX-License-Identifier: Apache-2.0
// A family of series, as the registry holds it.
#pragma once

#include "metric/metric_registry.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace nopspan::collector {

// A family has the limit of series (MetricLimits) once for each kind of room.
enum class SeriesRoom : std::uint8_t {
  usual,
  services,  // series of a service, for what had no room
  none,      // the series `other`
};

struct MetricSeries : MetricPoint {
  std::uint64_t owner = 0, claimer = 0;
  std::uint64_t changed_ns = 0;  // on the registry's own clock
  std::uint64_t at_unix_ns = 0;  // the time of a value that somebody else measured
  SeriesRoom room = SeriesRoom::usual;
};

// What the series of a process are about. Empty: nopspan itself, or anybody.
struct MetricSubject {
  ProcessPointer resource = nullptr;  // in a registry by resource
  MetricLabels labels = {};           // in others: of the service, in addition to its name
  std::string key = {};               // in the keys of its series
};
MetricSubject subject_of_resource(const ProcessPointer& resource);
MetricSubject subject_of_service(const Process& process);

// Whose series it is, and when it was created.
struct SeriesOrigin {
  std::uint64_t owner = 0, claimer = 0;
  std::uint64_t unix_ns = 0, now_ns = 0;
};

// The numbers of series that all processes have together, and that each has created.
class SeriesCounts {
 public:
  // Whether one with so many bytes of labels may be created.
  [[nodiscard]] bool has_room(const MetricLimits& limits, std::uint64_t owner, std::uint64_t claimer,
                              std::size_t bytes) const;
  [[nodiscard]] bool is_nearly_full(const MetricLimits& limits) const;
  void add(std::uint64_t claimer, std::size_t bytes);
  void remove(std::uint64_t claimer, std::size_t bytes);

 private:
  struct Size {
    std::size_t series = 0, label_bytes = 0;
  };
  // A process may create half of the series. The last quarter is for processes that have few, so that a few processes
  // with names without end do not keep all others out.
  static constexpr std::size_t kPartsOfMany = 3, kPartsOfAll = 4, kPartsOfFew = 16;

  // Whether another series with so many bytes fits into this part of the limits.
  static bool has(const Size& size, std::size_t bytes, const MetricLimits& limits, std::size_t parts, std::size_t of);

  Size all_;
  std::unordered_map<std::uint64_t, Size> by_claimer_;
};

// What decides which series of a family are forgotten. Times are those of the registry's own clock.
struct SeriesAges {
  std::uint64_t now_ns = 0;
  std::optional<std::uint64_t> snapshot_ns;  // the last snapshot, if readers get nothing but snapshots
  const std::unordered_map<std::uint64_t, std::uint64_t>& seen_ns;  // when each process changed any series
};

class MetricFamily {
 public:
  // By the values of the labels, each after its length.
  using AllSeries = std::unordered_map<std::string, MetricSeries>;

  // `seed` is a part of all keys, and must outlive the family.
  MetricFamily(const MetricDescription& is, const std::string& seed)
      : about(std::make_shared<MetricDescription>(is)), seed_(seed) {}

  const std::shared_ptr<const MetricDescription> about;
  AllSeries series;
  std::array<std::uint64_t, kCountedAs.size()> overflow{};  // observations without a series of their own

  // The key is made of what readers see, so that two series of a resource never look the same.
  void set_key(LabelValues values, MoreLabels more, const MetricSubject& subject);
  // The series of the key that is set, or null.
  MetricSeries* find();
  // Adds one with the labels that were set with the key. Null if there is no room.
  MetricSeries* add(LabelValues values, const MetricSubject& subject, SeriesRoom room, const MetricLimits& limits,
                    const SeriesOrigin& origin);
  // The series of the key that is set, if there is one.
  void erase();
  void forget_old(const MetricLimits& limits, const SeriesAges& ages);

 private:
  AllSeries::iterator erase(AllSeries::iterator one);
  // A label that a process gave to a gauge.
  struct OwnLabel {
    std::string name, value, translated;
  };

  void add_own(std::string_view name, std::string_view value, const MetricSubject& subject);
  [[nodiscard]] std::shared_ptr<const MetricLabels> labels_of(LabelValues values, const MetricSubject& subject) const;
  [[nodiscard]] bool is_old(const MetricSeries& one, bool is_full, const MetricLimits& limits,
                            const SeriesAges& ages) const;

  const std::string& seed_;
  std::string key_;            // of the series that is being looked for
  std::vector<OwnLabel> own_;  // of the key
  std::string shown_;
  std::array<SeriesCounts, 2> counts_;  // by SeriesRoom
};

}  // namespace nopspan::collector
