// SPDX-License-Identifier: Apache-2.0
// Entries as the payload of a chunk (chunk_format.h). Whole batches are copied. Single entries are written as the
// library writes them, with the times of the wall clock.
#pragma once

#include "model/entry.h"
#include "model/source.h"
#include "recording/chunk_format.h"

#include <nopspan/probes.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace nopspan::collector {

// The members of engine steps in a compressed chunk. From one step to the next, most members are the same requests with
// a few tokens more. So each is written as its difference from the same request in the step before, and a step of 1,024
// members has 200 bytes instead of 25,000.

// In the payload of a chunk of batches (chunk_format.h), which may be anything.
void shorten_steps(std::string& payload);
void restore_steps(std::string& payload);  // the reverse

// How many entries of a process there are.
struct EntryShare {
  ProcessPointer process;
  std::uint64_t entries = 0;
};

// The bytes of a batch, made of entries of one thread.
class EntryPacker {
 public:
  // `left_out`: how many entries before this one are missing.
  void add(const Entry& entry, std::uint64_t left_out);
  [[nodiscard]] std::size_t bytes() const { return bytes_.size(); }
  [[nodiscard]] std::uint32_t entries() const { return entries_; }
  std::string take();

  // A batch ends if it has more bytes. An entry has at most 64 KiB, and 512 KiB can be addressed.
  static constexpr std::size_t kMost = 32U << 10U;

 private:
  struct Request {
    TraceId trace_id;
    std::uint64_t root_id = 0;
    std::string tracestate, foreign_id;
    std::uint64_t start_ns = 0;
    unsigned short place = 0;
  };

  [[nodiscard]] unsigned short place() const { return static_cast<unsigned short>(bytes_.size() / 8); }
  nopspan_text append(std::string_view text);
  const Request& request_of(const Entry& entry);
  unsigned short form_of(const Entry& entry, unsigned char kind, std::uint32_t parts);
  void append_words(const Entry& entry, std::uint32_t parts);

  std::string bytes_, key_;
  std::uint32_t entries_ = 0;
  std::vector<Request> requests_;
  std::unordered_map<std::string, unsigned short> forms_;
};

class EntryEncoder {
 public:
  void add(const Entry& entry);
  void add(const EntryBatch& batch);
  [[nodiscard]] std::uint64_t entries() const { return entries_; }
  [[nodiscard]] std::size_t bytes() const { return chunk_.bytes() + packer_.bytes(); }
  // Replaces `out` with the payload and begins a new one, in the memory that `out` had. Returns how many entries the
  // payload contains of each process.
  std::vector<EntryShare> finish(std::string& out);

 private:
  std::uint32_t number_of(const ProcessPointer& process);
  void add_clocks(const ClockSamples& clocks);
  void end_packed();

  BatchChunk chunk_;
  EntryPacker packer_;
  RecordedBatch packed_;  // what `packer_` has
  std::uint64_t next_ = 0;
  std::uint64_t clocks_ = 0;  // how many of the clock's samples the chunk has or leaves out
  std::uint64_t entries_ = 0;
  std::vector<EntryShare> shares_;
  std::unordered_map<const Process*, std::uint32_t> numbers_;
};

}  // namespace nopspan::collector
