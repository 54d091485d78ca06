// SPDX-License-Identifier: Apache-2.0
// zlib's crc32(), without a library. It reads eight bytes at a time (slicing-by-8).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace nopspan::recording {

using Crc32Tables = std::array<std::array<std::uint32_t, 256>, 8>;

constexpr Crc32Tables make_crc32_tables() {
  Crc32Tables tables{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1U) ^ ((crc & 1U) != 0 ? 0xedb88320U : 0U);
    tables[0][i] = crc;
  }
  for (std::size_t table = 1; table < tables.size(); ++table) {
    for (std::size_t i = 0; i < 256; ++i) {
      const std::uint32_t before = tables[table - 1][i];
      tables[table][i] = (before >> 8U) ^ tables[0][before & 0xffU];
    }
  }
  return tables;
}

inline std::uint32_t crc32_of(std::string_view bytes) {
  static constexpr Crc32Tables kTables = make_crc32_tables();
  std::uint32_t crc = ~std::uint32_t{0};
  for (; bytes.size() >= 8; bytes.remove_prefix(8)) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data(), sizeof(word));
    word ^= crc;
    crc = 0;
    for (std::size_t i = 0; i < 8; ++i) crc ^= kTables[7 - i][word >> (8 * i) & 0xffU];
  }
  for (const char byte : bytes) crc = (crc >> 8U) ^ kTables[0][(crc ^ static_cast<unsigned char>(byte)) & 0xffU];
  return ~crc;
}

}  // namespace nopspan::recording
