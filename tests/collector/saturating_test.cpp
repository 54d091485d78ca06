// SPDX-License-Identifier: Apache-2.0
#include "base/saturating.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

namespace nopspan::collector {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

TEST(Saturating, KeepsANumberWithinTheLimitsOfItsType) {
  EXPECT_EQ(saturated(1.9), 1U);
  EXPECT_EQ(saturated(-1.0), 0U);
  EXPECT_EQ(saturated(kNone), 0U);
  EXPECT_EQ(saturated(kInfinite), UINT64_MAX);
  EXPECT_EQ(saturated(static_cast<double>(UINT64_MAX)), UINT64_MAX);
  EXPECT_EQ(saturated(0x1p63), std::uint64_t{1} << 63U);
  EXPECT_EQ(saturated<std::uint16_t>(65'535.5), UINT16_MAX);
  EXPECT_EQ(saturated<std::uint16_t>(65'534.5), 65'534U);
  EXPECT_EQ(saturated<std::uint32_t>(0x1p32), UINT32_MAX);
}

TEST(Saturating, RoundsWithinTheLimits) {
  EXPECT_EQ(rounded(1.5), 2);
  EXPECT_EQ(rounded(-1.5), -2);
  EXPECT_EQ(rounded(-0.4), 0);
  EXPECT_EQ(rounded(kNone), 0);
  EXPECT_EQ(rounded(kInfinite), INT64_MAX);
  EXPECT_EQ(rounded(-1e300), -INT64_MAX);
}

}  // namespace
}  // namespace nopspan::collector
