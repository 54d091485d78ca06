// SPDX-License-Identifier: Apache-2.0
// The bytes of a recording (docs/recording.md). It needs C++17 only, because the library nopspan::recording writes
// recordings too.
#pragma once

#include "stream/batch_entries.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <string_view>

namespace nopspan::collector {

enum class ChunkKind : std::uint32_t {
  about = 1,
  ledger = 5,
  end = 6,
  batches = 9,       // RecordedKind
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
// The limit of a payload in bytes. Longer chunks are not written, and readers treat them as damage.
inline constexpr std::size_t kMostPayload = 16U << 20U;

inline constexpr std::string_view kFileMagic{"NOPSPAN\0", 8}, kChunkMagic = "NSPF";

struct FileHeader {
  char magic[8] = {'N', 'O', 'P', 'S', 'P', 'A', 'N', '\0'};
  std::uint32_t version = kFormatVersion, zero = 0;
};
struct ChunkHeader {
  char magic[4] = {'N', 'S', 'P', 'F'};
  std::uint32_t kind = 0, bytes = 0, entries = 0;
  std::uint64_t time_unix_ns = 0;
  std::uint32_t payload_crc = 0, header_crc = 0;  // the second one is of all before it
};
inline constexpr std::size_t kFileHeaderBytes = 16, kChunkHeaderBytes = 32;

// What stands before a payload. The file's header is written before its first chunk only.
struct Headers {
  FileHeader file;
  ChunkHeader chunk;

  // `crc_of` computes zlib's crc32().
  template <class Crc>
  Headers(const Chunk& of, const Crc& crc_of) {
    chunk.kind = static_cast<std::uint32_t>(of.kind);
    chunk.bytes = static_cast<std::uint32_t>(of.payload.size());
    chunk.entries = of.entries;
    chunk.time_unix_ns = of.time_unix_ns;
    chunk.payload_crc = crc_of(of.payload);
    chunk.header_crc = crc_of(bytes(false).substr(0, offsetof(ChunkHeader, header_crc)));
  }
  [[nodiscard]] std::string_view bytes(bool has_file) const {
    return std::string_view(reinterpret_cast<const char*>(this), sizeof(*this)).substr(has_file ? 0 : sizeof(file));
  }
};
static_assert(sizeof(FileHeader) == kFileHeaderBytes && sizeof(Headers) == kFileHeaderBytes + kChunkHeaderBytes);

// The payload of a chunk of batches: messages, one after the other.

// A message begins with its kind and its size in bytes, with these 8 bytes and with padding to a multiple of 8.
enum class RecordedKind : std::uint32_t { clock = 1, process = 2, batch = 3 };
struct RecordedHead {
  std::uint32_t kind = 0, bytes = 0;
};

// From this time on, the wall clock minus CLOCK_MONOTONIC was this, modulo 2^64. The first one of a chunk is valid
// before its time too.
struct RecordedClock {
  std::uint64_t monotonic_ns = 0, offset_ns = 0;
};

// A process, whose batches name it by its place among the processes of the chunk. Texts follow, each with a NUL at its
// end: those of kProcessTexts, and the instance (id_text(); "": none). Earlier versions did not write the instance.
struct RecordedProcess {
  std::uint32_t pid = 0, namespace_pid = 0;
  std::uint64_t start_ticks = 0;
  std::int64_t clock_offset_ns = 0;  // its CLOCK_MONOTONIC minus that of the clocks in this chunk
  // For entries that began before this time of its CLOCK_MONOTONIC, kRecordedBeforeAttach is set, too.
  std::uint64_t attached_ns = 0;
};

// Entries of one thread. The bytes of a batch follow, as <nopspan/probes.h> describes them.
struct RecordedBatch {
  std::uint32_t process = 0;
  std::uint32_t thread_id = 0;
  std::uint64_t sequence_id = 0;
  std::uint64_t first = 0;    // the sequence of the first entry
  std::uint32_t entries = 0;  // number of entries
  std::uint32_t flags = 0;    // kRecorded*
  std::uint32_t bytes = 0;
  std::uint32_t reserved = 0;
};
inline constexpr std::uint32_t kRecordedUnixTimes = 1;     // times are those of the wall clock
inline constexpr std::uint32_t kRecordedBeforeAttach = 2;  // Entry::before_attach
inline constexpr std::uint32_t kRecordedSampled = 4;       // kSampledEntry (model/sampling.h)
// The bytes are pieces of the batch: the records that its entries share, and last the entries. What was between them is
// left out, and reads as 0.
inline constexpr std::uint32_t kRecordedPieces = 8;

// Its bytes follow, with padding to a multiple of 8.
struct RecordedPiece {
  std::uint32_t place = 0, bytes = 0;  // in the batch, a multiple of 8
};

// Calls each(kind, message) with the bytes behind the head of each message, while it returns true. Returns false if it
// has returned false, or if the rest is no message.
template <class Each>
bool for_each_recorded(std::string_view payload, const Each& each) {
  while (!payload.empty()) {
    RecordedHead head;
    std::string_view message = payload;
    if (!take_front(message, head) || head.bytes % 8 != 0 || head.bytes < sizeof(head) || head.bytes > payload.size())
      return false;
    if (!each(static_cast<RecordedKind>(head.kind), message.substr(0, head.bytes - sizeof(head)))) return false;
    payload.remove_prefix(head.bytes);
  }
  return true;
}

// Collects messages for one chunk.
class BatchChunk {
 public:
  [[nodiscard]] std::size_t bytes() const { return messages_.size(); }
  [[nodiscard]] bool empty() const { return messages_.empty(); }
  [[nodiscard]] std::string_view payload() const { return messages_; }

  // In order of time, and before the batches whose times it converts.
  void add(const RecordedClock& clock) { append(RecordedKind::clock, clock, {}); }
  void add(const RecordedProcess& process, std::initializer_list<std::string_view> texts) {
    std::string all;
    for (const std::string_view text : texts) {
      all += text.substr(0, text.find('\0'));
      all += '\0';
    }
    append(RecordedKind::process, process, all);
  }
  void add(RecordedBatch batch, std::string_view bytes) {
    batch.bytes = static_cast<std::uint32_t>(bytes.size());
    append(RecordedKind::batch, batch, bytes);
  }

  // Begins a new payload.
  void clear() { messages_.clear(); }
  // The same. `payload` becomes the current one, and the memory that it had is used for the new one.
  void take(std::string& payload) {
    payload.swap(messages_);
    messages_.clear();
  }

 private:
  template <class Message>
  void append(RecordedKind kind, const Message& message, std::string_view bytes) {
    static_assert(sizeof(message) % 8 == 0);
    const std::size_t size = (sizeof(RecordedHead) + sizeof(message) + bytes.size() + 7) / 8 * 8;
    const RecordedHead head{static_cast<std::uint32_t>(kind), static_cast<std::uint32_t>(size)};
    const std::size_t end = messages_.size() + size;
    messages_.append(reinterpret_cast<const char*>(&head), sizeof(head));
    messages_.append(reinterpret_cast<const char*>(&message), sizeof(message));
    messages_.append(bytes);
    messages_.resize(end);
  }

  std::string messages_;
};

}  // namespace nopspan::collector
