// SPDX-License-Identifier: Apache-2.0
// The file that `nopspan record` writes: a header, then chunks. docs/recording.md describes the format for other
// readers.
#pragma once

#include "base/open_file.h"
#include "base/output.h"
#include "base/stopping.h"
#include "recording/chunk_format.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nopspan::collector {

// The size of the chunk that has this header. 0 if the header is not valid.
std::size_t chunk_bytes(std::string_view header);
// Whether the first kFileHeaderBytes + kChunkHeaderBytes bytes of a file are those of a recording, of any version.
bool begins_recording(std::string_view bytes);

// Writes whole chunks. If a write fails, an incomplete chunk is removed again, unless the file is a pipe.
class ChunkWriter {
 public:
  // Writes to `file` from its current position. The file's header precedes the first chunk.
  explicit ChunkWriter(OpenFile file);

  // Returns false if the chunk could not be written; error() is the errno. The caller may try again, with this chunk or
  // another one. Another thread can stop `writing`.
  bool write(const Chunk& chunk, Writing& writing);
  bool write(const Chunk& chunk);
  bool sync(Writing& writing);  // writes the file to the disk; false on failure
  // Whether the file has no name any more.
  [[nodiscard]] bool is_deleted() const;
  [[nodiscard]] int error() const { return error_; }
  // The bytes of the whole chunks and of the file's header.
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  void cut_back(std::size_t written);

  OpenFile file_;
  std::uint64_t base_ = 0;   // offset of the file's header in `file_`
  bool can_be_cut_ = false;  // false for a pipe
  std::uint64_t bytes_ = 0;
  int error_ = 0;
};

// Reads the chunks of a file that may be truncated, damaged or hostile. Concatenated files (`cat a b`) are read as one.
class ChunkReader {
 public:
  // Reads the file's header. Throws Failure if the file is not a recording, or has another version, or if `until` is
  // over first. `name` is used in messages.
  ChunkReader(OpenFile file, std::string name, const Deadline& until = Deadline());

  // Reads the next whole chunk. Its payload is valid until the next call. Returns false at the end of the file, and if
  // `until` is over while more must be read.
  bool next(Chunk& chunk, const Deadline& until = Deadline());
  // Skips chunks of entries that were written before this time. In a file, nothing but their headers is read.
  void skip_before(std::uint64_t time_unix_ns) { since_unix_ns_ = time_unix_ns; }
  // Treats chunks with more bytes than this as damage.
  void set_most_payload(std::size_t bytes) { most_payload_ = bytes; }
  // `each_second` is called each second while next() waits for a pipe to which nothing is written.
  void while_silent(std::function<void()> each_second) { while_silent_ = std::move(each_second); }

  struct State {
    std::uint64_t bytes = 0;    // bytes that were read
    std::uint64_t chunks = 0;   // number of whole chunks
    std::uint64_t skipped = 0;  // bytes outside of whole chunks
    // The number of chunks among these bytes. If a header is damaged, the number is unknown: such bytes in a row count
    // as one chunk.
    std::uint64_t broken = 0;
    std::uint64_t broken_entries = 0;  // in the chunks whose header is intact
    std::uint64_t early_entries = 0;   // in chunks that were skipped because of their time
    // When the first chunk was written, and the latest time of one; 0 before the first chunk.
    std::uint64_t first_unix_ns = 0, last_unix_ns = 0;
    bool ended = false;               // the last chunk is the recorder's `end` chunk
    bool at_end = false;              // nothing follows
    std::uint32_t other_version = 0;  // of a recording whose chunks are of kinds that are not read; 0: none
    int error = 0;                    // errno of the read() that failed; 0: none
    [[nodiscard]] bool is_whole() const { return ended && skipped == 0 && error == 0; }
  };
  [[nodiscard]] const State& state() const { return state_; }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  [[nodiscard]] std::string_view held() const { return {buffer_.data() + begin_, end_ - begin_}; }
  bool fill(std::size_t bytes, const Deadline& until);
  void skip(std::size_t bytes, bool begins_chunk);
  bool pass_over(std::size_t bytes);
  void search();

  OpenFile file_;
  std::string name_;
  std::function<void()> while_silent_ = [] {};
  std::vector<char> buffer_;
  std::size_t begin_ = 0, end_ = 0;
  std::size_t most_payload_ = kMostPayload;
  std::uint64_t since_unix_ns_ = 0;
  std::size_t taken_ = 0;  // bytes of the chunk that next() returned last
  bool at_end_ = false;
  bool is_skipping_ = false;  // the bytes before the current ones were skipped
  State state_;
};

}  // namespace nopspan::collector
