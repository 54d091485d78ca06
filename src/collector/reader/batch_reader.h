// SPDX-License-Identifier: Apache-2.0
// Decodes the bytes of a batch into entries. The bytes come from another process and may have any content.
#pragma once

#include "model/entry.h"
#include "stream/clock_map.h"

#include <nopspan/probes.h>

#include <cstdint>
#include <string_view>

namespace nopspan::collector {

// Reads the entries of a batch in order. It never reads beyond the batch, whatever the bytes are.
class BatchReader {
 public:
  // `entries` is the number of entries that the writer reported; bytes after them are ignored. The bytes and the clocks
  // must outlive the reader and the entries that it returns. `clock_offset_ns` is the process's (struct Process).
  BatchReader(std::string_view bytes, std::uint64_t entries, const ClockSamples& clocks,
              std::int64_t clock_offset_ns = 0)
      : bytes_(bytes),
        entries_(entries),
        clocks_(clocks),
        clock_offset_ns_(clock_offset_ns),
        unshared_left_(bytes.size()) {}

  // The first entry is there. Of the bytes, only so many come from the process.
  void begin_at(std::size_t offset, std::size_t bytes_of_process) {
    offset_ = offset;
    unshared_left_ = bytes_of_process;
  }

  enum class Outcome {
    entry,      // `entry` is set, except what is not in an entry: process, thread_id, sequence_id, sequence
    malformed,  // the entry is invalid; the next one may be valid
    unknown,    // this version does not know the entry's kind
    end,        // no further entry can be found
  };
  Outcome next(Entry& entry);
  // Start and end of the last entry, in this program's CLOCK_MONOTONIC. 0 for times before its start.
  [[nodiscard]] std::uint64_t start_ns() const { return start_ns_; }
  [[nodiscard]] std::uint64_t end_ns() const { return end_ns_; }

 private:
  // A record that entries share, and its texts. Most entries have the same one as the entry before.
  template <class Record>
  struct Shared {
    static constexpr std::uint32_t kNone = UINT32_MAX;
    std::uint32_t place = kNone;
    Record record;
    std::string_view texts[4];
    bool is_whole = false;  // the texts are there
  };
  template <class Record>
  [[nodiscard]] bool find(unsigned short place, unsigned char kind, Shared<Record>& shared) const;
  [[nodiscard]] bool find_form(unsigned short place);
  [[nodiscard]] bool find_request(unsigned short place);
  // These read what `left` begins with, and remove it.
  [[nodiscard]] bool read_times(const nopspan_entry& raw, std::string_view& left, Entry& entry);
  [[nodiscard]] bool read_parts(std::string_view& left, Entry& entry);
  [[nodiscard]] bool read_texts(std::string_view left, Entry& entry);
  [[nodiscard]] bool read_members(const nopspan_entry& raw, Entry& entry);
  [[nodiscard]] bool text(nopspan_text where, std::size_t most, std::string_view& to) const;
  [[nodiscard]] bool unshared(nopspan_text where, std::string_view& to);

  std::string_view bytes_;
  std::uint64_t entries_;
  const ClockSamples& clocks_;
  std::int64_t clock_offset_ns_;
  std::uint64_t index_ = 0;
  std::size_t offset_ = 0;
  std::uint64_t start_ns_ = 0, end_ns_ = 0;
  // Of the last entry that was read.
  Shared<nopspan_form> form_;
  Shared<nopspan_request> request_;
  nopspan_step step_{};
  // The bytes left for attributes, links and members. Entries never share these, so together they cannot be longer than
  // the batch. Without this limit, a thousand entries that point at the same bytes would expand to a thousand times
  // their size.
  std::size_t unshared_left_;
};

}  // namespace nopspan::collector
