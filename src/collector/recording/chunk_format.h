// SPDX-License-Identifier: Apache-2.0
// The bytes around the payloads of a recording (docs/recording.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace nopspan::collector {

enum class ChunkKind : std::uint32_t {
  about = 1,
  ledger = 5,
  end = 6,
  batches = 9,       // batch_chunk.h
  batches_gzip = 10  // the same, compressed
};

struct Chunk {
  ChunkKind kind = ChunkKind::about;
  std::uint32_t entries = 0;       // number of spans, events, retries, gauges and parts in it
  std::uint64_t time_unix_ns = 0;  // when it was written, by the source's clock
  std::string_view payload;
};

// Version 1 had chunks of OTLP, of the kinds 2, 3, 4 and 7.
inline constexpr std::uint32_t kFormatVersion = 2;
inline constexpr std::size_t kFileHeaderBytes = 16, kChunkHeaderBytes = 32;
// The limit of a payload in bytes. Longer chunks are not written, and readers treat them as damage.
inline constexpr std::size_t kMostPayload = 16U << 20U;

inline constexpr std::string_view kFileMagic{"NOPSPAN\0", 8};
inline constexpr std::string_view kChunkMagic = "NSPF";

// Writes the bytes of a word, and returns their end.
template <class Word>
char* put_in_head(char* at, Word word) {
  std::memcpy(at, &word, sizeof(word));
  return at + sizeof(word);
}

inline void put_file_header(char* at) {
  std::memcpy(at, kFileMagic.data(), kFileMagic.size());
  at = put_in_head(at + kFileMagic.size(), kFormatVersion);
  put_in_head(at, std::uint32_t{0});
}

// `crc_of` computes zlib's crc32().
template <class Crc>
void put_chunk_header(char* at, const Chunk& chunk, const Crc& crc_of) {
  char* const begin = at;
  std::memcpy(at, kChunkMagic.data(), kChunkMagic.size());
  at = put_in_head(at + kChunkMagic.size(), static_cast<std::uint32_t>(chunk.kind));
  at = put_in_head(at, static_cast<std::uint32_t>(chunk.payload.size()));
  at = put_in_head(at, chunk.entries);
  at = put_in_head(at, chunk.time_unix_ns);
  at = put_in_head(at, crc_of(chunk.payload));
  put_in_head(at, crc_of({begin, static_cast<std::size_t>(at - begin)}));
}

}  // namespace nopspan::collector
