// SPDX-License-Identifier: Apache-2.0
// The state that a thread keeps for the batch probe: its header, and a summary of the entries in its buffer.
#pragma once

#include <nopspan/probes.h>

#include <cstddef>
#include <cstdint>

namespace nopspan::detail {

struct BatchBuffer {
  // A name or label that is in the buffer already, because many entries have the same.
  struct WrittenText {
    const char* text;
    std::uint64_t bit;    // its own, in name_bits and model_bits
    std::uint32_t batch;  // the number of the batch that it is in
    nopspan_text where;
  };
  static constexpr std::size_t kWrittenTexts = 32;

  nopspan_thread header{};
  bool linked = false;                // the header is in the process's list, for good
  bool announced = false;             // the header has passed the batch site since the gate was raised
  bool thread_has_ended = false;      // each entry is flushed at once, because it may be the last
  std::uint32_t batch = 1;            // the number of the one that is being filled
  std::uint32_t errors = 0;           // in it
  std::uint32_t awaiting = 0;         // entries in it whose outermost span, `awaited_root`, may still end in it
  std::uint32_t root_elsewhere = 0;   // other entries whose outermost span is not in it
  std::uint64_t awaited_root = 0;     // a span id
  std::uint64_t longest_root_ns = 0;  // of the outermost spans in it
  std::uint64_t flushed_ns = 0;       // the last time
  WrittenText written_texts[kWrittenTexts]{};
};

}  // namespace nopspan::detail
