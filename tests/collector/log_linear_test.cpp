// SPDX-License-Identifier: Apache-2.0
// The histogram with log-linear buckets: errors, extremes, merging and JSON.
#include "base/log_linear.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <random>

namespace nopspan::collector {
namespace {

using Json = nlohmann::ordered_json;

// Values of every magnitude: the same number in each octave.
std::vector<std::uint64_t> values_of_all_sizes(std::size_t count, unsigned seed, unsigned bits = 64) {
  std::mt19937_64 random(seed);
  std::vector<std::uint64_t> values;
  for (std::size_t i = 0; i < count; ++i) values.push_back(random() >> (64 - bits + random() % bits));
  return values;
}

LogLinear histogram_of(const std::vector<std::uint64_t>& values) {
  LogLinear histogram;
  for (const std::uint64_t value : values) histogram.add(value);
  return histogram;
}

double relative_error(std::uint64_t estimate, std::uint64_t value) {
  const std::uint64_t off = estimate > value ? estimate - value : value - estimate;
  return value == 0 ? static_cast<double>(off) : static_cast<double>(off) / static_cast<double>(value);
}

TEST(LogLinear, HasTheMiddleOfABucketWithin16PerMilleOfEveryValueInIt) {
  for (std::size_t bucket = 0; bucket < LogLinear::kBuckets; ++bucket) {
    const std::uint64_t low = LogLinear::lower_bound_of(bucket);
    const std::uint64_t high =
        bucket + 1 == LogLinear::kBuckets ? UINT64_MAX : LogLinear::lower_bound_of(bucket + 1) - 1;
    ASSERT_LE(low, high);
    // The ends of a bucket are farthest from its middle.
    ASSERT_EQ(LogLinear::bucket_of(low), bucket);
    ASSERT_EQ(LogLinear::bucket_of(high), bucket);
    ASSERT_LE(relative_error(LogLinear::middle_of(bucket), low), 0.016) << bucket;
    ASSERT_LE(relative_error(LogLinear::middle_of(bucket), high), 0.016) << bucket;
  }
  EXPECT_EQ(LogLinear::lower_bound_of(0), 0U);
}

TEST(LogLinear, CountsSmallValuesExactly) {
  for (std::uint64_t value = 0; value < 64; ++value) {
    EXPECT_EQ(LogLinear::middle_of(LogLinear::bucket_of(value)), value);
  }
}

TEST(LogLinear, AnswersTheQuantilesOfAllSizesWithinItsError) {
  std::vector<std::uint64_t> values = values_of_all_sizes(10007, 1);
  const LogLinear histogram = histogram_of(values);
  std::sort(values.begin(), values.end());
  for (unsigned percent = 0; percent <= 100; ++percent) {
    // The smallest value that at least this percentage of the values do not exceed.
    const auto exact = std::find_if(values.begin(), values.end() - 1, [&](std::uint64_t value) {
      const auto not_above = std::upper_bound(values.begin(), values.end(), value) - values.begin();
      return static_cast<std::size_t>(not_above) * 100 >= values.size() * percent;
    });
    EXPECT_LE(relative_error(histogram.quantile(percent), *exact), 0.016) << percent;
  }
}

TEST(LogLinear, TakesTheNearestRank) {
  // Computed in floating point, 0.9 of ten values would be slightly more than nine, and the tenth value would be taken.
  const LogLinear ten = histogram_of({1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  EXPECT_EQ(ten.quantile(90), 9U);
  EXPECT_EQ(ten.quantile(91), 10U);
  EXPECT_EQ(ten.quantile(50), 5U);
  for (std::uint64_t count = 1; count <= 1000; ++count) {
    for (unsigned percent = 0; percent <= 100; ++percent) {
      const std::uint64_t rank = LogLinear::rank_of(count, percent);
      ASSERT_TRUE(1 <= rank && rank <= count && rank * 100 >= count * percent) << count << " " << percent;
      ASSERT_TRUE(rank == 1 || (rank - 1) * 100 < count * percent) << count << " " << percent;
    }
  }
  EXPECT_EQ(LogLinear::rank_of(0, 50), 0U);
  EXPECT_EQ(LogLinear::rank_of(UINT64_MAX, 100), UINT64_MAX);
  EXPECT_EQ(LogLinear::rank_of(UINT64_MAX, 1), UINT64_MAX / 100 + 1);
}

TEST(LogLinear, KnowsItsExtremesAndSumExactly) {
  const LogLinear histogram = histogram_of({1'000'003, 2'000'001, 900'007});
  EXPECT_EQ(histogram.count(), 3U);
  EXPECT_EQ(histogram.sum(), 3'900'011U);
  EXPECT_EQ(histogram.minimum(), 900'007U);
  EXPECT_EQ(histogram.maximum(), 2'000'001U);
  EXPECT_EQ(histogram.quantile(0), 900'007U);
  EXPECT_EQ(histogram.quantile(100), 2'000'001U);
}

TEST(LogLinear, TellsNoQuantileBeyondAnExtreme) {
  // All values are in one bucket. The bucket's middle is above all of them, or below.
  EXPECT_EQ(histogram_of({1 << 20, 1 << 20}).quantile(50), 1U << 20);
  const std::uint64_t last = (33U << 15) - 1;
  EXPECT_EQ(histogram_of({last, last}).quantile(50), last);
}

TEST(LogLinear, OfOneValueIsThatValue) {
  for (const std::uint64_t value : {std::uint64_t{0}, std::uint64_t{77'777}, UINT64_MAX}) {
    const LogLinear histogram = histogram_of({value});
    for (const unsigned percent : {0U, 50U, 100U}) EXPECT_EQ(histogram.quantile(percent), value);
  }
}

TEST(LogLinear, IsZeroWhenEmpty) {
  const LogLinear histogram;
  EXPECT_EQ(histogram.quantile(50), 0U);
  EXPECT_EQ(histogram.count(), 0U);
  EXPECT_EQ(histogram.in_bucket(3), 0U);
}

TEST(LogLinear, IsMergedByAdding) {
  const std::vector<std::uint64_t> some = values_of_all_sizes(1000, 2, 40), others = values_of_all_sizes(777, 3, 40);
  std::vector<std::uint64_t> all = some;
  all.insert(all.end(), others.begin(), others.end());
  LogLinear merged = histogram_of(some);
  merged.merge(histogram_of(others));
  merged.merge(LogLinear{});
  EXPECT_EQ(to_json(merged), to_json(histogram_of(all)));
}

TEST(LogLinear, AddsManyAtOnceAsOneByOne) {
  LogLinear at_once;
  at_once.add(5000, 3);
  at_once.add(1, 0);
  EXPECT_EQ(to_json(at_once), to_json(histogram_of({5000, 5000, 5000})));
}

TEST(LogLinear, KeepsASumThatDoesNotFitAtItsGreatest) {
  EXPECT_EQ(histogram_of({UINT64_MAX, 1}).sum(), UINT64_MAX);
  LogLinear histogram;
  histogram.add(UINT64_MAX / 2, 3);
  EXPECT_EQ(histogram.sum(), UINT64_MAX);
}

}  // namespace
}  // namespace nopspan::collector
