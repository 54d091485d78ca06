// SPDX-License-Identifier: Apache-2.0
// What a thread keeps for the batch probe: its header, and what it knows of the entries in its buffer.
#pragma once

#include <nopspan/probes.h>

#include <cstddef>
#include <cstdint>

namespace nopspan::detail {

struct BatchBuffer {
  // A text that is in the buffer already: names and labels are the same again and again.
  struct Known {
    const char* text;
    std::uint64_t bit;    // its own, in name_bits and model_bits
    std::uint32_t batch;  // the number of the batch that it is in
    nopspan_text where;
  };
  static constexpr std::size_t kKnown = 32;

  nopspan_thread header{};
  bool linked = false;                // the header is in the process's list, for good
  bool announced = false;             // a tracer has been told of it since the gate was raised
  bool is_late = false;               // the thread has ended before: nothing may come after what it writes now
  std::uint32_t batch = 1;            // the number of the one that is being filled
  std::uint32_t errors = 0;           // in it
  std::uint32_t pending = 0;          // entries in it whose outermost span may still end in it
  std::uint32_t open = 0;             // others whose outermost span is not in it
  std::uint64_t pending_root = 0;     // which that is
  std::uint64_t longest_root_ns = 0;  // of the outermost spans in it
  std::uint64_t handed_over_ns = 0;   // the last time
  Known known[kKnown]{};
};

}  // namespace nopspan::detail
