// SPDX-License-Identifier: Apache-2.0
// Reads the payload of a chunk of batches (chunk_format.h), which may be anything.
#pragma once

#include "model/entry.h"
#include "stream/clock_map.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace nopspan::collector {

struct RecordedBatch;

class RecordedBatches {
 public:
  using Each = std::function<void(const Entry&)>;
  // Calls `each` with every entry, whose texts are valid during the call. Returns false if something is malformed.
  // `each` has then been called for the entries that can be read.
  bool read(std::string_view payload, const Each& each);
  // The same for a payload that is compressed by gzip, and that has at most so many bytes without that.
  bool read_gzip(std::string_view payload, std::size_t most, const Each& each);
  // What all payloads said of the clock; empty if they said nothing.
  [[nodiscard]] const std::optional<ClockSamples>& clocks() const { return all_clocks_; }
  // Remembers at most this many processes, which have at most 2 KiB on average. All of them are claimed by this user
  // (Process::claimed_by).
  void set_processes(std::size_t most, std::uint64_t claimed_by) {
    most_processes_ = most;
    claimed_by_ = claimed_by;
  }

 private:
  bool read_process(std::string_view message);
  bool read_batch(std::string_view message, const Each& each);
  bool restore_pieces(std::string_view bytes);

  // By the bytes of their messages, because a recording contains each process many times.
  std::unordered_map<std::string, ProcessPointer> known_;
  std::size_t known_bytes_ = 0;
  std::size_t most_processes_ = 4096;
  std::uint64_t claimed_by_ = 0;
  std::optional<ClockSamples> all_clocks_;
  std::uint64_t last_clock_ns_ = 0;

  // Of the payload that is being read.
  std::vector<ProcessPointer> processes_;
  std::vector<std::uint64_t> attached_ns_;  // of each of them, by the clock of the recorder
  std::optional<ClockSamples> clocks_;
  // A batch of pieces, as words because it must be aligned. It is 0 where no piece is.
  std::vector<std::uint64_t> whole_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> pieces_;  // place and size of each in it
  std::size_t whole_bytes_ = 0, entries_at_ = 0, piece_bytes_ = 0;
  std::vector<std::uint64_t> aligned_;
};

}  // namespace nopspan::collector
