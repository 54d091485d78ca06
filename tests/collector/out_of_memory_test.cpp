// SPDX-License-Identifier: Apache-2.0
#include "base/out_of_memory.h"

#include <gtest/gtest.h>

#include <new>
#include <stdexcept>
#include <thread>

namespace nopspan::collector {
namespace {

// The child that ends has no thread that the test program has.
struct OutOfMemory : testing::Test {
  OutOfMemory() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(OutOfMemory, IsAMessage) {
  EXPECT_EQ(exception_text(std::bad_alloc()).find("out of memory: "), 0U);
  EXPECT_EQ(exception_text(std::runtime_error("why")), "why");
}

TEST_F(OutOfMemory, InAThreadEndsTheProgramWithAMessage) {
  EXPECT_EXIT(
      {
        report_out_of_memory_at_the_end();
        std::thread([] { throw std::bad_alloc(); }).join();
      },
      testing::ExitedWithCode(1), "^nopspan: out of memory: .*\\. The results are lost\n$");
}

TEST_F(OutOfMemory, WhileAThreadIsNotJoinedIsToldToo) {
  EXPECT_EXIT(
      {
        report_out_of_memory_at_the_end();
        const std::thread never_joined([] {
          while (true) std::this_thread::yield();
        });
        throw std::bad_alloc();
      },
      testing::ExitedWithCode(1), "nopspan: out of memory: ");
}

TEST_F(OutOfMemory, IsNotTakenForAnotherError) {
  EXPECT_EXIT(
      {
        report_out_of_memory_at_the_end();
        std::thread([] { throw std::runtime_error("why"); }).join();
      },
      testing::KilledBySignal(SIGABRT), "");
}

}  // namespace
}  // namespace nopspan::collector
