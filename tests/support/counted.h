// SPDX-License-Identifier: Apache-2.0
// Compares a counter of nopspan with its value of before.
#pragma once

#include <nopspan/stats.h>

#include <cstdint>

// By how much a counter of nopspan has grown since this object was constructed.
class Counted {
 public:
  explicit Counted(std::uint64_t nopspan::Stats::*count) : count_(count), before_(nopspan::stats().*count) {}
  [[nodiscard]] std::uint64_t times() const { return nopspan::stats().*count_ - before_; }

 private:
  std::uint64_t nopspan::Stats::*count_;
  std::uint64_t before_;
};
