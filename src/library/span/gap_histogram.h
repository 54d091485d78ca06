// SPDX-License-Identifier: Apache-2.0
// A histogram of the times between the tokens of a stream, with buckets of constant relative width.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nopspan::detail {

// There are 16 buckets of equal width below 1024 ns, and 16 for each power of two from there to 2^38 ns (275 s). One
// more bucket holds all longer times. The error of a quantile is at most 32 ns below 1 us and at most 1/33 up to 275 s.
// A quantile in the last bucket is reported as 2^38 ns. Zero-filled memory is an empty histogram.
class GapHistogram {
 public:
  static constexpr std::uint64_t kRange = std::uint64_t{1} << 38U;

  void add(std::uint64_t gap_ns, std::uint64_t times = 1) noexcept {
    std::uint32_t& bucket = buckets_[index(gap_ns)];
    bucket = times < UINT32_MAX - bucket ? bucket + static_cast<std::uint32_t>(times) : UINT32_MAX;
    if (gap_ns > longest_) longest_ = gap_ns;
  }

  [[nodiscard]] bool empty() const noexcept { return total() == 0; }
  [[nodiscard]] std::uint64_t longest() const noexcept { return longest_; }

  // The quantile by nearest rank: `percent` of 100 gaps are at most this long. 0 if the histogram is empty.
  [[nodiscard]] std::uint64_t quantile(unsigned percent) const noexcept {
    const std::uint64_t rank = (total() * percent + 99) / 100;
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < kBuckets; ++i) {
      seen += buckets_[i];
      if (seen >= rank && seen > 0) return middle(i) < longest_ ? middle(i) : longest_;
    }
    return 0;
  }

  // Calls `each(value, count)` at most kMostValues times, in ascending order of the values. A value stands for all gaps
  // of its bucket. The last value is the longest gap, and is exact. If too many buckets have gaps, 2 or 4 neighbours
  // are joined. The error of the values is then at most 64 or 128 ns below 1 us, and 1/17 or 1/9 above.
  static constexpr std::size_t kMostValues = 128;
  template <class Each>
  void for_each(const Each& each) const noexcept {
    std::size_t joined = 1;
    while (groups(joined) >= kMostValues) joined *= 2;
    std::uint64_t value = 0, count = 0;
    for (std::size_t i = 0; i < kBuckets; i += joined) {
      const std::uint64_t more = in_group(i, joined);
      if (more == 0) continue;
      if (count != 0) each(value, count);
      value = middle(i, joined);
      count = more;
    }
    if (count == 0) return;
    if (value < longest_ && --count != 0) each(value, count);
    each(longest_, value < longest_ ? 1 : count);
  }

 private:
  static constexpr unsigned kSplit = 4;   // 2^kSplit buckets in each power of two
  static constexpr unsigned kFirst = 10;  // the first power of two that is split
  static constexpr std::size_t kBuckets = ((38 - kFirst + 1) << kSplit) + 1;

  static std::size_t index(std::uint64_t gap_ns) noexcept {
    if (gap_ns >= kRange) return kBuckets - 1;
    const auto power = 63U - static_cast<unsigned>(__builtin_clzll(gap_ns | (1U << kFirst)));
    return (std::size_t{power - kFirst} << kSplit) + (gap_ns >> (power - kSplit));
  }

  // The value that a bucket, or several joined buckets, report. For the buckets below 1024 ns it is the arithmetic mean
  // of the ends. For others it has the same relative distance from both ends.
  static std::uint64_t middle(std::size_t i, std::size_t joined = 1) noexcept {
    if (i == kBuckets - 1) return kRange;
    const std::size_t steps = std::size_t{1} << kSplit;
    const std::size_t power = i < steps ? 0 : (i >> kSplit) - 1;
    const std::uint64_t width = std::uint64_t{1} << (power + kFirst - kSplit);
    const std::uint64_t widths = i - (power << kSplit);  // the start of the bucket, in units of its width
    return widths * width + (i < steps ? joined * width / 2 : widths * width * joined / (2 * widths + joined));
  }

  [[nodiscard]] std::uint64_t total() const noexcept {
    std::uint64_t sum = 0;
    for (const std::uint32_t bucket : buckets_) sum += bucket;
    return sum;
  }

  [[nodiscard]] std::uint64_t in_group(std::size_t first, std::size_t joined) const noexcept {
    std::uint64_t sum = 0;
    for (std::size_t i = first; i < first + joined && i < kBuckets; ++i) sum += buckets_[i];
    return sum;
  }
  [[nodiscard]] std::size_t groups(std::size_t joined) const noexcept {
    std::size_t count = 0;
    for (std::size_t i = 0; i < kBuckets; i += joined) count += in_group(i, joined) != 0 ? 1 : 0;
    return count;
  }
  static_assert(kBuckets / 4 + 1 < kMostValues);

  std::uint64_t longest_;
  std::uint32_t buckets_[kBuckets];
};

}  // namespace nopspan::detail
