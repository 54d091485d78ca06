// SPDX-License-Identifier: Apache-2.0
// A Writer of nopspan::recording that opens while memory runs out.
#include "allocator.h"

#include <nopspan/recording.h>
#include <nopspan/span.h>

#include <gtest/gtest.h>

#include <new>
#include <string>

namespace {

__thread long allocations_left = -1;  // of this thread, before one fails; negative: none fails

bool fail_after_some(std::size_t bytes) {
  if (bytes == 0 || allocations_left < 0) return true;
  if (allocations_left == 0) return false;
  --allocations_left;
  return true;
}

TEST(RecordingFaults, OpensAgainAfterMemoryRanOut) {
  const AllocatorHook hook(fail_after_some);
  bool is_open = false;
  long allocations = 0;
  for (; !is_open; ++allocations) {
    nopspan::recording::Writer writer;
    std::string error;
    allocations_left = allocations;
    try {
      error = writer.open("unix:/nowhere");
    } catch (const std::bad_alloc&) {
      error = "no memory";
    }
    allocations_left = -1;
    is_open = error.empty();
    if (!is_open) {
      ASSERT_EQ(writer.open("unix:/nowhere"), "") << "after " << allocations << " allocations: " << error;
    }
    { const nopspan::Span span{"own.span"}; }  // the thread holds it, so open() finds it next time
    writer.close();
  }
  EXPECT_GT(allocations, 5);
}

}  // namespace
