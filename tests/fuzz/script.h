// SPDX-License-Identifier: Apache-2.0
// The bytes of an input as a script of numbers. Beyond its end all are 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

class Script {
 public:
  explicit Script(std::string_view bytes) : left_(bytes) {}
  [[nodiscard]] bool is_done() const { return left_.empty(); }
  unsigned byte() {
    if (left_.empty()) return 0;
    const auto first = static_cast<unsigned char>(left_.front());
    left_.remove_prefix(1);
    return first;
  }
  // Small, or of any size up to 2^64 - 1.
  std::uint64_t number() {
    const unsigned first = byte();
    return first == 255 ? UINT64_MAX : std::uint64_t{first & 31U} << (first >> 5U) * 9U;
  }

 private:
  std::string_view left_;
};
