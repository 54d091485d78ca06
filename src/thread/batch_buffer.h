// SPDX-License-Identifier: Apache-2.0
// The part of a thread's state for the batch probe: the header of its buffer, and a summary of the entries in it.
// emit/batch.cpp writes both.
#pragma once

#include <nopspan/probes.h>

#include <cstddef>
#include <cstdint>

namespace nopspan::detail {

struct BatchBuffer {
  // A name or label that the buffer already contains. Many entries have the same one, and the buffer has it only once.
  struct WrittenText {
    const char* text;
    std::uint64_t bit;    // its nopspan_text_bit()
    std::uint32_t batch;  // the number of the batch that contains it
    nopspan_text where;
  };
  static constexpr std::size_t kWrittenTexts = 32;

  nopspan_thread header{};
  bool linked = false;                // the header is in the process's list; it is never removed
  bool announced = false;             // the batch site was called with the header since the gate was raised
  bool thread_has_ended = false;      // each entry is flushed at once, because it may be the last
  std::uint32_t batch = 1;            // the number of the batch that is being filled
  std::uint32_t errors = 0;           // its entries with status error or exception
  std::uint32_t awaiting = 0;         // its entries whose root span (`awaited_root`) may still end in it
  std::uint32_t root_elsewhere = 0;   // its other entries whose root span is not in it
  std::uint64_t awaited_root = 0;     // a span id
  std::uint64_t longest_root_ns = 0;  // the longest duration of its root spans
  std::uint64_t flushed_ns = 0;       // the time of the last flush
  WrittenText written_texts[kWrittenTexts]{};
};

}  // namespace nopspan::detail
