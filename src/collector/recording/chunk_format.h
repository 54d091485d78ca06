// SPDX-License-Identifier: Apache-2.0
// The bytes around the payloads of a recording (docs/recording.md).
#pragma once

#include "base/protobuf.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace nopspan::collector {

// `spooled` is only in the files of `nopspan export --spool` (export/spool.h).
enum class ChunkKind : std::uint32_t {
  about = 1,
  traces = 2,
  logs = 3,
  metrics = 4,
  ledger = 5,
  end = 6,
  steps = 7,
  spooled = 8
};

struct Chunk {
  ChunkKind kind = ChunkKind::about;
  std::uint32_t entries = 0;       // number of spans, events, retries, gauges and parts in it
  std::uint64_t time_unix_ns = 0;  // when it was written, by the source's clock
  std::string_view payload;
};

inline constexpr std::uint32_t kFormatVersion = 1;
inline constexpr std::size_t kFileHeaderBytes = 16, kChunkHeaderBytes = 32;
// The limit of a payload in bytes. Longer chunks are not written, and readers treat them as damage.
inline constexpr std::size_t kMostPayload = 16U << 20U;

inline constexpr std::string_view kFileMagic{"NOPSPAN\0", 8};
inline constexpr std::string_view kChunkMagic = "NSPF";

inline void put_file_header(char* at) {
  std::memcpy(at, kFileMagic.data(), kFileMagic.size());
  at = put_word(at + kFileMagic.size(), kFormatVersion);
  put_word(at, std::uint32_t{0});
}

// `crc_of` computes zlib's crc32().
template <class Crc>
void put_chunk_header(char* at, const Chunk& chunk, const Crc& crc_of) {
  char* const begin = at;
  std::memcpy(at, kChunkMagic.data(), kChunkMagic.size());
  at = put_word(at + kChunkMagic.size(), static_cast<std::uint32_t>(chunk.kind));
  at = put_word(at, static_cast<std::uint32_t>(chunk.payload.size()));
  at = put_word(at, chunk.entries);
  at = put_word(at, chunk.time_unix_ns);
  at = put_word(at, crc_of(chunk.payload));
  put_word(at, crc_of({begin, static_cast<std::size_t>(at - begin)}));
}

}  // namespace nopspan::collector
