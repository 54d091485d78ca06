// SPDX-License-Identifier: Apache-2.0
// The bytes of a batch, as spans. They come from another process and may be anything.
#pragma once

#include "live/clock_map.h"
#include "model/span.h"

#include <nopspan/probes.h>

#include <cstdint>
#include <string_view>

namespace nopspan::collector {

// Reads the entries of a batch one after the other; never beyond its bytes, whatever they are.
class BatchReader {
 public:
  // `entries` is how many its writer says they are; bytes behind them are not looked at. Both the bytes and the clocks
  // must outlive the reader and what it gives out.
  BatchReader(std::string_view bytes, std::uint64_t entries, const ClockMap& clocks)
      : bytes_(bytes), entries_(entries), clocks_(clocks), unshared_left_(bytes.size()) {}

  enum class Outcome {
    span,       // `span` is set, but for what is not in an entry: process, thread_id, stream, sequence
    malformed,  // the entry is none; the next one may be
    unknown,    // of a kind that this version does not know
    end,        // no more entries that could be found
  };
  Outcome next(Span& span);

  // How many of at most `entries` lie wholly in the bytes.
  static std::uint64_t whole_entries(std::string_view bytes, std::uint64_t entries);

 private:
  [[nodiscard]] bool read(const nopspan_entry& entry, std::string_view bytes, Span& span);
  [[nodiscard]] static bool read_extras(const nopspan_entry& entry, std::string_view bytes, Span& span);
  [[nodiscard]] bool read_texts(const nopspan_entry& entry, Span& span);
  [[nodiscard]] bool text(nopspan_text where, std::size_t most, std::string_view& to) const;
  [[nodiscard]] bool unshared(nopspan_text where, std::string_view& to);

  std::string_view bytes_;
  std::uint64_t entries_;
  const ClockMap& clocks_;
  std::uint64_t index_ = 0;
  std::size_t offset_ = 0;
  // What entries of one batch do not share cannot be longer in all than the batch: without this, a thousand entries
  // that point at the same bytes would be a thousand times as much.
  std::size_t unshared_left_;
};

}  // namespace nopspan::collector
