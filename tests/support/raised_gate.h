// SPDX-License-Identifier: Apache-2.0
// Raises counters in the gate, as the kernel does when a tracer attaches.
#pragma once

#include <nopspan/detail/gate.h>

#include <cstdint>

class RaisedGate {
 public:
  enum Counter : unsigned { spans = 0, batch = 1, points = 3 };  // 16-bit counters, in the word's order

  explicit RaisedGate(Counter counter)
      : counter_(reinterpret_cast<std::uint16_t*>(const_cast<std::uint64_t*>(nopspan_gate_ptr)) + counter) {
    __atomic_fetch_add(counter_, std::uint16_t{1}, __ATOMIC_RELAXED);
  }
  ~RaisedGate() { __atomic_fetch_sub(counter_, std::uint16_t{1}, __ATOMIC_RELAXED); }
  RaisedGate(const RaisedGate&) = delete;
  RaisedGate& operator=(const RaisedGate&) = delete;

 private:
  std::uint16_t* counter_;
};
