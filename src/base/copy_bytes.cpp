// SPDX-License-Identifier: Apache-2.0
#include "base/copy_bytes.h"

namespace nopspan::detail {

std::uint64_t copy_more_bytes(void* to, const void* from, std::size_t size) noexcept {
  std::memcpy(to, from, size);
  const auto* in = static_cast<const unsigned char*>(from);
  std::uint64_t all = 0;
  std::uint64_t word;
  for (std::size_t at = 0; at + 8 <= size; at += 8) {
    std::memcpy(&word, in + at, 8);
    all |= word;
  }
  std::memcpy(&word, in + size - 8, 8);
  return all | word;
}

}  // namespace nopspan::detail
