// SPDX-License-Identifier: Apache-2.0
// Request ids, in all forms that users may type.
#include "model/entry.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>

namespace nopspan::collector {
namespace {

TraceId id_of(const std::string& bytes) {
  TraceId id;
  std::copy(bytes.begin(), bytes.end(), std::begin(id.bytes));
  return id;
}

const TraceId kCounting = id_of(std::string("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f", 16));

TEST(RequestId, IsTheTraceIdInBase64) {
  Entry entry;
  entry.trace_id = kCounting;
  EXPECT_EQ(request_id_of(entry), "AAECAwQFBgcICQoLDA0ODw");
  entry.trace_id = id_of(std::string(16, '\xff'));
  EXPECT_EQ(request_id_of(entry), "_____________________w");
}

TEST(RequestId, IsTheApplicationsOwnWhereItSuppliedOne) {
  Entry entry;
  entry.trace_id = kCounting;
  entry.foreign_id = "order-17";
  EXPECT_EQ(request_id_of(entry), "order-17");
}

TEST(RequestId, IsEmptyWhereThereIsNoRequest) { EXPECT_EQ(request_id_of(Entry()), ""); }

TEST(TraceIdOf, ReadsEveryForm) {
  EXPECT_EQ(trace_id_of("AAECAwQFBgcICQoLDA0ODw"), kCounting);
  EXPECT_EQ(trace_id_of("000102030405060708090a0b0c0d0e0f"), kCounting);
  EXPECT_EQ(trace_id_of("000102030405060708090A0B0C0D0E0F"), kCounting);
  EXPECT_EQ(trace_id_of("00-000102030405060708090a0b0c0d0e0f-1112131415161718-01"), kCounting);
  EXPECT_TRUE(trace_id_of("").empty());
}

TEST(TraceIdOf, ReadsWhatRequestIdOfWrites) {
  Entry entry;
  for (unsigned round = 1; round < 500; ++round) {
    for (std::size_t i = 0; i < 16; ++i)
      entry.trace_id.bytes[i] = static_cast<unsigned char>(round * (7 * i + 31) >> 2U);
    EXPECT_EQ(trace_id_of(request_id_of(entry)), entry.trace_id);
  }
}

// Published test values of FNV-1a with 128 bits.
TEST(TraceIdOf, HashesWhatTheApplicationSupplied) {
  EXPECT_EQ(trace_id_of("a"), trace_id_of("d228cb696f1a8caf78912b704e4a8964"));
  EXPECT_EQ(trace_id_of("foobar"), trace_id_of("343e1662793c64bf6f0d3597ba446f18"));
}

TEST(TraceIdOf, HashesWhatOnlyLooksLikeOne) {
  const std::string not_canonical = "AAECAwQFBgcICQoLDA0ODx";  // the last bits would be lost
  EXPECT_NE(trace_id_of(not_canonical), kCounting);
  EXPECT_FALSE(trace_id_of(std::string(22, 'A')).empty()) << "all zeros are not a valid id";
  EXPECT_FALSE(trace_id_of(std::string(32, '0')).empty());
}

}  // namespace
}  // namespace nopspan::collector
