// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <thread>

// Waits for a condition. The deadline only keeps a broken build from hanging. Nothing depends on its length.
template <class Condition>
bool wait_until(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(90);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}
